//! What a user sees when something cannot be done: one line on standard error that says what is wrong, where, and what to
//! do; an exit status that is not zero; no folder left half made.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;

use tempfile::TempDir;

use crate::program::{Ports, Running, refusal, refusal_text, up, verity};

mod program;

#[test]
fn a_folder_in_use_is_not_shared() {
    let dir = TempDir::new().expect("a folder");
    let (first, second) = (Ports::free(), Ports::free());
    let _running = Running::start(&mut up(dir.path(), &first));
    let line = refusal(&mut up(dir.path(), &second));
    assert!(line.contains("in use by another process"), "{line}");
}

#[test]
fn a_taken_port_is_named() {
    let dir = TempDir::new().expect("a folder");
    let ports = Ports::free();
    for (base, what) in [(2181, "--port-offset"), (8080, "--zookeeper-admin-port"), (7070, "--port-offset")] {
        let taken = TcpListener::bind(("127.0.0.1", ports.of(base))).expect("it was free");
        let line = refusal(&mut up(dir.path(), &ports));
        assert!(line.contains(&ports.of(base).to_string()) && line.contains(what), "{line}");
        drop(taken);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = TempDir::new().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, "no folder").expect("the folder can be written");
    let line = refusal(&mut up(&file.join("below"), &Ports::free()));
    assert!(line.contains("file/below"), "{line}");
}

#[test]
fn a_full_disk_is_named() {
    let dir = TempDir::new().expect("a folder");
    let ports = Ports::free();
    // No file may be longer than 512 KiB, as if the disk were full.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1024 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_verity")]);
    command.args(["up", "--nodes", "1", "--json", "--port-offset", &ports.offset.to_string(), "--data-dir"]);
    let line = refusal(command.arg(dir.path()));
    assert!(line.contains("/wal/") && line.contains("too large"), "{line}");
}

#[test]
fn a_full_disk_leaves_no_token_that_could_be_guessed() {
    let dir = TempDir::new().expect("a folder");
    let ports = Ports::free();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 0 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_verity")]);
    command.args(["up", "--nodes", "1", "--json", "--port-offset", &ports.offset.to_string(), "--data-dir"]);
    let line = refusal(command.arg(dir.path()));
    assert!(line.contains("admin.token"), "{line}");
    assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), 0, "no file is left half written");
    fs::write(dir.path().join("admin.token"), "").expect("the folder can be written");
    let line = refusal(&mut up(dir.path(), &ports));
    assert!(line.contains("admin.token") && line.contains("0 characters"), "{line}");
}

#[test]
fn a_folder_is_opened_as_what_it_was_made() {
    let dir = TempDir::new().expect("a folder");
    let ports = Ports::free();
    drop(Running::start(&mut up(dir.path(), &ports)));
    let line = refusal(up(dir.path(), &ports).args(["--agreement", "paxos"]));
    assert!(line.contains("raft") && line.contains("paxos"), "{line}");
    let mut more = verity(&["up", "--nodes", "2", "--json", "--data-dir"]);
    let line = refusal(more.arg(dir.path()).args(["--port-offset", &ports.offset.to_string()]));
    assert!(line.contains("a cluster of 1 nodes, not 2"), "{line}");
    assert!(!dir.path().join("node-2").exists(), "nothing is begun");
    // Without the flag the folder has the word.
    let mut same = verity(&["up", "--json", "--data-dir"]);
    let running = Running::start(same.arg(dir.path()).args(["--port-offset", &ports.offset.to_string()]));
    assert_eq!(running.said["nodes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_folder_of_a_newer_version_is_left_alone() {
    let dir = TempDir::new().expect("a folder");
    let ports = Ports::free();
    drop(Running::start(&mut up(dir.path(), &ports)));
    let path = dir.path().join("node-1/identity");
    let mut bytes = fs::read(&path).expect("the node has an identity");
    bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[24..]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).expect("the folder can be written");
    let line = refusal(&mut up(dir.path(), &ports));
    assert!(line.contains("format 7") && line.contains("use a newer one"), "{line}");
    assert_eq!(fs::read(&path).expect("it is there"), bytes);
    // The same with a flipped bit is damage, and no newer version.
    bytes[8] ^= 1;
    fs::write(&path, &bytes).expect("the folder can be written");
    let line = refusal(&mut up(dir.path(), &ports));
    assert!(line.contains("identity") && !line.contains("format 6"), "{line}");
    assert!(line.contains(&dir.path().join("node-1").display().to_string()), "where it is: {line}");
}

#[test]
fn a_missing_or_wrong_configuration_is_named() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("verity.toml");
    let server = || {
        let mut command = verity(&["server", "--config"]);
        command.arg(&path);
        command
    };
    assert!(refusal(&mut server()).contains("--help"));
    let base = "cluster = \"c\"\nvoters = [1]\n[node]\nid = 1\ndata_dir = \"d\"\npeer = \"127.0.0.1:7071\"\n\
                admin = \"127.0.0.1:7070\"\n[peers]\n1 = \"127.0.0.1:7071\"\n";
    for (more, word) in [
        ("[zookeper]\nport = 1\n", "zookeper"),
        ("[zookeeper]\nport = \"x\"\n", "port"),
        ("[zookeeper]\ntick_time_ms = 1\n", "tick_time_ms"),
        ("[tls]\ndir = \"/no/such/folder\"\n", "/no/such/folder"),
    ] {
        fs::write(&path, format!("{base}{more}")).expect("the folder can be written");
        let line = refusal(server().current_dir(dir.path()));
        assert!(line.contains(word), "{line}");
    }
    fs::write(&path, format!("{base}[lab\n")).expect("the folder can be written");
    let text = refusal_text(&mut server());
    assert!(text.contains("line 10") && text.contains("verity.toml"), "where the file is wrong is drawn: {text}");
    fs::write(&path, base).expect("the folder can be written");
    let line = refusal(server().env("VERITY_NODE__CLIENTS", "0.0.0.0").current_dir(dir.path()));
    assert!(line.contains("0.0.0.0") && line.contains("verity cert"), "{line}");
    let line = refusal(server().env("VERITY_VOTERS", "[2]").env("VERITY_LOG", "warn").current_dir(dir.path()));
    assert!(line.contains("voter 2"), "{line}");
}

#[test]
fn wrong_flags_are_named() {
    assert!(refusal(&mut verity(&["--log", "a=b=c", "up"])).contains("--log"));
    assert!(refusal(&mut verity(&["up", "--ephemeral", "--port-offset", "65000"])).contains("--port-offset"));
    assert!(refusal(&mut verity(&["up", "--config", "/no/such.toml"])).contains("/no/such.toml"));
    assert!(refusal(&mut verity(&["status", "--admin", "127.0.0.1:1"])).contains("verity up"));
    assert!(refusal(&mut verity(&["fault", "heal", "--data-dir", "/no/such"])).contains("--data-dir"));
    assert!(refusal(&mut verity(&["cert", "node", "--id", "1", "--ca", "/no/such", "--dir", "x"])).contains("cert ca"));
    for (lines, word) in [("tls_dir = \"/no/such/folder\"", "/no/such/folder"), ("tls_port = 2999", "tls_dir")] {
        let dir = TempDir::new().expect("a folder");
        let file = dir.path().join("zoo.toml");
        fs::write(&file, format!("[zookeeper]\n{lines}\n")).expect("the folder can be written");
        let line = refusal(verity(&["up", "--ephemeral", "--config"]).arg(file));
        assert!(line.contains(word), "{line}");
    }
    // Those that are no commands at all are for clap to explain, with its own status.
    for (flags, word) in [(["--nodez", "3"], "--nodes"), (["--only", "zookeeper,kafca"], "'kafka'")] {
        let output = verity(&["up"]).args(flags).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn everything_speaks_json() {
    let dir = TempDir::new().expect("a folder");
    let ports = Ports::free();
    let _running = Running::start(&mut up(dir.path(), &ports));
    let admin = format!("127.0.0.1:{}", ports.of(7070));
    let json = |args: &[&str]| -> serde_json::Value {
        let output = verity(args).arg("--json").output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("one JSON value")
    };
    assert_eq!(json(&["status", "--admin", &admin])["nodes"][0]["id"], 1);
    let folder = dir.path().to_string_lossy();
    let done = json(&["fault", "disk", "1", "--delay", "1", "--admin", &admin, "--data-dir", &folder]);
    assert!(done["done"].as_str().is_some_and(|done| done.contains("node 1")));
    let ca = dir.path().join("ca").to_string_lossy().into_owned();
    assert_eq!(json(&["cert", "ca", "--dir", &ca])["files"].as_array().map(Vec::len), Some(2));
    let world = json(&["sim", "--seed", "1", "--seconds", "1"]);
    assert_eq!(world["ok"], true);
    let history = dir.path().join("history");
    let mut file = fs::File::create(&history).expect("the folder can be written");
    for kind in ["invoke", "ok"] {
        let time = if kind == "invoke" { 10 } else { 20 };
        writeln!(file, r#"{{"process":0,"type":"{kind}","f":"write","key":"x","value":1,"time":{time}}}"#)
            .expect("it fits");
    }
    assert_eq!(json(&["check", &history.to_string_lossy()])["ok"], true);
    fs::write(&history, "").expect("the folder can be written");
    let line = refusal(&mut verity(&["check", &history.to_string_lossy()]));
    assert!(line.contains("no operation"), "{line}");
}
