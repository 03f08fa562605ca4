//! What the leader sees to: that there is a first block, and empty ones if they are wished for.

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Duty, DutyInput, DutyOutput, ReadOutcome, StateMachine};
use verity_types::Mono;

use super::config::DutyConfig;
use crate::machine::{Command, Query, Topic, decode_answer};

/// Leader-only work of a ledger's group.
#[derive(Debug)]
pub struct LedgerDuty {
    config: DutyConfig,
    leads: bool,
    /// A block stood since the last moment.
    moved: bool,
    /// When an empty block is due. A moment that an earlier time as leader asked for is none.
    due: Option<Mono>,
}

impl LedgerDuty {
    /// A duty that waits to lead.
    #[must_use]
    pub fn new(config: DutyConfig) -> Self {
        Self { config, leads: false, moved: false, due: None }
    }

    fn cut(out: &mut Vec<DutyOutput>) {
        out.push(DutyOutput::Propose(Command::Cut.encode().join()));
    }

    fn wait(&mut self, now: Now, out: &mut Vec<DutyOutput>) {
        self.due = self.config.empty_blocks.map(|interval| now.mono + interval);
        out.extend(self.due.map(DutyOutput::Wake));
    }
}

/// True if there is no block.
fn is_new(ledger: &mut dyn StateMachine) -> bool {
    let ReadOutcome::Ready(answer) = ledger.read(&Query::Status.encode()) else { return false };
    let status: Option<serde_json::Value> =
        decode_answer(&answer).ok().and_then(|json: Bytes| serde_json::from_slice(&json).ok());
    status.is_some_and(|status| status["latest_block_height"] == "0")
}

impl Duty for LedgerDuty {
    fn on(&mut self, now: Now, input: DutyInput<'_>, out: &mut Vec<DutyOutput>) {
        match input {
            DutyInput::Lead(ledger) => {
                self.leads = true;
                if is_new(ledger) {
                    Self::cut(out);
                }
                self.wait(now, out);
            }
            DutyInput::Follow => (self.leads, self.due) = (false, None),
            DutyInput::Event { topic, .. } => self.moved |= topic == Topic::BLOCK,
            DutyInput::Wake(_) if self.leads && self.due.is_some_and(|due| due <= now.mono) => {
                if !std::mem::take(&mut self.moved) {
                    Self::cut(out);
                }
                self.wait(now, out);
            }
            DutyInput::Wake(_) | DutyInput::Whisper { .. } | DutyInput::Reconfigured(_) => {}
        }
    }
}
