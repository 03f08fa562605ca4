//! Twin: two honest copies of one replica with one key, each of which half of the others talks to (Bano et al., "Twins: BFT
//! Systems Made Robust", OPODIS 2021).
//!
//! Neither copy lies; that there are two of them does.

use bytes::Bytes;
use verity_contract::{Agreement, AgreementStatus, Input, Output, Verdict, Witness};
use verity_types::{LogIndex, Mono, Nanos, NodeId, WallMs};

use crate::engine::Pbft;

/// Both copies. The first one's state is what the driver sees.
pub struct Twin {
    first: Pbft,
    second: Pbft,
    /// Counts what was proposed, so that the copies ask for different things.
    proposed: u64,
}

impl Twin {
    /// Makes a twin of two replicas that were started alike.
    #[must_use]
    pub fn new(first: Pbft, second: Pbft) -> Self {
        Self { first, second, proposed: 0 }
    }

    fn is_first(&self, node: NodeId) -> bool {
        let others = self.first.voters.iter().filter(|voter| **voter != self.first.id);
        others.into_iter().position(|voter| *voter == node).is_none_or(|at| at % 2 == 0)
    }

    /// The second copy's disk is instant, and its driver has nothing against anything.
    fn step_second(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        let mut outputs = Vec::new();
        self.second.on(now, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Send { to, .. } if self.is_first(to) => {}
                Output::Send { .. } => out.push(output),
                Output::Persist { id, .. } => self.step_second(now, Input::Persisted(id), out),
                Output::Judge { index, .. } => {
                    self.step_second(now, Input::Verdict { index, verdict: Verdict::Accept }, out);
                }
                _ => {}
            }
        }
    }
}

impl Agreement for Twin {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        let to_second = match &input {
            Input::Message { from, .. } => !self.is_first(*from),
            Input::Tick => {
                self.step_second(now, Input::Tick, out);
                false
            }
            Input::Propose(op) => {
                self.proposed += 1;
                if self.proposed.is_multiple_of(2) {
                    self.step_second(now, Input::Propose(Bytes::clone(op)), out);
                    return;
                }
                false
            }
            _ => false,
        };
        if to_second {
            return self.step_second(now, input, out);
        }
        let mut outputs = Vec::new();
        self.first.on(now, input, &mut outputs);
        let others = |output: &Output| matches!(output, Output::Send { to, .. } if !self.is_first(*to));
        out.extend(outputs.into_iter().filter(|output| !others(output)));
    }

    fn set_wall(&mut self, now: Mono, wall: WallMs) {
        self.first.set_wall(now, wall);
        self.second.set_wall(now, wall);
    }

    fn snapshot_context(&self, index: LogIndex) -> Option<Bytes> {
        self.first.snapshot_context(index)
    }

    fn tick_interval(&self) -> Nanos {
        self.first.tick_interval()
    }

    fn status(&self) -> AgreementStatus {
        self.first.status()
    }

    fn invariants(&self) {}

    fn witness(&self) -> Option<&dyn Witness> {
        self.first.witness()
    }
}
