//! Clients that ask for everything the tree can do, each one thing at a time.
//!
//! - half of the clients ask for linearizable reads, the others read what their node has;
//! - upon an operation of unknown outcome: the client takes its session to another node and goes on;
//! - upon the end of its session: a new one;
//! - upon a session that no node takes up for [`GIVE_UP`]: a new one; what became of the old one nobody knows;
//! - upon the end of the phase: the client closes its session, so that nothing of it is left.
//!
//! All clients share the nodes of the phase's folder, so that most of what they ask depends on what others did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::cluster::{Cluster, NODES};
use crate::history::Tape;
use crate::operation::Operation;
use crate::session::{Identity, Opened, Session};

/// Nodes that are set and read.
const REGISTERS: usize = 5;
/// Nodes that come and go.
const COMERS: usize = 6;
/// The pause between two operations of a client is drawn below this.
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// The pause before a client tries another node.
const RETRY: Duration = Duration::from_millis(30);
/// A session that no node takes up for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(5);
/// A session is closed on purpose after one in so many operations.
const CLOSE_ODDS: u32 = 400;

/// The nodes that a phase begins with, parents first.
#[must_use]
pub fn layout(folder: &str) -> Vec<Operation> {
    let registers = (0..REGISTERS).map(|register| format!("{folder}/r{register}"));
    let folders = ["d", "q", "e"].map(|name| format!("{folder}/{name}"));
    [folder.to_owned()]
        .into_iter()
        .chain(folders)
        .chain(registers)
        .map(|path| Operation::Create { path, value: "first".into(), ephemeral: false, sequential: false })
        .collect()
}

/// A client at work.
#[derive(Debug)]
pub struct Client<'a> {
    cluster: &'a Cluster,
    folder: String,
    number: usize,
    linearizable: bool,
    rng: Rng,
    /// What it saw.
    pub tape: Tape,
    identity: Identity,
    session: Option<Session>,
    /// When it last asked something that shows its session alive: a stale node answers reads of the dead as well.
    alive: u64,
    count: u64,
    /// The versions that it has seen last.
    versions: BTreeMap<String, i32>,
}

impl<'a> Client<'a> {
    /// A client without a session.
    #[must_use]
    pub fn new(cluster: &'a Cluster, folder: &str, number: usize, start: Instant, rng: Rng) -> Self {
        let linearizable = number.is_multiple_of(2);
        Self {
            cluster,
            folder: folder.to_owned(),
            number,
            linearizable,
            rng,
            tape: Tape::new(start, format!("c{number}"), linearizable),
            identity: Identity::default(),
            session: None,
            alive: 0,
            count: 0,
            versions: BTreeMap::new(),
        }
    }

    /// Asks until it is told to stop.
    #[must_use]
    pub fn run(mut self, stop: &AtomicBool) -> Tape {
        while !stop.load(Ordering::Relaxed) {
            if !self.connect(stop) {
                break;
            }
            let operation = self.draw();
            self.ask(&operation);
            sleep(PAUSE_MAX.mul_f64(self.rng.f64()));
        }
        self.close();
        self.tape
    }

    /// True if a session is served; false if it is time to stop.
    fn connect(&mut self, stop: &AtomicBool) -> bool {
        let since = Instant::now();
        while self.session.is_none() {
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            if since.elapsed() > GIVE_UP {
                // No node has seen what this session has: the cluster went back behind it.
                self.identity = Identity::default();
            }
            self.try_connect();
        }
        true
    }

    fn try_connect(&mut self) {
        let addr = self.cluster.clients(self.rng.usize(..NODES));
        let asked = self.tape.now();
        match Session::open(addr, &self.identity, self.linearizable) {
            Ok(Opened::Here(session)) => {
                self.identity = session.identity.clone();
                self.alive = asked;
                self.session = Some(session);
            }
            Ok(Opened::Expired) => {
                self.tape.expired(&self.identity, self.alive);
                self.identity = Identity::default();
            }
            Err(_) => sleep(RETRY),
        }
    }

    fn ask(&mut self, operation: &Operation) {
        let asked = self.tape.now();
        let Some(session) = &mut self.session else { return };
        let answer = self.tape.call(session, operation);
        self.identity = session.identity.clone();
        match answer {
            Ok(answer) => {
                if *operation == Operation::Close {
                    self.forget();
                    return;
                }
                if answer.line["error"] == "session_expired" {
                    // The next connect hears the same, and writes it down.
                    self.session = None;
                    return;
                }
                if !operation.is_read() && *operation != Operation::Sync {
                    self.alive = asked;
                }
                let version = answer.line["version"].as_i64().and_then(|version| i32::try_from(version).ok());
                if let (Some(path), Some(version)) = (subject(operation), version) {
                    self.versions.insert(path.to_owned(), version);
                }
            }
            Err(_) => self.session = None,
        }
    }

    fn forget(&mut self) {
        self.session = None;
        self.identity = Identity::default();
    }

    fn close(&mut self) {
        let since = Instant::now();
        while self.identity.session != 0 && since.elapsed() < GIVE_UP {
            if self.session.is_some() { self.ask(&Operation::Close) } else { self.try_connect() }
        }
    }

    /// A version that is asked for: often any, sometimes the one seen last, rarely one that cannot be.
    fn version(&mut self, path: &str) -> i32 {
        match self.rng.u32(..10) {
            0..5 => -1,
            5..9 => self.versions.get(path).copied().unwrap_or(0),
            _ => self.rng.i32(0..1_000),
        }
    }

    fn draw(&mut self) -> Operation {
        self.count += 1;
        let register = format!("{}/r{}", self.folder, self.rng.usize(..REGISTERS));
        let comer = format!("{}/d/n{}", self.folder, self.rng.usize(..COMERS));
        let value = format!("c{}-{}", self.number, self.count);
        let create = |path: String, value: String, ephemeral, sequential| Operation::Create {
            path,
            value,
            ephemeral,
            sequential,
        };
        if self.rng.u32(..CLOSE_ODDS) == 0 {
            return Operation::Close;
        }
        match self.rng.u32(..100) {
            0..22 => Operation::Set { version: self.version(&register), path: register, value },
            22..32 => create(comer, value, false, false),
            32..42 => Operation::Delete { version: self.version(&comer), path: comer },
            42..45 => create(format!("{}/q/s-", self.folder), value, false, true),
            45..48 => create(format!("{}/e/s-", self.folder), value, true, true),
            48..51 => create(format!("{}/e/n{}", self.folder, self.rng.usize(..COMERS)), value, true, false),
            51..58 => Operation::Multi(vec![
                Operation::Check { version: self.version(&register), path: register.clone() },
                Operation::Set { path: register, value: value.clone(), version: -1 },
                create(comer, value, false, false),
            ]),
            58..78 => Operation::Get { path: register },
            78..84 => Operation::Exists { path: comer },
            84..87 => Operation::Exists { path: format!("{}/e/n{}", self.folder, self.rng.usize(..COMERS)) },
            87..92 => Operation::Children { path: format!("{}/d", self.folder) },
            92..94 => Operation::Children { path: format!("{}/e", self.folder) },
            94..95 => Operation::Children { path: format!("{}/q", self.folder) },
            _ => Operation::Sync,
        }
    }
}

/// The node whose version a reply tells.
fn subject(operation: &Operation) -> Option<&str> {
    match operation {
        Operation::Set { path, .. } | Operation::Get { path } | Operation::Exists { path } => Some(path),
        _ => None,
    }
}
