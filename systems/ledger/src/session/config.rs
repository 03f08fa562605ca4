//! What a node's service is told at its start.

use std::sync::Arc;

use ed25519_zebra::SigningKey;
use verity_types::{GroupId, Nanos, NodeId};

use crate::wire::Genesis;

/// The service's part.
#[derive(Clone)]
pub struct Config {
    /// Which node this is.
    pub node: NodeId,
    /// The ledger's group.
    pub group: GroupId,
    /// What it signs blocks with. One whose public key is not in the genesis signs nothing.
    pub key: SigningKey,
    /// What the chain begins with.
    pub genesis: Arc<Genesis>,
    /// What it is called. `[moniker]`
    pub moniker: String,
    /// Where it is met, for `status`. `[rpc] laddr`
    pub rpc_address: String,
    /// Pages of other sites may call it, as they may call CometBFT. Not for a node on loopback.
    pub any_origin: bool,
    /// The application runs in another process: transactions are checked there, and queries asked.
    pub external: bool,
    /// Reads wait for every write acknowledged before; else they are the node's own state, as in CometBFT.
    pub linearizable_reads: bool,
    /// `[rpc] timeout_broadcast_tx_commit`
    pub commit_timeout: Nanos,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("node", &self.node).field("group", &self.group).finish_non_exhaustive()
    }
}

impl Config {
    /// CometBFT's usual timeout.
    pub const COMMIT_TIMEOUT: Nanos = Nanos::from_millis(10_000);
}

/// The duty's part.
#[derive(Clone, Copy, Debug, Default)]
pub struct DutyConfig {
    /// A block is made this long after the last at the latest, even an empty one; `None` makes none without a reason.
    /// `[consensus] create_empty_blocks_interval`
    pub empty_blocks: Option<Nanos>,
}
