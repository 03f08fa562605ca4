//! Questions about the node: what they need from the tree, and whom the answer goes to.
//!
//! A question collects, read by read, only what its answer shows. Deliberately absent: the answers' texts.

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Consistency, Failure, GroupFacts};
use verity_types::ConnId;

use super::port::Waits;
use super::service::ZooKeeper;
use crate::machine::{
    self, Ensemble, Reply, SESSION_COUNT_MAX, SessionEphemerals, SessionRow, SessionsQuery, TreeStatus, internal,
};
use crate::wire::Decode as _;

/// The most sessions that one answer lists.
const LISTED_MAX: usize = 1 << 16;

/// Whom the answer goes to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Word { conn: ConnId, word: String },
    Command { conn: ConnId, name: String },
}

impl Target {
    fn conn(&self) -> ConnId {
        match self {
            Self::Word { conn, .. } | Self::Command { conn, .. } => *conn,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Status,
    Sessions(i64),
    Ephemerals(i64),
    Facts,
    Ensemble,
    Answer,
}

/// A question and what is known for its answer.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) target: Target,
    step: Step,
    pub(super) status: TreeStatus,
    pub(super) sessions: Vec<SessionRow>,
    pub(super) ephemerals: Vec<(i64, Vec<String>)>,
    pub(super) facts: GroupFacts,
    pub(super) ensemble: Option<Ensemble>,
}

impl Question {
    pub(super) fn new(target: Target) -> Self {
        let name = match &target {
            Target::Word { word, .. } => word,
            Target::Command { name, .. } => name,
        };
        let step = match name.as_str() {
            "srvr" | "stat" | "mntr" | "stats" | "server_stats" | "monitor" | "hash" | "last_snapshot" => Step::Status,
            "dump" => Step::Sessions(i64::MIN),
            "dirs" | "observers" => Step::Facts,
            "voting_view" => Step::Ensemble,
            _ => Step::Answer,
        };
        Self {
            target,
            step,
            status: TreeStatus::default(),
            sessions: Vec::new(),
            ephemerals: Vec::new(),
            facts: GroupFacts::default(),
            ensemble: None,
        }
    }

    /// Figures of the tree are told beside those of the group.
    fn needs_facts(&self) -> bool {
        let (Target::Word { word: name, .. } | Target::Command { name, .. }) = &self.target;
        matches!(name.as_str(), "mntr" | "monitor" | "hash")
    }

    /// Takes an answer in and decides what to ask next.
    fn take(&mut self, body: &[u8]) {
        let last = |list: &[SessionRow]| list.last().map(|row| row.session);
        self.step = match self.step {
            Step::Status => {
                self.status = TreeStatus::from_bytes(body).expect("the tree answers whole records");
                if self.needs_facts() { Step::Facts } else { Step::Answer }
            }
            Step::Sessions(_) => {
                let rows = Vec::<SessionRow>::from_bytes(body).expect("the tree answers whole records");
                let next = last(&rows).filter(|_| rows.len() == SESSION_COUNT_MAX && self.sessions.len() < LISTED_MAX);
                self.sessions.extend(rows);
                next.map_or(Step::Ephemerals(i64::MIN), Step::Sessions)
            }
            Step::Ephemerals(after) => {
                let list = Vec::<SessionEphemerals<'_>>::from_bytes(body).expect("the tree answers whole records");
                let owned = list.iter().map(|e| (e.session, e.paths.iter().map(|path| (*path).to_owned()).collect()));
                self.ephemerals.extend(owned);
                // A page covers so many sessions, with ephemerals or without.
                let at = self.sessions.partition_point(|row| row.session <= after) + SESSION_COUNT_MAX;
                self.sessions.get(at - 1).map_or(Step::Answer, |row| Step::Ephemerals(row.session))
            }
            Step::Ensemble => {
                let text = Option::<&[u8]>::from_bytes(body).expect("the tree answers whole records");
                let text = text.and_then(|text| std::str::from_utf8(text).ok());
                self.ensemble = text.and_then(Ensemble::parse);
                Step::Answer
            }
            Step::Facts | Step::Answer => unreachable!("the tree was not asked"),
        };
    }
}

impl ZooKeeper {
    /// Asks the tree the next thing, or answers.
    pub(super) fn ask(&mut self, now: Now, question: Question) {
        let page = |after| SessionsQuery { after, count_max: i32::try_from(SESSION_COUNT_MAX).unwrap_or(i32::MAX) };
        let query = match question.step {
            Step::Status => machine::query(internal::STATUS, &0i32),
            Step::Sessions(after) => machine::query(internal::SESSIONS, &page(after)),
            Step::Ephemerals(after) => machine::query(internal::EPHEMERALS, &page(after)),
            Step::Ensemble => machine::query(internal::ENSEMBLE, &0i32),
            Step::Facts => return self.port.inspect(Waits::Inspect(Box::new(question))),
            Step::Answer => return self.tell_answer(now, &question),
        };
        self.port.read(query, Consistency::Local, Waits::Inspect(Box::new(question)));
    }

    pub(super) fn on_inspected(&mut self, now: Now, mut question: Question, result: Result<Bytes, Failure>) {
        let conn = question.target.conn();
        if !self.conns.contains_key(&conn) {
            return;
        }
        let Ok(answer) = result else { return self.close(conn) };
        if question.step == Step::Facts {
            question.facts = GroupFacts::decode(answer).expect("the replica answers whole facts");
            question.step = Step::Answer;
            return self.ask(now, question);
        }
        let reply = Reply::decode(&answer).expect("the tree answers whole heads");
        question.take(reply.body);
        self.ask(now, question);
    }

    fn tell_answer(&mut self, now: Now, question: &Question) {
        let (conn, text) = match &question.target {
            Target::Word { conn, word } => (*conn, self.word(now, word, question)),
            Target::Command { conn, name } => (*conn, self.command(now, name, question)),
        };
        self.port.text(conn, &text);
        self.close(conn);
    }
}
