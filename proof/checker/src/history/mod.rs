//! Histories as users write them: JSON, one event a line. `docs/check-format.md` describes the format.
//!
//! - upon `invoke`: a process has asked; it asks nothing else until it hears.
//! - upon `ok`: it was answered. Upon `fail`: it certainly had no effect, and is left out. Upon `info`, or nothing more:
//!   nobody knows.
//! - upon `init`, `final`: what was there before the history, and what a reader finds when it is over.
//! - upon `event`: a ZooKeeper session was notified.
//!
//! If every line has a `time`, times order the events, and events of one moment are concurrent; if none has, the order
//! of the lines does.

mod cells;
mod event;
mod tree;

use std::io::{BufRead, Read};

use hashbrown::HashMap;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

pub use cells::cells;
pub(crate) use event::Event;
pub use event::Kind;
pub use tree::{Notice, NoticeKind, SessionOperation, TreeHistory, TreeOperation, tree};

/// A line is no longer, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// A history has no more lines.
pub const LINES_MAX: usize = 1_000_000;
/// A history is no longer, in bytes.
pub const HISTORY_BYTES_MAX: usize = 1 << 28;

/// What is wrong with a history, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {what}; {remedy}")]
pub struct HistoryError {
    /// Counted from 1; 0 if it is no line's fault.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl HistoryError {
    pub(crate) fn new(line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line, what: what.into(), remedy: remedy.into() }
    }
}

/// Which object the history is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// One register.
    Register,
    /// Independent keys.
    Kv,
    /// ZooKeeper's tree: writes are linearizable; reads may be stale but never go back within a session.
    Zookeeper,
    /// The same tree with linearizable reads.
    ZookeeperLinearizable,
}

impl ModelKind {
    /// Every kind, with its name on the command line.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("register", Self::Register),
        ("kv", Self::Kv),
        ("zookeeper", Self::Zookeeper),
        ("zookeeper-linearizable", Self::ZookeeperLinearizable),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for ModelKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            format!("no model is called {name:?}; take one of {}", names.join(", "))
        })
    }
}

/// An operation as two lines tell it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) lane: u64,
    pub(crate) call: u64,
    /// `None` if nobody knows.
    pub(crate) ret: Option<u64>,
    pub(crate) invoke: Event,
    /// The completion, if it is `ok`.
    pub(crate) reply: Option<Event>,
    /// Places of its lines in [`History::lines`].
    pub(crate) places: (usize, Option<usize>),
}

impl Told {
    /// The field of the completion, or else of the invocation.
    pub(crate) fn field<'a, T>(&'a self, get: impl Fn(&'a Event) -> Option<T>) -> Option<T> {
        self.reply.as_ref().and_then(&get).or_else(|| get(&self.invoke))
    }
}

/// A history whose lines have been paired, not yet read as operations of a model.
#[derive(Debug)]
pub struct History {
    /// The lines that are not blank, as they came.
    pub lines: Vec<String>,
    /// Their numbers, from 1.
    pub(crate) line_numbers: Vec<usize>,
    /// True if times order the events.
    pub timed: bool,
    pub(crate) told: Vec<Told>,
    pub(crate) inits: Vec<Event>,
    pub(crate) finals: Vec<(usize, Event)>,
    pub(crate) notices: Vec<(usize, u64, Event)>,
    pub(crate) names: Names,
}

/// Numbers for processes and sessions that may be called anything.
#[derive(Debug, Default)]
pub(crate) struct Names {
    numbers: HashMap<String, u64, Xxh3DefaultBuilder>,
    names: Vec<String>,
}

impl Names {
    /// The number of this name, from 1.
    pub(crate) fn number(&mut self, name: &str) -> u64 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.names.push(name.to_owned());
        let number = self.names.len() as u64;
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// All numbers and names.
    pub(crate) fn all(&self) -> std::collections::BTreeMap<u64, String> {
        (1..).zip(self.names.iter().cloned()).collect()
    }

    pub(crate) fn name(&self, number: u64) -> &str {
        usize::try_from(number).ok().and_then(|n| self.names.get(n.wrapping_sub(1))).map_or("?", String::as_str)
    }
}

impl History {
    /// Reads and pairs the lines.
    ///
    /// # Errors
    /// The first line that is not what the format says.
    pub fn read(reader: impl BufRead) -> Result<Self, HistoryError> {
        let (lines, events) = read_lines(reader)?;
        let (events, timed) = put_in_order(events)?;
        pair(lines, events, timed)
    }

    /// The model that the lines look like.
    #[must_use]
    pub fn model(&self) -> ModelKind {
        let finals = self.finals.iter().map(|(_, event)| event);
        let notices = self.notices.iter().map(|(_, _, event)| event);
        let asked = self.told.iter().map(|told| &told.invoke);
        let mut events = asked.chain(&self.inits).chain(finals).chain(notices);
        let mut keyed = false;
        let is_tree = events.any(|event| {
            keyed |= event.key.is_some();
            event.path.is_some() || event.ops.is_some()
        });
        if is_tree {
            ModelKind::Zookeeper
        } else if keyed {
            ModelKind::Kv
        } else {
            ModelKind::Register
        }
    }

    /// What a lane is called.
    #[must_use]
    pub fn lane_name(&self, lane: u64) -> &str {
        self.names.name(lane)
    }
}

/// The lines that are not blank, with their events.
fn read_lines(mut reader: impl BufRead) -> Result<(Vec<String>, Vec<Event>), HistoryError> {
    let (mut lines, mut events, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    for line in 1_usize.. {
        let mut raw = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut raw);
        let read = read.map_err(|e| HistoryError::new(line, format!("cannot be read ({e})"), "check the file"))?;
        if read == 0 {
            break;
        }
        bytes += read;
        if read > LINE_BYTES_MAX {
            let what = format!("is longer than {LINE_BYTES_MAX} bytes");
            return Err(HistoryError::new(line, what, "write one JSON object a line, and hashes of long values"));
        }
        if lines.len() >= LINES_MAX || bytes > HISTORY_BYTES_MAX {
            let what = format!("the history has more than {LINES_MAX} lines or {HISTORY_BYTES_MAX} bytes");
            return Err(HistoryError::new(line, what, "check a part of it"));
        }
        let text = std::str::from_utf8(&raw).map_err(|_| HistoryError::new(line, "is not UTF-8", "write JSON"))?.trim();
        if text.is_empty() {
            continue;
        }
        events.push(Event::parse(line, text)?);
        lines.push(text.to_owned());
    }
    Ok((lines, events))
}

/// Sets each event's moment; sorts by time if there are times. Each event keeps its place among the lines.
fn put_in_order(mut events: Vec<Event>) -> Result<(Vec<(usize, Event)>, bool), HistoryError> {
    let moving = |event: &Event| !matches!(event.kind, Kind::Init | Kind::Final);
    let timed =
        events.iter().filter(|e| moving(e)).all(|e| e.time.is_some()) && events.iter().any(|e| e.time.is_some());
    if !timed && let Some(odd) = events.iter().find(|e| e.time.is_some()) {
        return Err(HistoryError::new(
            odd.line,
            "has a time where other lines have none",
            "give every line a time, or none",
        ));
    }
    for (place, event) in events.iter_mut().enumerate() {
        event.moment = if timed { event.time.unwrap_or(0) } else { place as u64 };
    }
    let mut events: Vec<(usize, Event)> = events.into_iter().enumerate().collect();
    if timed {
        events.sort_by_key(|(place, event)| (event.moment, *place));
    }
    Ok((events, timed))
}

fn pair(lines: Vec<String>, events: Vec<(usize, Event)>, timed: bool) -> Result<History, HistoryError> {
    let mut line_numbers = vec![0; lines.len()];
    for (place, event) in &events {
        line_numbers[*place] = event.line;
    }
    let mut history = History {
        lines,
        line_numbers,
        timed,
        told: Vec::new(),
        inits: Vec::new(),
        finals: Vec::new(),
        notices: Vec::new(),
        names: Names::default(),
    };
    let mut open: Open = HashMap::default();
    let mut failed = std::collections::BTreeSet::new();
    for (place, event) in events {
        match event.kind {
            Kind::Init => history.inits.push(event),
            Kind::Final => history.finals.push((place, event)),
            Kind::Event => {
                let name = event.session_name().ok_or_else(|| {
                    HistoryError::new(event.line, "an event names no session", "add \"session\" or \"process\"")
                })?;
                let session = history.names.number(&name);
                history.notices.push((place, session, event));
            }
            Kind::Invoke => history.invoke(place, event, &mut open)?,
            Kind::Ok | Kind::Fail | Kind::Info => {
                let fails = event.kind == Kind::Fail;
                failed.extend(history.complete(place, event, &mut open)?.filter(|_| fails));
            }
        }
    }
    let mut which = 0;
    history.told.retain(|_| {
        which += 1;
        !failed.contains(&(which - 1))
    });
    Ok(history)
}

/// The open operation of each process.
type Open = HashMap<u64, usize, Xxh3DefaultBuilder>;

impl History {
    fn lane(&mut self, event: &Event) -> Result<(u64, String), HistoryError> {
        let Some(name) = event.process.clone() else {
            return Err(HistoryError::new(event.line, "names no process", "add \"process\": a number or a text"));
        };
        Ok((self.names.number(&name), name))
    }

    fn invoke(&mut self, place: usize, event: Event, open: &mut Open) -> Result<(), HistoryError> {
        let (lane, name) = self.lane(&event)?;
        if let Some(&before) = open.get(&lane) {
            let line = self.told[before].invoke.line;
            let what = format!("process {name} invokes while its operation of line {line} is still open");
            return Err(HistoryError::new(event.line, what, "use one process for each operation in flight"));
        }
        open.insert(lane, self.told.len());
        let call = event.moment;
        self.told.push(Told { lane, call, ret: None, invoke: event, reply: None, places: (place, None) });
        Ok(())
    }

    /// Closes the process's open operation, and says which it was.
    fn complete(&mut self, place: usize, event: Event, open: &mut Open) -> Result<Option<usize>, HistoryError> {
        let (lane, name) = self.lane(&event)?;
        let Some(which) = open.remove(&lane) else {
            // A process may report something that it never asked for, as Jepsen's nemesis does.
            if event.kind == Kind::Info {
                return Ok(None);
            }
            let what = format!("process {name} completes an operation that it never invoked");
            return Err(HistoryError::new(event.line, what, "write an \"invoke\" line before it"));
        };
        let told = &mut self.told[which];
        if event.f.is_some() && event.f != told.invoke.f {
            let line = told.invoke.line;
            let what = format!("process {name} completes another operation than it invoked in line {line}");
            return Err(HistoryError::new(event.line, what, "give both lines the same \"f\""));
        }
        if event.kind == Kind::Ok {
            told.ret = Some(event.moment);
            told.places.1 = Some(place);
            told.reply = Some(event);
        }
        Ok(Some(which))
    }
}
