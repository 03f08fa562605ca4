//! Where a node is, in numbers that other threads may read while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::hashes::Hash as _;

use super::p2p::Peers;
use crate::node::Node;

/// The numbers.
#[derive(Debug, Default)]
pub struct Figures {
    /// The tip's height.
    pub height: Arc<AtomicU64>,
    /// The height of the header with the most work.
    pub headers: Arc<AtomicU64>,
    /// The last 16 digits of the tip's hash, as it is written: enough to see whether two nodes agree.
    pub tip: Arc<AtomicU64>,
    /// Connected peers.
    pub peers: Arc<AtomicU64>,
    /// Transactions that wait.
    pub transactions: Arc<AtomicU64>,
}

impl Figures {
    /// Reads them off a node.
    pub(super) fn read(&self, node: &Node, peers: &Peers) {
        let chain = node.chain();
        let tip = chain.entry(chain.tip()).hash.to_byte_array();
        let tip = u64::from_le_bytes(tip[..8].try_into().expect("a hash has 32 bytes"));
        self.height.store(chain.height().into(), Ordering::Relaxed);
        self.headers.store(chain.entry(chain.best_header()).height.into(), Ordering::Relaxed);
        self.tip.store(tip, Ordering::Relaxed);
        self.peers.store(peers.count() as u64, Ordering::Relaxed);
        self.transactions.store(node.mempool().len() as u64, Ordering::Relaxed);
    }
}
