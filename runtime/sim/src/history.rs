//! What the clients of a world saw, in the lines that `verity-checker` judges (`docs/check-format.md`).
//!
//! - upon a request: an `invoke`. Requests of one session that are under way together are processes of their own, for
//!   they share the session, whose order is theirs;
//! - upon its answer: an `ok`, errors included; upon the end of the connection: an `info`, for nobody knows;
//! - upon a watch event: an `event`.
//!
//! Deliberately absent: times. The order of the lines is the order of the world's time.

use std::fmt::Write as _;

use verity_checker::linearizability::Limits;
use verity_checker::{ModelKind, Verdict, check};

/// A search for an order is given up after so many steps: some histories with many unknown outcomes are dear.
const STEPS_MAX: u64 = 30_000;
/// And remembers at most so many configurations.
const CONFIGURATIONS_MAX: usize = 30_000;

/// A history, line by line.
#[derive(Default)]
pub(crate) struct History {
    lines: String,
}

impl History {
    /// `process` asks `f` in `session`; `more` holds further fields, each behind a comma.
    pub(crate) fn invoke(&mut self, process: &str, session: i64, f: &str, more: &str) {
        self.line(process, "invoke", &format!(r#","session":"{session:x}","f":"{f}"{more}"#));
    }

    /// It was answered.
    pub(crate) fn ok(&mut self, process: &str, zxid: i64, more: &str) {
        if zxid > 0 {
            self.line(process, "ok", &format!(r#","zxid":{zxid}{more}"#));
        } else {
            self.line(process, "ok", more);
        }
    }

    /// Nobody knows what came of it.
    pub(crate) fn info(&mut self, process: &str) {
        self.line(process, "info", "");
    }

    /// A session was told of a change.
    pub(crate) fn event(&mut self, session: i64, path: &str, kind: i32) {
        let kind = match kind {
            1 => "created",
            2 => "deleted",
            4 => "children",
            _ => "changed",
        };
        let _ = writeln!(
            self.lines,
            r#"{{"type":"event","process":"{session:x}","session":"{session:x}","path":"{path}","event":"{kind}"}}"#
        );
    }

    fn line(&mut self, process: &str, kind: &str, more: &str) {
        let _ = writeln!(self.lines, r#"{{"process":"{process}","type":"{kind}"{more}}}"#);
    }

    /// The checker's verdict.
    ///
    /// # Errors
    /// Which law is broken, and how.
    pub(crate) fn judge(&self) -> Result<(), String> {
        let limits = Limits { steps_max: STEPS_MAX, configurations_max: CONFIGURATIONS_MAX };
        match check(self.lines.as_bytes(), Some(ModelKind::Zookeeper), &limits) {
            Ok(Verdict::Ok { .. } | Verdict::Unknown { .. }) => Ok(()),
            Ok(Verdict::Violation(violation)) => Err(format!("{}: {}", violation.law, violation.words)),
            Err(error) => Err(format!("the history is not one: {error}")),
        }
    }

    /// The lines.
    pub(crate) fn lines(&self) -> &str {
        &self.lines
    }
}
