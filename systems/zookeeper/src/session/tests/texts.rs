//! Four-letter words and the AdminServer, line for line.

use super::client::{Client, create};
use super::world::{World, peer};
use crate::session::{Config, DoorKind, DutyConfig};
use crate::wire::OpCode;
use verity_contract::Door;

fn all_words(config: &mut Config) {
    config.words.insert("*".to_owned());
    config.doors.insert(Door(9), DoorKind::Admin);
    config.version = "3.8.0-test, built on 2022-02-25 08:49 UTC".to_owned();
}

fn world() -> World {
    World::with(1, all_words, DutyConfig::default())
}

fn word(w: &mut World, word: &str) -> String {
    let c = w.dial(0);
    w.send(c, word.as_bytes());
    assert!(w.is_closed(c), "{word}");
    w.text(c)
}

#[test]
fn the_short_ones() {
    let mut w = world();
    assert_eq!(word(&mut w, "ruok"), "imok");
    assert_eq!(word(&mut w, "isro"), "rw");
    assert_eq!(word(&mut w, "gtmk"), "306");
    assert_eq!(word(&mut w, "srst"), "Server stats reset.\n");
    assert_eq!(word(&mut w, "crst"), "Connection stats reset.\n");
    let environment = word(&mut w, "envi");
    assert!(environment.starts_with("Environment:\nzookeeper.version=3.8.0-test, built on 2022-02-25 08:49 UTC\n"));
    assert!(environment.contains("\nos.name=") && environment.contains("\nverity.version="), "{environment}");
    assert!(word(&mut w, "conf").contains("tickTime=2000\nmaxClientCnxns=60\nminSessionTimeout=4000\n"));
    w.elect(None);
    assert_eq!(word(&mut w, "isro"), "null");
    assert_eq!(word(&mut w, "stat"), "This ZooKeeper instance is not currently serving requests\n");
    let c = w.dial(0);
    w.advance(6000);
    assert_eq!(word(&mut w, "isro"), "ro");
    assert!(word(&mut w, "srvr").contains("Mode: read-only\n"));
    w.hang_up(c);
}

#[test]
fn the_words_of_files_digests_and_traces() {
    let mut w = world();
    assert_eq!(word(&mut w, "dirs"), "datadir_size: 56\nlogdir_size: 1234\n");
    let hash = word(&mut w, "hash");
    assert!(hash.starts_with("0x") && hash.trim_end().len() > 64, "{hash}");
    assert_eq!(word(&mut w, "gtmk"), "306");
    assert_eq!(word(&mut w, "stmk\0\0\0\0\0\0\0\x07"), "7");
    assert_eq!(word(&mut w, "gtmk"), "7");
}

#[test]
fn words_off_the_list_are_refused() {
    let mut w = World::new(1);
    let text = word(&mut w, "crst");
    assert_eq!(text, "crst is not executed because it is not in the whitelist.\n");
}

#[test]
fn a_word_may_come_in_pieces() {
    let mut w = world();
    let c = w.dial(0);
    w.send(c, b"ru");
    assert!(!w.is_closed(c));
    w.send(c, b"ok\n");
    assert_eq!(w.text(c), "imok");
}

#[test]
fn srvr_stat_and_cons() {
    let mut w = world();
    let c = w.connect(0);
    w.ask(c, OpCode::Create, &create("/e", 1)).ok();
    let zxid = w.nodes[0].tree.zxid();
    let text = word(&mut w, "srvr");
    let expect = format!(
        "Zookeeper version: 3.8.0-test, built on 2022-02-25 08:49 UTC\nLatency min/avg/max: 0/0.0/0\nReceived: 3\n\
         Sent: 2\nConnections: 2\nOutstanding: 0\nZxid: 0x{zxid:x}\nMode: leader\nNode count: 5\n"
    );
    assert_eq!(text, expect);
    let text = word(&mut w, "stat");
    assert!(text.contains("\nClients:\n /127.0.0.1:50000[1](queued=0,recved=2,sent=2)\n"), "{text}");
    let text = word(&mut w, "cons");
    let line = format!("sid=0x{:x},lop=CREA,est=1700000000000,to=10000,lcxid=0x4d,lzxid=0x{zxid:x},", c.session);
    assert!(text.contains(&line), "{text}");
}

#[test]
fn mntr_has_the_names_that_monitoring_reads() {
    let mut w = world();
    let c = w.connect(0);
    assert_eq!(w.watch(c, OpCode::GetData, "/"), 0);
    let text = word(&mut w, "mntr");
    for line in [
        "zk_version\t3.8.0-test, built on 2022-02-25 08:49 UTC",
        "zk_server_state\tleader",
        "zk_ephemerals_count\t0",
        "zk_num_alive_connections\t2",
        "zk_avg_latency\t0.0",
        "zk_outstanding_requests\t0",
        "zk_znode_count\t4",
        "zk_watch_count\t1",
        "zk_global_sessions\t1",
        "zk_packets_received\t3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
}

#[test]
fn watch_words_and_dump() {
    let mut w = world();
    let c = w.connect(0);
    w.ask(c, OpCode::Create, &create("/e", 1)).ok();
    assert_eq!(w.watch(c, OpCode::GetData, "/e"), 0);
    let id = format!("0x{:x}", c.session);
    assert_eq!(word(&mut w, "wchs"), "1 connections watching 1 paths\nTotal watches:1\n");
    assert_eq!(word(&mut w, "wchc"), format!("{id}\n\t/e\n\n"));
    assert_eq!(word(&mut w, "wchp"), format!("/e\n\t{id}\n\n"));
    let dump = word(&mut w, "dump");
    assert!(dump.contains(&format!("Sessions with Ephemerals (1):\n{id}:\n\t/e\n")), "{dump}");
}

fn http(w: &mut World, request: &str) -> String {
    let conn = w.open(0, peer(9));
    let c = Client { node: 0, conn, session: 0, password: [0; 16], timeout: 0 };
    w.send(c, &request.as_bytes()[..5]);
    w.send(c, &request.as_bytes()[5..]);
    assert!(w.is_closed(c));
    w.text(c)
}

fn command(w: &mut World, name: &str) -> String {
    let text = http(w, &format!("GET /commands/{name} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"));
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "{text}");
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn the_admin_server() {
    let mut w = world();
    let c = w.connect(0);
    w.ask(c, OpCode::Create, &create("/e", 1)).ok();
    assert_eq!(w.watch(c, OpCode::GetData, "/e"), 0);
    assert_eq!(command(&mut w, "ruok"), "{\n  \"command\" : \"ruok\",\n  \"error\" : null\n}\n");
    let ro = "{\n  \"read_only\" : false,\n  \"command\" : \"is_read_only\",\n  \"error\" : null\n}\n";
    assert_eq!(command(&mut w, "isro"), ro);
    assert!(command(&mut w, "mntr").contains("\"znode_count\" : 5,"));
    assert!(command(&mut w, "stats").contains("\"server_state\" : \"leader\","));
    assert!(command(&mut w, "cons").contains(&format!("\"session_id\" : {},", c.session)));
    assert!(command(&mut w, "dump").contains(&format!("\"{}\" : [ \"/e\" ]", c.session)));
    assert!(command(&mut w, "wchp").contains(&format!("\"/e\" : [ {} ]", c.session)));
    assert!(command(&mut w, "wchc").contains(&format!("\"{}\" : [ \"/e\" ]", c.session)));
    assert!(command(&mut w, "leader").contains("\"leader_id\" : 1,"));
    assert!(command(&mut w, "dirs").contains("\"datadir_size\" : 56,\n  \"logdir_size\" : 1234,"));
    assert!(command(&mut w, "obsr").contains("\"synced_observers\" : 1,\n  \"observers\" : [ {\n    \"sid\" : 3"));
    assert!(command(&mut w, "mntr").contains("\"synced_followers\" : 1,"));
    assert!(command(&mut w, "mntr").contains("\"peer_state\" : \"leading - broadcast\","));
    assert!(command(&mut w, "hash").contains("\"digest_version\" : 0,"));
    assert!(command(&mut w, "lsnp").contains("\"zxid\" : \"0x0\","));
    assert!(command(&mut w, "icfg").contains("tickTime="));
    assert!(command(&mut w, "sysp").contains("\"os.name\" : "));
    assert!(command(&mut w, "stmk").contains("requires long traceMask"));
    assert!(command(&mut w, "stmk?traceMask=7").contains("\"tracemask\" : 7,"));
    assert!(command(&mut w, "gtmk").contains("\"tracemask\" : 7,"));
    for name in ["conf", "env", "wchs", "voting_view", "zabstate", "gtmk", "srst", "crst", "server_stats"] {
        assert!(command(&mut w, name).ends_with("\"error\" : null\n}\n"), "{name}");
    }
    assert!(command(&mut w, "nonsense").contains("\"error\" : \"Unknown command: nonsense\""));
    assert!(http(&mut w, "GET /commands HTTP/1.1\r\n\r\n").contains("<a href=\"/commands/ruok\">ruok</a>"));
    assert!(http(&mut w, "GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(http(&mut w, "POST /commands/ruok HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let rebound = "GET /commands/ruok HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n";
    assert!(http(&mut w, rebound).starts_with("HTTP/1.1 403 "));
    assert!(http(&mut w, &"x".repeat(9000)).is_empty());
}
