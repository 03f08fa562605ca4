//! What may reach the engine's `step`.
//!
//! The engine trusts its peers and answers nonsense with a panic. A peer is authenticated, not infallible: it may run
//! another version or have lost its disk. So every message is compared with our own log first:
//!
//! - upon any message: its term is not 0 (the engine takes that for a local call);
//! - upon a heartbeat: its commit index is not beyond our log;
//! - upon an append: it names a term exactly if it follows an entry, its terms never fall and never exceed its own;
//! - upon an append's answer: it does not acknowledge what we never had;
//! - upon a snapshot: it has members, it is behind nothing we committed otherwise, and we take part in it;
//! - upon a vote's answer: our own log is stable, since the engine asserts it when it becomes leader;
//! - upon `TimeoutNow`: it comes from the leader whom we follow;
//! - upon a request for a vote: no lease that we acknowledged still runs, unless the leader itself hands over. Who is
//!   blank votes for nobody: it may have been a member before, and have forgotten for whom it voted.
//!
//! Requests from nodes that are no members pass, since our members may be old; answers from them do not.

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};
use verity_types::{Mono, NodeId};

use crate::Error;
use crate::engine::Raft;
use crate::message::{TRANSFER, check_members, to_members};

fn invalid(what: &str) -> Result<(), Error> {
    Err(Error::InvalidMessage(what.to_owned()))
}

impl Raft {
    /// Checks a decoded message against the local state.
    pub(crate) fn guard(&self, m: &Message) -> Result<(), Error> {
        let core = &self.node.raft;
        if m.from == 0 || m.from == self.id.0 {
            return invalid("the sender is nobody, or this node itself");
        }
        if m.term == 0 {
            return invalid("term 0");
        }
        match m.get_msg_type() {
            MessageType::MsgHeartbeat if m.commit > core.raft_log.last_index() => {
                invalid("a heartbeat commits beyond this log")
            }
            MessageType::MsgAppend => self.guard_append(m),
            MessageType::MsgAppendResponse => {
                let last = core.raft_log.last_index();
                // An answer to an earlier leader may name more than we have; the engine ignores its old term.
                if m.term == core.term && (m.request_snapshot > last || (!m.reject && m.index > last)) {
                    return invalid("an answer about entries that this log never had");
                }
                Ok(())
            }
            MessageType::MsgSnapshot => self.guard_snapshot(m),
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse
                if !self.log_is_stable() && core.state != StateRole::Leader && !m.reject =>
            {
                invalid("a vote while entries of this node are not stable")
            }
            MessageType::MsgTimeoutNow if self.is_blank() => invalid("a transfer to a node that does not vote yet"),
            MessageType::MsgTimeoutNow if m.term != core.term || m.from != core.leader_id || !self.log_is_stable() => {
                invalid("a transfer that the leader of this term did not ask for")
            }
            _ => Ok(()),
        }
    }

    fn guard_append(&self, m: &Message) -> Result<(), Error> {
        if (m.index == 0) != (m.log_term == 0) {
            return invalid("an append behind an entry without a term");
        }
        let mut before = m.log_term;
        for (offset, entry) in (1u64..).zip(m.entries.iter()) {
            if entry.index != m.index + offset {
                return invalid("an append with a gap");
            }
            if entry.term == 0 || entry.term < before || entry.term > m.term {
                return invalid("an append whose terms fall or exceed its own");
            }
            before = entry.term;
        }
        // The engine compares entries behind the commit index alone; one that contradicts it is another history.
        let log = &self.node.raft.raft_log;
        let clashes = |index: u64, term: u64| {
            index > 0 && index <= log.committed && index + 1 >= log.first_index() && !log.match_term(index, term)
        };
        if clashes(m.index, m.log_term) || m.entries.iter().any(|entry| clashes(entry.index, entry.term)) {
            return invalid("an append that contradicts a committed entry");
        }
        Ok(())
    }

    fn guard_snapshot(&self, m: &Message) -> Result<(), Error> {
        let meta = m.get_snapshot().get_metadata();
        if meta.index == 0 || meta.term == 0 || meta.term > m.term {
            return invalid("a snapshot of nothing, or from a later term than its sender's");
        }
        let members = to_members(meta.get_conf_state());
        check_members(&members)?;
        if !members.contains(self.id) {
            return invalid("a snapshot of a group that this node is not in");
        }
        let log = &self.node.raft.raft_log;
        if meta.index == log.committed && !log.match_term(meta.index, meta.term) {
            return invalid("a snapshot that contradicts a committed entry");
        }
        Ok(())
    }

    /// True if a request for a vote has to wait: a leader may still answer barriers by a lease that we acknowledged, in
    /// this life or, as far as we can tell, in the one before.
    pub(crate) fn holds_vote(&self, m: &Message, now: Mono) -> bool {
        let asks = matches!(m.get_msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        if asks && self.is_blank() {
            return true;
        }
        asks && m.context != TRANSFER && self.heard_leader_at.is_some_and(|at| now < at + self.config.hold())
    }

    /// True if `from` is the leader of the current term, as far as this message shows.
    pub(crate) fn is_from_leader(&self, m: &Message) -> bool {
        let leads =
            matches!(m.get_msg_type(), MessageType::MsgHeartbeat | MessageType::MsgAppend | MessageType::MsgSnapshot);
        leads && m.term >= self.node.raft.term
    }

    /// True if `node` is a member in any role.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.node.raft.prs().get(node.0).is_some()
    }
}
