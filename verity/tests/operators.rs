//! What an operator does to a running cluster, and what the cluster says to it: by the binary, as a user does it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::program::{PATIENCE, Ports, Running, eventually, refusal, verity};

mod program;

/// Longer than any test waits.
const LONG_MS: &str = "600000";

/// A cluster of `verity up`, and how it is reached.
struct Lab {
    running: Running,
    admin: String,
    dir: TempDir,
}

impl Lab {
    fn start(nodes: u16) -> Self {
        let dir = TempDir::new().expect("a folder");
        let ports = Ports::free_for(nodes);
        let mut up = verity(&["up", "--json", "--nodes", &nodes.to_string()]);
        up.arg("--data-dir").arg(dir.path().join("data")).args(["--port-offset", &ports.offset.to_string()]);
        let lab = Self { running: Running::start(&mut up), admin: format!("127.0.0.1:{}", ports.of(7070)), dir };
        eventually("there is a leader", || {
            lab.nodes().iter().all(|node| node["groups"][0]["leader"].is_u64() && node["groups"][0]["applied"] != 0)
        });
        lab
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = verity(args);
        command.args(["--admin", &self.admin, "--data-dir"]).arg(self.dir.path().join("data"));
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("the binary runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn refused(&self, args: &[&str]) -> String {
        refusal(&mut self.command(args))
    }

    fn nodes(&self) -> Vec<Json> {
        nodes(&["--admin", &self.admin])
    }
}

fn nodes(way: &[&str]) -> Vec<Json> {
    let output = verity(&["status", "--json"]).args(way).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    report["nodes"].as_array().cloned().expect("it tells of nodes")
}

fn faults(node: &Json) -> String {
    node["faults"].as_array().expect("a list").iter().filter_map(Json::as_str).collect()
}

#[test]
fn a_pause_shows_and_ends_with_a_heal_or_with_the_program() {
    let lab = Lab::start(1);
    lab.run(&["fault", "pause", "1", "--for", LONG_MS]);
    let [node] = &lab.nodes()[..] else { panic!("it has one node") };
    assert!(faults(node).contains("paused for another"), "{node}");
    assert_eq!(node["running"], true, "it has not stopped, it stands still");
    assert!(lab.refused(&["fault", "clock", "1", "--skew", "1"]).contains("paused"), "nobody waits for a paused node");
    lab.run(&["fault", "heal"]);
    assert_eq!(faults(&lab.nodes()[0]), "");
    lab.run(&["fault", "pause", "1", "--for", LONG_MS]);
    assert!(lab.running.end(), "Ctrl-C does not wait for the pause either");
}

#[test]
fn a_slow_disk_is_healed_while_it_is_slow() {
    let lab = Lab::start(1);
    lab.run(&["fault", "disk", "1", "--delay", LONG_MS]);
    let connect = |lab: &Lab| {
        // A session is a write, which waits for the disk.
        let mut client = TcpStream::connect(clients(lab)).expect("the node listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut packet = vec![0; 4 + 45];
        packet[3] = 45;
        packet[16 + 2..16 + 4].copy_from_slice(&[0x27, 0x10]);
        packet[28 + 3] = 16;
        client.write_all(&packet).expect("it is connected");
        client
    };
    let mut waiting = connect(&lab);
    eventually("a sync is under way", || lab.nodes()[0]["groups"][0]["waiting"] != 0);
    lab.run(&["fault", "heal"]);
    waiting.read_exact(&mut [0; 4]).expect("the sync that was under way is cut short");
    lab.run(&["fault", "disk", "1", "--delay", LONG_MS]);
    let _waiting = connect(&lab);
    eventually("a sync is under way", || lab.nodes()[0]["groups"][0]["waiting"] != 0);
    assert!(lab.running.end(), "Ctrl-C does not wait for the disk either");
}

fn clients(lab: &Lab) -> String {
    lab.running.said["nodes"][0]["endpoints"]["zookeeper"].as_str().expect("it serves ZooKeeper").to_owned()
}

#[test]
fn faults_that_no_node_survives_are_refused() {
    let lab = Lab::start(1);
    for (args, word) in [
        (["fault", "clock", "1", "--skew", "10000000000000"], "ten years"),
        (["fault", "clock", "1", "--skew", "-9223372036854775808"], "ten years"),
        (["fault", "disk", "1", "--delay", "18446744073709551615"], "600000 ms"),
        (["fault", "pause", "1", "--for", "18446744073709551615"], "600 s"),
    ] {
        let line = lab.refused(&args);
        assert!(line.contains(word), "{line}");
    }
    lab.run(&["fault", "clock", "1", "--skew", "315000000000"]);
    lab.run(&["fault", "clock", "1", "--skew", "-315000000000"]);
    assert_eq!(faults(&lab.nodes()[0]), "clock moved by -315000000000 ms");
    assert!(lab.running.end(), "the node is as well as before");
}

#[test]
fn changes_of_members_end() {
    let lab = Lab::start(4);
    let at = |node: usize| lab.running.said["nodes"][node - 1]["admin"].as_str().expect("it has one").to_owned();
    let remove = |node: &str, via: usize| {
        let mut command = verity(&["node", "remove", node, "--json", "--admin", &at(via), "--data-dir"]);
        command.arg(lab.dir.path().join("data"));
        command
    };
    let members = |command: &mut std::process::Command| -> Vec<u64> {
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        report["members"].as_array().expect("a list").iter().filter_map(|member| member["id"].as_u64()).collect()
    };
    let leader = lab.nodes()[0]["groups"][0]["leader"].as_u64().and_then(|leader| usize::try_from(leader).ok());
    let leader = leader.expect("it was waited for");
    let others: Vec<usize> = (1..=3).filter(|node| *node != leader).collect();
    // A node that is asked to let itself go says when it is out, and is then no one to ask; the leader is no exception.
    for (node, left) in [(others[0], 3), (leader, 2)] {
        let left_over = members(&mut remove(&node.to_string(), node));
        assert!(left_over.len() == left && !left_over.contains(&(node as u64)), "{left_over:?}");
    }
    // A leader knows that it is out. A follower is not told, but it can tell that nobody leads it any more.
    assert!(refusal(&mut remove("4", leader)).contains("no member"));
    eventually("it can tell", || refusal(&mut remove("4", others[0])).contains("was let go"));
    // Without the last voter there is no leader, and nothing to wait for.
    lab.run(&["fault", "crash", &others[1].to_string()]);
    let line = refusal(&mut remove("4", 4));
    assert!(line.contains("knows no leader"), "{line}");
}

#[test]
fn a_cluster_in_memory_says_how_to_break_it() {
    let ports = Ports::free();
    let offset = ports.offset.to_string();
    let flags = ["up", "--ephemeral", "--nodes", "1", "--port-offset", &offset];
    let running = Running::start(verity(&flags).arg("--json"));
    let token = running.said["token"].as_str().expect("nobody else can tell it").to_owned();
    let admin = format!("127.0.0.1:{}", ports.of(7070));
    let heal = |token: &str| verity(&["fault", "heal", "--admin", &admin, "--token", token]).output().expect("it runs");
    assert!(heal(&token).status.success());
    assert!(!heal("").status.success(), "no token is no token");
    assert!(running.end());
    let printed = printed(&mut verity(&flags));
    assert!(printed.contains(&format!("verity status --admin {admin}")), "{printed}");
    assert!(printed.contains(&format!("verity fault heal --admin {admin} --token ")), "{printed}");
}

#[test]
fn commands_teach_by_example() {
    let help = |args: &[&str]| String::from_utf8(verity(args).output().expect("the binary runs").stdout).expect("text");
    for command in ["up", "fault", "sim", "tour", "status", "cert"] {
        let text = help(&[command, "--help"]);
        assert!(text.contains("Examples:\n") && text.contains(&format!("  verity {command}")), "{text}");
        let own = text.find("Print version").expect("every command has it");
        assert!(text.find("--log-format").is_some_and(|shared| shared > own), "what all have comes last: {text}");
    }
    assert!(help(&["sim", "--help"]).contains("value-choice-ignored"), "every bug is named");
    let server = help(&["server", "--help"]);
    assert!(server.find("--insecure") < server.find("Where the node is"), "{server}");
}

/// What a program prints until it tells how to stop it; then it is ended.
fn printed(command: &mut std::process::Command) -> String {
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the binary runs");
    let mut stdout = child.stdout.take().expect("it is piped");
    let (mut text, mut some) = (String::new(), [0; 4096]);
    while !text.contains("Ctrl-C") {
        let read = stdout.read(&mut some).expect("it can be read");
        assert_ne!(read, 0, "it says how to stop it: {text}");
        text.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    child.kill().expect("it runs");
    child.wait().expect("it was started here");
    text
}

/// A configuration of one node on the ports that are usual, which flags must move.
fn configuration(dir: &Path, sections: &str) -> String {
    let path = dir.join("verity.toml");
    let text = format!(
        "cluster = \"c\"\nvoters = [1]\nsystems = [\"zookeeper\"]\n[node]\nid = 1\ndata_dir = \"{}\"\npeer = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:1\"\n\
         [peers]\n1 = \"127.0.0.1:1\"\n{sections}",
        dir.join("data").display()
    );
    fs::write(&path, text).expect("the folder can be written");
    path.display().to_string()
}

#[test]
fn flags_of_a_server_come_over_its_file() {
    let dir = TempDir::new().expect("a folder");
    let ports = Ports::free();
    let config = configuration(dir.path(), "[zookeeper]\nport = 1\nadmin_port = 0\n");
    let (peer, admin) = (format!("127.0.0.1:{}", ports.of(7071)), format!("127.0.0.1:{}", ports.of(7070)));
    let port = ports.of(2181).to_string();
    let other = dir.path().join("elsewhere").display().to_string();
    let mut server = verity(&["server", "--json", "--config", &config, "--peer", &peer, "--admin", &admin]);
    server.args(["--zookeeper-port", &port, "--data-dir", &other]);
    let running = Running::start(&mut server);
    assert_eq!(running.said["doors"][0], format!("127.0.0.1:{port}"));
    assert_eq!(running.said["admin"], admin.as_str());
    assert_eq!(nodes(&["--admin", &admin])[0]["id"], 1);
    assert!(dir.path().join("elsewhere/identity").exists() && !dir.path().join("data").exists());
    // Another one that wants the same admin port is told the flag that it has.
    let (again, free) = (dir.path().join("again").display().to_string(), Ports::free());
    let mut second = verity(&["server", "--config", &config, "--data-dir", &again, "--admin", &admin]);
    second.args(["--peer", &format!("127.0.0.1:{}", free.of(7071)), "--zookeeper-port", &free.of(2181).to_string()]);
    let line = refusal(&mut second);
    assert!(line.contains("--admin") && !line.contains("--port-offset"), "{line}");
}

#[test]
fn administrators_beyond_loopback_are_met_over_tls() {
    let dir = TempDir::new().expect("a folder");
    let folder = |name: &str| dir.path().join(name).display().to_string();
    for args in [
        &["cert", "ca", "--dir", &folder("ca")][..],
        &["cert", "ca", "--dir", &folder("other")],
        &["cert", "node", "--id", "1", "--ca", &folder("ca"), "--dir", &folder("tls")],
    ] {
        assert!(verity(args).output().expect("the binary runs").status.success());
    }
    let ports = Ports::free();
    let doors = format!("[zookeeper]\nport = {}\nadmin_port = {}\ntls_port = 0\n", ports.of(2181), ports.of(8080));
    let config = configuration(dir.path(), &format!("{doors}[tls]\ndir = \"{}\"\n", folder("tls")));
    let (peer, everywhere) = (format!("127.0.0.1:{}", ports.of(7071)), format!("0.0.0.0:{}", ports.of(7070)));
    let _running = Running::start(&mut verity(&[
        "server",
        "--json",
        "--config",
        &config,
        "--peer",
        &peer,
        "--admin",
        &everywhere,
    ]));
    let admin = format!("127.0.0.1:{}", ports.of(7070));
    assert_eq!(nodes(&["--admin", &admin, "--admin-ca", &folder("ca/ca.pem")])[0]["id"], 1);
    let line = refusal(&mut verity(&["status", "--admin", &admin, "--admin-ca", &folder("other/ca.pem")]));
    assert!(line.to_lowercase().contains("certificate"), "a stranger is not believed: {line}");
    assert!(refusal(&mut verity(&["status", "--admin", &admin])).contains("--admin-ca"));
    for port in [ports.of(7070), ports.of(8080)] {
        let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        plain.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        plain.write_all(b"GET /api/status HTTP/1.0\r\n\r\n").expect("it is connected");
        let mut answer = Vec::new();
        // The end may come as a reset.
        let _ = plain.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/"), "nothing is told in clear on port {port}");
    }
}
