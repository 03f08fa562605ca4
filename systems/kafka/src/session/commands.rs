//! Commands for the metadata's machine on behalf of clients, and what came of them.
//!
//! - upon several commands of one request: they are placed in the order at the same time, at most [`AT_ONCE`] of them;
//! - upon a refusal: it is passed on, in the machine's own code and words;
//! - upon no answer: the client is told by a code that it may try again.
//!
//! The answer to a command comes behind its event: what a client is told to be done can be seen in this node's image.
//!
//! Deliberately absent: who may ask for what, which stands with each request.

use super::node::Node;
use super::topics::outcome;
use crate::machine::cluster::{Command, Outcome, Refusal};
use crate::wire::ErrorCode;

/// No request has more commands under way at once.
const AT_ONCE: usize = 256;
/// How long commands may take of requests that do not say it.
pub(super) const TIMEOUT_MS: i32 = 15_000;
/// A client that says that it does not want to wait waits for so long: without an answer there is nothing to tell it.
const TIMEOUT_MS_MIN: i32 = 5_000;
/// No client waits for longer.
const TIMEOUT_MS_MAX: i32 = 120_000;

/// What came of something that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) error: ErrorCode,
    pub(super) message: Option<String>,
    pub(super) outcome: Outcome,
}

impl Verdict {
    /// It is not done.
    pub(super) fn refused(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()), outcome: Outcome::Plain }
    }

    /// It is not done, for a reason that the code says well enough.
    pub(super) fn of(error: ErrorCode) -> Self {
        Self { error, message: standard_message(error).map(str::to_owned), outcome: Outcome::Plain }
    }

    /// True if it is done.
    pub(super) fn is_done(&self) -> bool {
        self.error == ErrorCode::NONE
    }
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal.error, refusal.message)
    }
}

/// What Kafka says where it has no more to say than the code.
pub(super) fn standard_message(error: ErrorCode) -> Option<&'static str> {
    Some(match error {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => "Topic authorization failed.",
        ErrorCode::GROUP_AUTHORIZATION_FAILED => "Group authorization failed.",
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => "Cluster authorization failed.",
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => "This server does not host this topic-partition.",
        ErrorCode::UNKNOWN_TOPIC_ID => "This server does not host this topic ID.",
        ErrorCode::REQUEST_TIMED_OUT => "The request timed out.",
        ErrorCode::NOT_CONTROLLER => "This is not the correct controller for this cluster.",
        ErrorCode::THROTTLING_QUOTA_EXCEEDED => "The throttling quota has been exceeded.",
        ErrorCode::NONE => return None,
        _ => "The server experienced an unexpected error when processing the request.",
    })
}

/// How long a client waits that says so.
pub(super) fn bounded(timeout_ms: i32) -> i32 {
    timeout_ms.clamp(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX)
}

/// Has these commands decided, each for itself. The verdicts are in the order of the commands.
pub(super) async fn decide(node: &Node, commands: Vec<Command>, timeout_ms: i32) -> Vec<Verdict> {
    let (_, group) = node.groups();
    let until = node.in_ms(timeout_ms);
    let mut verdicts = Vec::with_capacity(commands.len());
    for together in commands.chunks(AT_ONCE) {
        let asked: Vec<_> = together.iter().map(|command| node.propose(group, command.encode())).collect();
        for answer in asked {
            verdicts.push(match outcome(answer.by(until).await) {
                Ok(reply) => Verdict { error: reply.error, message: reply.message, outcome: reply.outcome },
                Err(error) => Verdict::of(error),
            });
        }
    }
    verdicts
}

/// Has what may be decided decided: what is refused already keeps its verdict and its place.
pub(super) async fn decide_some(node: &Node, planned: Vec<Result<Command, Verdict>>, timeout_ms: i32) -> Vec<Verdict> {
    let commands = planned.iter().filter_map(|plan| plan.as_ref().ok().cloned()).collect();
    let mut decided = decide(node, commands, timeout_ms).await.into_iter();
    let verdict = |plan: Result<Command, Verdict>| match plan {
        Ok(_) => decided.next().expect("every command has a verdict"),
        Err(verdict) => verdict,
    };
    planned.into_iter().map(verdict).collect()
}
