//! The network between nodes: delays, losses, doubles, reordering, partitions.
//!
//! Deliberately absent: the network between clients and nodes, which is a stream (see [`crate::world`]).

use std::collections::BTreeSet;

use fastrand::Rng;
use verity_types::NodeId;

/// A stream sends again what nobody acknowledged for so long, in nanoseconds.
const RESEND: u64 = 200_000_000;

/// How the network is right now.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Shortest way, in nanoseconds.
    pub(crate) delay_min: u64,
    /// Longest way, in nanoseconds, but for a straggler.
    pub(crate) delay_max: u64,
    /// One message in so many is lost; 0 for none.
    pub(crate) loss: u32,
    /// One message in so many is doubled; 0 for none.
    pub(crate) double: u32,
    /// One message in so many takes ten times as long; 0 for none.
    pub(crate) straggle: u32,
    /// Messages on a link keep their order, as on a TCP connection.
    pub(crate) in_order: bool,
    /// Directions that are cut.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
}

impl Network {
    /// A network without faults.
    pub(crate) fn calm() -> Self {
        Self {
            delay_min: 50_000,
            delay_max: 300_000,
            loss: 0,
            double: 0,
            straggle: 0,
            in_order: true,
            cut: BTreeSet::new(),
        }
    }

    /// True if nothing passes between two nodes as a stream needs it: in both directions.
    pub(crate) fn stalls(&self, one: NodeId, other: NodeId) -> bool {
        self.cut.contains(&(one, other)) || self.cut.contains(&(other, one))
    }

    /// How long bytes of a stream take, and whether something befell them: what is lost is sent again.
    pub(crate) fn stream_delay(&self, rng: &mut Rng) -> (u64, bool) {
        let delay = rng.u64(self.delay_min..=self.delay_max);
        let mut chance = |one_in: u32| one_in > 0 && rng.u32(0..one_in) == 0;
        if chance(self.loss) {
            return (delay + RESEND, true);
        }
        if chance(self.straggle) { (delay * 10, true) } else { (delay, false) }
    }

    /// How long each copy of a message takes; none if it is lost.
    pub(crate) fn fate(&self, from: NodeId, to: NodeId, rng: &mut Rng) -> Vec<u64> {
        let chance = |rng: &mut Rng, one_in: u32| one_in > 0 && rng.u32(0..one_in) == 0;
        if self.cut.contains(&(from, to)) || chance(rng, self.loss) {
            return Vec::new();
        }
        let copies = if chance(rng, self.double) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let delay = rng.u64(self.delay_min..=self.delay_max);
                if chance(rng, self.straggle) { delay * 10 } else { delay }
            })
            .collect()
    }
}
