//! For the tests of engines: a handful of them whose messages wait until a test lets them go, and files of commands that
//! show what follows from each.
//!
//! A file holds blocks: commands, `----`, and what they show. `VERITY_REWRITE=1` writes what they show now.
//!
//! ```text
//! group <voters> <nodes>     begins a file
//! tick <nodes> <count>       deliver      step      lose      hold      release
//! restart <node>             forget <node>
//! propose <node> <text>      barrier <node> <name>
//! change <node> <voters> <context> [<learners>]
//! cut <node> <node>          isolate <node>         heal      show
//! ```
//! Disks are instant. Deliberately absent: faults of a random kind; `tests/agreement` has those.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use verity_types::{Incarnation, LogIndex, Mono, NodeId};

use crate::agreement::{Agreement, BarrierId, Boot, Change, Committed, Input, Members, Output, Record};

/// Deliveries that lead to others end within so many rounds.
const ROUNDS_MAX: usize = 1_000;

/// Starts an engine of a test.
pub type Start<E> = Box<dyn Fn(Boot, Mono) -> E>;

/// Engines, and what they said.
pub struct Net<E> {
    /// By id, from 1.
    pub nodes: BTreeMap<u64, E>,
    /// What each has on its disk.
    pub records: BTreeMap<u64, Vec<Record>>,
    /// What each has handed out since it started.
    pub committed: BTreeMap<u64, Vec<Committed>>,
    /// What barriers and proposals came to.
    pub answers: Vec<String>,
    /// Sender, receiver, message.
    pub flying: Vec<(u64, u64, Bytes)>,
    /// Directions in which nothing arrives.
    pub cut: BTreeSet<(u64, u64)>,
    /// Now.
    pub now: Mono,
    start: Start<E>,
    /// Messages that are late.
    held: Vec<(u64, u64, Bytes)>,
    voters: u64,
    starts: u64,
}

impl<E: Agreement> Net<E> {
    /// Engines 1 to `nodes`, of which the first `voters` vote.
    pub fn new(voters: u64, nodes: u64, start: impl Fn(Boot, Mono) -> E + 'static) -> Self {
        let mut net = Self {
            nodes: BTreeMap::new(),
            records: BTreeMap::new(),
            committed: BTreeMap::new(),
            answers: Vec::new(),
            flying: Vec::new(),
            cut: BTreeSet::new(),
            now: Mono(1_000_000_000),
            start: Box::new(start),
            held: Vec::new(),
            voters,
            starts: 0,
        };
        (1..=nodes).for_each(|id| net.restart(id));
        net
    }

    /// Starts an engine from its disk.
    pub fn restart(&mut self, id: u64) {
        self.starts += 1;
        let boot = Boot {
            id: NodeId(id),
            members: Members::of_voters((1..=self.voters).map(NodeId)),
            first_leader: None,
            floor: LogIndex(0),
            snapshot: None,
            records: self.records.get(&id).cloned().unwrap_or_default(),
            incarnation: Incarnation(self.starts),
            seed: id * 7_919,
        };
        self.committed.insert(id, Vec::new());
        self.nodes.insert(id, (self.start)(boot, self.now));
    }

    /// Hands one input to an engine.
    pub fn input(&mut self, id: u64, input: Input) {
        let now = self.now;
        self.with(id, |engine, out| engine.on(now, input, out));
    }

    /// Calls an engine and takes in what it puts out.
    pub fn with(&mut self, id: u64, step: impl FnOnce(&mut E, &mut Vec<Output>)) {
        let mut out = Vec::new();
        let Some(engine) = self.nodes.get_mut(&id) else { return };
        step(engine, &mut out);
        engine.invariants();
        let mut persisted = None;
        for output in out {
            match output {
                Output::Persist { id: persist, records } => {
                    self.records.entry(id).or_default().extend(records);
                    persisted = Some(persist);
                }
                Output::Send { to, bytes, .. } => self.flying.push((id, to.0, bytes)),
                Output::Commit(batch) => self.committed.entry(id).or_default().extend(batch),
                Output::ReadReady { id: name, index } => {
                    self.answers.push(format!("node {id}: barrier {} reads at {index}", name.0));
                }
                Output::ReadFailed(name) => self.answers.push(format!("node {id}: barrier {} fails", name.0)),
                Output::Refused(_) => self.answers.push(format!("node {id}: proposal refused")),
                _ => {}
            }
        }
        if let Some(persist) = persisted {
            self.input(id, Input::Persisted(persist));
        }
    }

    /// Delivers what is on its way now, and not what follows from it.
    pub fn step(&mut self) {
        for (from, to, bytes) in std::mem::take(&mut self.flying) {
            if !self.cut.contains(&(from, to)) {
                self.now.0 += 1_000;
                self.input(to, Input::Message { from: NodeId(from), bytes });
            }
        }
    }

    /// Delivers everything on its way, and what follows from it.
    ///
    /// # Panics
    /// If that never ends.
    pub fn deliver(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.flying.is_empty() {
                return;
            }
            self.step();
        }
        panic!("the messages never end");
    }

    /// Lets `ticks` ticks pass on these nodes, delivering as they come.
    pub fn tick(&mut self, ids: &[u64], ticks: u64) {
        for _ in 0..ticks {
            let interval = self.nodes.values().next().map(Agreement::tick_interval).unwrap_or_default();
            self.now = self.now + interval;
            for id in ids {
                self.input(*id, Input::Tick);
            }
            self.deliver();
        }
    }

    fn change(&mut self, id: u64, change: Change, out: &mut String) {
        let now = self.now;
        let mut refused = None;
        self.with(id, |engine, outputs| {
            let reconfigure = engine.reconfigure().expect("the engine changes members");
            refused = reconfigure.on_reconfigure(now, change, outputs).err();
        });
        refused.iter().for_each(|why| say(out, &format!("refused: {why}")));
    }

    /// Carries out a command that every engine knows; false for another one.
    fn command(&mut self, words: &[&str], out: &mut String) -> bool {
        let number = |at: usize| number(words[at]);
        match words[0] {
            "tick" => self.tick(&ids(words[1]), number(2)),
            "propose" => self.input(number(1), Input::Propose(Bytes::copy_from_slice(words[2].as_bytes()))),
            "deliver" => self.deliver(),
            "step" => self.step(),
            "lose" => self.flying.clear(),
            "hold" => self.held.append(&mut self.flying),
            "release" => self.flying.append(&mut self.held),
            "restart" => self.restart(number(1)),
            "forget" => {
                self.records.remove(&number(1));
                self.restart(number(1));
            }
            "heal" => self.cut.clear(),
            "cut" => self.cut.extend([(number(1), number(2)), (number(2), number(1))]),
            "isolate" => {
                let one = number(1);
                let others: Vec<u64> = self.nodes.keys().copied().collect();
                self.cut.extend(others.iter().flat_map(|other| [(one, *other), (*other, one)]));
            }
            "barrier" => {
                let (now, name) = (self.now, BarrierId(number(2)));
                self.with(number(1), |engine, outputs| {
                    engine.barrier().expect("the engine reads").on_barrier(now, name, outputs);
                });
            }
            "change" => {
                let set = |text: &str| ids(text).into_iter().map(NodeId).collect();
                let learners = words.get(4).map_or_else(Default::default, |text| set(text));
                let context = Bytes::copy_from_slice(words[3].as_bytes());
                self.change(number(1), Change { voters: set(words[2]), learners, context }, out);
            }
            _ => return false,
        }
        true
    }
}

/// The numbers of a list such as `1,2,3`.
fn ids(text: &str) -> Vec<u64> {
    text.split(',').filter(|part| !part.is_empty()).map(number).collect()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn say(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("writing to a string succeeds");
}

/// What an engine adds to the commands of a file.
pub struct Script<E> {
    /// Starts its engines.
    pub start: fn(Boot, Mono) -> E,
    /// A command of its own on a node.
    pub own: (&'static str, fn(&mut Net<E>, u64)),
    /// One node, as `show` shows it.
    pub show: fn(u64, &E, &[Committed]) -> String,
}

impl<E: Agreement + 'static> Script<E> {
    fn line(&self, net: &mut Net<E>, line: &str, out: &mut String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "show" {
            net.nodes.iter().for_each(|(id, engine)| say(out, &(self.show)(*id, engine, &net.committed[id])));
        } else if words[0] == self.own.0 {
            (self.own.1)(net, number(words[1]));
        } else if !net.command(&words, out) {
            panic!("no command {line:?}");
        }
        net.answers.drain(..).for_each(|answer| say(out, &answer));
    }

    fn run(&self, path: &Path) {
        let text = std::fs::read_to_string(path).expect("the file can be read");
        let mut net: Option<Net<E>> = None;
        let mut written = String::new();
        for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
            let commands = block.split("\n----").next().unwrap_or_default();
            let mut out = String::new();
            for line in commands.lines().filter(|line| !line.starts_with('#')) {
                match line.strip_prefix("group ").and_then(|counts| counts.split_once(' ')) {
                    Some((voters, nodes)) => net = Some(Net::new(number(voters), number(nodes), self.start)),
                    None => self.line(net.as_mut().expect("a file begins with a group"), line, &mut out),
                }
            }
            say(&mut written, &format!("{commands}\n----\n{out}"));
        }
        if std::env::var_os("VERITY_REWRITE").is_some() {
            std::fs::write(path, written.trim_end().to_owned() + "\n").expect("the file can be written");
        } else {
            assert_eq!(written.trim_end(), text.trim_end(), "{} shows something else now", path.display());
        }
    }

    /// Runs every file of a folder but those of these names.
    ///
    /// # Panics
    /// If one shows something else than it says, or there are fewer than `least`.
    pub fn run_all(&self, folder: &Path, except: &[&str], least: usize) {
        let entries = std::fs::read_dir(folder).expect("the folder can be read");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("so can its entries").path()).collect();
        paths.retain(|path| !except.iter().any(|name| path.ends_with(name)));
        paths.sort();
        assert!(paths.len() >= least, "the scenarios are there");
        paths.iter().for_each(|path| self.run(path));
    }
}
