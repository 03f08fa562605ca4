//! What only the leader of the metadata does: see whether nodes are there (KIP-631's broker heartbeats, without an order).
//!
//! - upon leading: every node gets its full time anew, since nobody knows when it was last heard;
//! - upon a whisper of a node: it is there;
//! - upon a node that was not heard for [`SESSION_MS`]: it is fenced. Topics to come avoid it, and clients are not sent to it;
//! - upon a fenced node that is heard: it is fenced no more.
//!
//! Deliberately absent: who leads partitions. Their groups see to that by themselves, and faster.

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Duty, DutyInput, DutyOutput, ReadOutcome, StateMachine};
use verity_types::{Mono, Nanos};

use super::command::{Command, Query};
use super::image::ClusterImage;
use crate::machine::codec;

/// A node that is not heard for so long is fenced (`broker.session.timeout.ms`).
pub const SESSION_MS: u64 = 9_000;
const LOOK: Nanos = Nanos::from_millis(1_000);

/// What a node whispers to say that it is there.
#[must_use]
pub fn alive(node: i32) -> Bytes {
    codec::encode(&node)
}

/// Leader-only work of the metadata.
#[derive(Debug, Default)]
pub struct ClusterDuty {
    heard: BTreeMap<i32, Mono>,
    since: Mono,
    wake_at: Option<Mono>,
}

impl ClusterDuty {
    /// A duty that waits to lead.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn look(&mut self, now: Now, machine: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        let ReadOutcome::Ready(bytes) = machine.read(&Query::Snapshot.encode()) else { return };
        let Ok(image) = ClusterImage::from_snapshot(&bytes) else { return };
        for node in image.nodes() {
            let heard = self.heard.get(&node.id).copied();
            let silent = now.mono.since(heard.unwrap_or(self.since)) >= Nanos::from_millis(SESSION_MS);
            let fenced = if node.fenced { silent || heard.is_none() } else { silent };
            if fenced != node.fenced {
                out.push(DutyOutput::Propose(Command::Fence { id: node.id, fenced }.encode()));
            }
        }
    }

    fn sleep(&mut self, now: Now, out: &mut Vec<DutyOutput>) {
        let at = now.mono + LOOK;
        self.wake_at = Some(at);
        out.push(DutyOutput::Wake(at));
    }
}

impl Duty for ClusterDuty {
    fn on(&mut self, now: Now, input: DutyInput<'_>, out: &mut Vec<DutyOutput>) {
        match input {
            DutyInput::Lead(_) => {
                self.since = now.mono;
                self.sleep(now, out);
            }
            DutyInput::Whisper { bytes, .. } => {
                if let Ok(node) = codec::decode::<i32>(&bytes) {
                    self.heard.insert(node, now.mono);
                }
            }
            // A wake that was asked for while this node led before is not the one that is waited for.
            DutyInput::Wake(machine) if self.wake_at.is_some_and(|at| now.mono >= at) => {
                self.look(now, machine, out);
                self.sleep(now, out);
            }
            DutyInput::Follow => *self = Self::default(),
            DutyInput::Wake(_) | DutyInput::Event { .. } | DutyInput::Reconfigured(_) => {}
        }
    }
}
