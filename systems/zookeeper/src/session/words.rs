//! Four-letter words: what monitoring has parsed for fifteen years, so the text is ZooKeeper's to the letter.
//!
//! `dirs` tells the sizes of the last snapshot and of the log behind it; `hash` the digest of the state. The trace mask is
//! kept and told, and traces nothing.

use std::fmt::Write as _;

use verity_clock::Now;
use verity_types::ConnId;

use super::conn::{Conn, Phase};
use super::inspect::{Question, Target};
use super::json::Json;
use super::service::ZooKeeper;
use crate::wire::OpCode;

const WORDS: [&str; 18] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "crst", "dirs", "dump", "envi", "hash", "srst", "wchc", "wchp",
    "wchs", "isro", "gtmk", "stmk",
];

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// Is this a word rather than a length?
pub(super) fn is_word(head: [u8; 4]) -> bool {
    WORDS.iter().any(|word| word.as_bytes() == head)
}

/// How many bytes a word takes: the one that sets the trace mask brings it along.
pub(super) fn size(head: [u8; 4]) -> usize {
    if head == *b"stmk" { 12 } else { 4 }
}

/// What `lop=` calls an operation.
fn short_name(op: i32) -> &'static str {
    match OpCode::from_number(op) {
        Some(OpCode::Ping) => "PING",
        Some(OpCode::Create | OpCode::Create2 | OpCode::CreateTtl | OpCode::CreateContainer) => "CREA",
        Some(OpCode::Delete | OpCode::DeleteContainer) => "DELE",
        Some(OpCode::SetData) => "SETD",
        Some(OpCode::SetAcl) => "SETA",
        Some(OpCode::GetAcl) => "GETA",
        Some(OpCode::GetData) => "GETD",
        Some(OpCode::GetChildren | OpCode::GetChildren2) => "GETC",
        Some(OpCode::GetAllChildrenNumber) => "GETACN",
        Some(OpCode::GetEphemerals) => "GETE",
        Some(OpCode::Exists) => "EXIS",
        Some(OpCode::Check) => "CHEC",
        Some(OpCode::Sync) => "SYNC",
        Some(OpCode::Multi) => "MULT",
        Some(OpCode::MultiRead) => "MLTR",
        Some(OpCode::Reconfig) => "RECO",
        Some(OpCode::SetWatches) => "SETW",
        Some(OpCode::SetWatches2) => "STW2",
        Some(OpCode::AddWatch) => "ADDW",
        Some(OpCode::CheckWatches) => "CHKW",
        Some(OpCode::RemoveWatches) => "REMW",
        Some(OpCode::CloseSession) => "CLOS",
        _ => "NA",
    }
}

/// One line of `cons` or `stat`.
fn line(conn: &Conn, detailed: bool) -> String {
    let figures = &conn.figures;
    let mut out = format!(
        " /{}[{}](queued={},recved={},sent={}",
        conn.peer.addr,
        u8::from(conn.phase == Phase::Open),
        conn.slots.len(),
        figures.received,
        figures.sent
    );
    if detailed && conn.phase == Phase::Open {
        let latency = &figures.latency;
        let _ = write!(
            out,
            ",sid=0x{:x},lop={},est={},to={},lcxid=0x{:x},lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
            conn.session,
            figures.last_op.map_or("NA", short_name),
            conn.opened_ms,
            conn.timeout_ms,
            i64::from(figures.last_xid),
            conn.zxid,
            figures.last_reply_ms,
            figures.last_latency_ms,
            latency.min,
            latency.sum.checked_div(latency.count).unwrap_or(0),
            latency.max
        );
    }
    out.push_str(")\n");
    out
}

impl ZooKeeper {
    /// A connection said a word instead of connecting.
    pub(super) fn on_word(&mut self, now: Now, id: ConnId, word: [u8; 4], parameter: Option<i64>) {
        let word = String::from_utf8(word.to_vec()).expect("words are ASCII");
        self.conns.get_mut(&id).expect("the decoder found it").phase = Phase::Asking;
        self.stats.received += 1;
        if !self.config.words.contains(&word) && !self.config.words.contains("*") {
            self.port.text(id, &format!("{word} is not executed because it is not in the whitelist.\n"));
            return self.close(id);
        }
        let always = matches!(word.as_str(), "ruok" | "envi" | "isro" | "gtmk" | "stmk");
        if !always && !self.has_leader() && !self.serves_reads(now) {
            self.port.text(id, NOT_SERVING);
            return self.close(id);
        }
        if word == "stmk" {
            self.trace_mask = parameter.unwrap_or(self.trace_mask);
        }
        self.ask(now, Question::new(Target::Word { conn: id, word }));
    }

    /// Clients that ask for it are served reads now.
    pub(super) fn serves_reads(&self, now: Now) -> bool {
        self.config.read_only_mode && !self.has_leader() && self.is_cut_off(now.mono)
    }

    /// What `Mode:` says.
    pub(super) fn mode(&self, now: Now) -> &'static str {
        match self.role {
            _ if self.serves_reads(now) => "read-only",
            _ if self.config.standalone => "standalone",
            role if role.leads => "leader",
            role if role.votes => "follower",
            _ => "observer",
        }
    }

    /// The text of a word whose question is answered.
    pub(super) fn word(&mut self, now: Now, word: &str, question: &Question) -> String {
        match word {
            "ruok" => "imok".to_owned(),
            "isro" if self.has_leader() => "rw".to_owned(),
            "isro" if self.serves_reads(now) => "ro".to_owned(),
            "isro" => "null".to_owned(),
            "gtmk" | "stmk" => self.trace_mask.to_string(),
            "dirs" => {
                let facts = &question.facts;
                format!("datadir_size: {}\nlogdir_size: {}\n", facts.snapshot_bytes, facts.log_bytes)
            }
            "hash" => format!("0x{:x} {}\n", question.status.zxid, question.facts.digest),
            "srvr" => self.srvr(now, question, false),
            "stat" => self.srvr(now, question, true),
            "mntr" => self.mntr(now, question),
            "conf" => {
                self.settings().iter().fold(String::new(), |text, (name, value)| text + &format!("{name}={value}\n"))
            }
            "cons" => self.cons(true),
            "crst" => {
                self.reset_connections();
                "Connection stats reset.\n".to_owned()
            }
            "srst" => {
                self.stats = super::stats::Stats::default();
                "Server stats reset.\n".to_owned()
            }
            "dump" => self.dump(question),
            "envi" => self.environment().iter().fold("Environment:\n".to_owned(), |text, (name, value)| match value {
                Json::Text(value) => text + &format!("{name}={value}\n"),
                other => text + &format!("{name}={other}\n"),
            }),
            "wchs" => format!(
                "{} connections watching {} paths\nTotal watches:{}\n",
                self.watches.connections(),
                self.watches.paths(),
                self.watches.count()
            ),
            "wchc" => self.watch_lists(true),
            "wchp" => self.watch_lists(false),
            _ => unreachable!("only words are asked"),
        }
    }

    fn cons(&self, detailed: bool) -> String {
        let all = self.sorted(|_| true);
        all.iter().map(|id| line(&self.conns[id], detailed)).collect::<String>() + "\n"
    }

    pub(super) fn reset_connections(&mut self) {
        self.conns.values_mut().for_each(|conn| conn.figures = super::conn::Figures::default());
    }

    /// Requests that wait for their reply.
    pub(super) fn outstanding(&self) -> usize {
        self.conns.values().map(|conn| conn.slots.len()).sum()
    }

    fn srvr(&self, now: Now, question: &Question, with_clients: bool) -> String {
        let mut out = format!("Zookeeper version: {}\n", self.config.version);
        if with_clients {
            out.push_str("Clients:\n");
            out.push_str(&self.cons(false));
        }
        let latency = &self.stats.latency;
        let _ = write!(
            out,
            "Latency min/avg/max: {}/{:?}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\n\
             Zxid: 0x{:x}\nMode: {}\nNode count: {}\n",
            latency.min,
            latency.mean(),
            latency.max,
            self.stats.received,
            self.stats.sent,
            self.conns.len(),
            self.outstanding(),
            question.status.zxid,
            self.mode(now),
            question.status.nodes
        );
        out
    }

    fn mntr(&self, now: Now, question: &Question) -> String {
        let mut out = String::new();
        for (name, value) in self.figures(now, question) {
            let value = match value {
                Json::Text(text) => text,
                other => other.to_string(),
            };
            let _ = writeln!(out, "zk_{name}\t{value}");
        }
        out
    }

    fn dump(&self, question: &Question) -> String {
        let mut out = format!("SessionTracker dump:\nGlobal Sessions({}):\n", question.sessions.len());
        for row in &question.sessions {
            let _ = writeln!(out, "0x{:x}\t{}ms", row.session, row.timeout_ms);
        }
        let _ = write!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", question.ephemerals.len());
        for (session, paths) in &question.ephemerals {
            let _ = writeln!(out, "0x{session:x}:");
            for path in paths {
                let _ = writeln!(out, "\t{path}");
            }
        }
        let _ = write!(out, "Connections dump:\nConnections Sets (1)/({}):\n", self.conns.len());
        for id in self.sorted(|_| true) {
            let conn = &self.conns[&id];
            let _ = writeln!(out, "\tip: /{} sessionId: 0x{:x}", conn.peer.addr, conn.session);
        }
        out
    }

    fn watch_lists(&self, by_session: bool) -> String {
        let mut out = String::new();
        if by_session {
            for (id, paths) in self.watches.by_conn() {
                let _ = writeln!(out, "0x{:x}", self.conns[&id].session);
                for path in paths.keys() {
                    let _ = writeln!(out, "\t{}", String::from_utf8_lossy(path));
                }
            }
        } else {
            for (path, conns) in self.watches.by_path() {
                let _ = writeln!(out, "{}", String::from_utf8_lossy(path));
                for id in conns {
                    let _ = writeln!(out, "\t0x{:x}", self.conns[&id].session);
                }
            }
        }
        out + "\n"
    }

    /// What `conf` says.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let config = &self.config;
        let mut all = config.settings.clone();
        let own = [
            ("tickTime", u64::from(config.tick_ms)),
            ("maxClientCnxns", config.connections_per_address_max as u64),
            ("minSessionTimeout", u64::from(config.timeout_min())),
            ("maxSessionTimeout", u64::from(config.timeout_max())),
            ("serverId", config.node.0),
        ];
        all.extend(own.map(|(name, value)| (name.to_owned(), value.to_string())));
        all
    }
}
