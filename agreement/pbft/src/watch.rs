//! What a message says, for people who watch.

use std::fmt;

use bytes::Bytes;
use verity_types::Digest;

use crate::message::{Message, Scope, parse};

/// The core of a message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Said {
    /// Its name in the paper.
    pub kind: &'static str,
    /// In which view.
    pub view: Option<u64>,
    /// About which sequence number.
    pub n: Option<u64>,
    /// About which batch, request or state.
    pub digest: Option<Digest>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        let mut parts = Vec::new();
        parts.extend(self.view.map(|view| format!("view {view}")));
        parts.extend(self.n.map(|n| format!("n {n}")));
        parts.extend(self.digest.map(|digest| digest.to_string()[..8].to_owned()));
        if parts.is_empty() { Ok(()) } else { write!(f, "({})", parts.join(", ")) }
    }
}

/// What a message says to a group's members; none if it is of housekeeping alone, or no message.
#[must_use]
pub fn describe(scope: &Scope, bytes: Bytes) -> Option<Said> {
    let (_, message) = parse(bytes).ok()?;
    let said = |kind, view, n, digest| Some(Said { kind, view, n, digest });
    match message {
        Message::Request(request) => said("request", None, None, Some(scope.request(&request))),
        Message::PrePrepare { view, n, batch, .. } => {
            said("pre-prepare", Some(view), Some(n), Some(scope.batch(&batch)))
        }
        Message::Prepare { view, n, digest, .. } => said("prepare", Some(view), Some(n), Some(digest)),
        Message::Commit { view, n, digest, .. } => said("commit", Some(view), Some(n), Some(digest)),
        Message::Checkpoint { n, digest, .. } => said("checkpoint", None, Some(n), Some(digest)),
        Message::ViewChange(change) => said("view-change", Some(change.view), None, None),
        Message::NewView(new) => said("new-view", Some(new.view), None, None),
        _ => None,
    }
}
