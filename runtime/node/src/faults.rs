//! Faults that an operator puts into a running node on purpose: `verity fault`.
//!
//! They act where the world would act: between the node and its network, its clock, its disk. The replica cannot tell
//! them from the real thing.
//!
//! Deliberately absent: crashes and pauses, which whoever runs the node brings about.

use std::collections::BTreeSet;
use std::time::Duration;

use verity_types::NodeId;

/// No sync is made slower than by this.
pub const DISK_DELAY_MAX: Duration = Duration::from_secs(600);

/// The faults in force on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nothing is sent to these peers.
    pub send_cut: BTreeSet<NodeId>,
    /// Nothing that these peers send is heard.
    pub receive_cut: BTreeSet<NodeId>,
    /// How far civil time is moved, in milliseconds.
    pub clock_skew_ms: i64,
    /// Each sync takes this much longer.
    pub disk_delay: Duration,
}

impl Faults {
    /// True if nothing is broken on purpose.
    #[must_use]
    pub fn is_healed(&self) -> bool {
        *self == Self::default()
    }
}
