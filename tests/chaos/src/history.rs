//! What clients saw, as lines that the checker reads (`docs/check-format.md`).
//!
//! - upon a request: `invoke`, at the moment before its bytes leave;
//! - upon its reply: `ok`, at the moment after it was read; an error that the server answers is `ok` with its name;
//! - upon anything else: `info`. Nobody knows;
//! - upon hearing that a session is over: `expire`, which may have happened at any time since its last reply.
//!
//! Lines of reads say whether the client had asked for linearizable ones, so that these can be judged by themselves.
//! Each client writes a tape of its own; tapes are joined when the phase is over, and times put them in order.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::operation::Operation;
use crate::session::{Identity, Reply, Session};

/// Counts of operations by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered, without an error.
    pub acknowledged: u64,
    /// Answered with an error: seen, and without effect.
    pub failed: u64,
    /// Never answered.
    pub unknown: u64,
}

impl Counts {
    /// Adds those of another.
    pub fn add(&mut self, other: Counts) {
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self.unknown += other.unknown;
    }
}

/// What one client saw.
#[derive(Debug)]
pub struct Tape {
    start: Instant,
    process: String,
    /// What the client's reads are: `linearizable` or `local`.
    reads: &'static str,
    /// The lines, in order.
    pub lines: Vec<String>,
    /// What became of its operations.
    pub counts: Counts,
    /// Persistent sequential nodes that were acknowledged.
    pub kept: Vec<String>,
}

impl Tape {
    /// A tape whose times count from `start`.
    #[must_use]
    pub fn new(start: Instant, process: impl Into<String>, linearizable: bool) -> Self {
        let reads = if linearizable { "linearizable" } else { "local" };
        Self { start, process: process.into(), reads, lines: Vec::new(), counts: Counts::default(), kept: Vec::new() }
    }

    /// Now, in nanoseconds from the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run is shorter than centuries")
    }

    fn write(&mut self, kind: &str, process: &str, session: &str, time: u64, mut fields: Json) {
        fields["type"] = json!(kind);
        fields["process"] = json!(process);
        fields["session"] = json!(session);
        fields["time"] = json!(time);
        self.lines.push(fields.to_string());
    }

    /// Asks, and writes down what was asked and what came of it.
    ///
    /// # Errors
    /// When there is no reply; the connection is then good for nothing.
    pub fn call(&mut self, session: &mut Session, operation: &Operation) -> Result<Answer> {
        let (process, name) = (self.process.clone(), session.identity.name());
        let reads = operation.is_read().then_some(self.reads);
        let with_reads = |mut line: Json| {
            if let Some(reads) = reads {
                line["reads"] = json!(reads);
            }
            line
        };
        self.write("invoke", &process, &name, self.now(), with_reads(operation.asked()));
        let (op, body) = operation.encode();
        let answered = session.call(op, &body).and_then(|reply| Ok((operation.answered(&reply)?, reply)));
        let now = self.now();
        match answered {
            Ok((line, reply)) => {
                let counted = if reply.err == 0 { &mut self.counts.acknowledged } else { &mut self.counts.failed };
                *counted += 1;
                if let (Operation::Create { ephemeral: false, sequential: true, .. }, Some(made)) =
                    (operation, line["created"].as_str())
                {
                    self.kept.push(made.to_owned());
                }
                self.write("ok", &process, &name, now, with_reads(line.clone()));
                Ok(Answer { line, reply })
            }
            Err(error) => {
                self.counts.unknown += 1;
                self.write("info", &process, &name, now, with_reads(json!({ "why": error.to_string() })));
                Err(error)
            }
        }
    }

    /// The session was found to be over; its last reply came at `since`.
    pub fn expired(&mut self, identity: &Identity, since: u64) {
        let (process, name) = (format!("end of {}", identity.name()), identity.name());
        self.write("invoke", &process, &name, since, json!({ "f": "expire" }));
        self.write("ok", &process, &name, self.now(), json!({ "f": "expire" }));
    }
}

/// A reply, and the line that tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The fields of the `ok` line.
    pub line: Json,
    /// As it came.
    pub reply: Reply,
}

/// A line for what a reader found when all was over.
///
/// # Errors
/// When the reply does not decode.
pub fn last_read(operation: &Operation, reply: &Reply) -> Result<String> {
    let mut line = operation.asked();
    let answered = operation.answered(reply)?;
    for (field, value) in answered.as_object().into_iter().flatten() {
        line[field] = value.clone();
    }
    line["type"] = json!("final");
    Ok(line.to_string())
}
