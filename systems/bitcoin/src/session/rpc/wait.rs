//! Calls that wait, and what for.
//!
//! They are looked at after each input; a call whose client went away is forgotten. At the end of the node each is answered
//! with what there is.

use bitcoin::BlockHash;

use super::call::{Args, Call};
use super::error::RpcError;
use super::json::Json;
use super::methods::template;

/// Which of the calls that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitId(pub u64);

/// What a call waits for. Moments are those of the steady clock, in milliseconds.
#[derive(Debug)]
pub enum Wait {
    /// Another tip than this one.
    Change {
        /// This one.
        from: BlockHash,
        /// No longer than until then.
        until: Option<u64>,
    },
    /// This tip.
    Tip {
        /// This one.
        hash: BlockHash,
        /// No longer than until then.
        until: Option<u64>,
    },
    /// A tip at least this high.
    Height {
        /// This high.
        height: i64,
        /// No longer than until then.
        until: Option<u64>,
    },
    /// What becomes of a connection that was asked for.
    Dial {
        /// To this address.
        addr: String,
        /// The answer then, whatever it is.
        answer: Json,
    },
    /// A template that is worth asking for again: another tip, or after a while another mempool.
    Template {
        /// Upon which the last one stood.
        tip: BlockHash,
        /// The mempool's count of changes at that moment.
        sequence: u64,
        /// The mempool is not looked at before.
        mempool_from: u64,
        /// With which arguments it was asked for.
        args: Args,
    },
}

impl Wait {
    /// The answer, once there is one; by all means if the node `ends`.
    pub(super) fn poll(&self, call: &mut Call<'_, '_>, ends: bool) -> Option<Result<Json, RpcError>> {
        let now = call.ctx.now_ms;
        let tip = call.chain().entry(call.chain().tip());
        let over = |until: &Option<u64>| ends || until.is_some_and(|until| until <= now);
        let done = match self {
            Self::Change { from, until } => tip.hash != *from || over(until),
            Self::Tip { hash, until } => tip.hash == *hash || over(until),
            Self::Height { height, until } => i64::from(tip.height) >= *height || over(until),
            Self::Dial { addr, answer } => {
                let over = ends || !call.ctx.peers.is_dialing(addr);
                return over.then(|| Ok(answer.clone()));
            }
            Self::Template { tip: from, sequence, mempool_from, args } => {
                if ends {
                    let code = super::error::code::CLIENT_NOT_CONNECTED;
                    return Some(Err(RpcError::new(code, "Shutting down")));
                }
                let changed = *mempool_from <= now && call.mempool().sequence() != *sequence;
                return (tip.hash != *from || changed).then(|| template::make(call, args));
            }
        };
        let (hash, height) = (tip.hash, tip.height);
        done.then(|| Ok(Json::obj().with("hash", hash).with("height", height)))
    }

    /// The latest moment at which it must be looked at.
    pub(super) fn until(&self) -> Option<u64> {
        match self {
            Self::Change { until, .. } | Self::Tip { until, .. } | Self::Height { until, .. } => *until,
            // The host gives up by itself.
            Self::Dial { .. } => None,
            Self::Template { mempool_from, .. } => Some(*mempool_from),
        }
    }
}
