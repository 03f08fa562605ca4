//! What an operator may set, and what nodes do where he sets nothing.
//!
//! Deliberately absent: the rules themselves, and how options are written on a command line.

use super::linearise::CLUSTER_COUNT_MAX;

/// How a mempool is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolOptions {
    /// No more bytes of memory (`-maxmempool`, there in megabytes).
    pub size_max: u64,
    /// Seconds after which what waits is given up (`-mempoolexpiry`, there in hours).
    pub expiry: u64,
    /// Satoshi per 1,000 vbytes by which something must pay more than what it takes the place of (`-incrementalrelayfee`).
    pub incremental_rate: u64,
    /// Nothing that pays less (`-minrelaytxfee`).
    pub relay_rate_min: u64,
    /// At this rate an output must be worth more than it costs to spend (`-dustrelayfee`).
    pub dust_rate: u64,
    /// Bytes of data that a transaction's outputs may carry; `None` for no such output at all (`-datacarriersize`).
    pub data_bytes_max: Option<u64>,
    /// Outputs may name several keys without a hash around them (`-permitbaremultisig`).
    pub bare_multisig: bool,
    /// Only what everybody relays (`-acceptnonstdtxn=0`).
    pub require_standard: bool,
    /// No more transactions in one cluster (`-limitclustercount`).
    pub cluster_count_max: usize,
    /// No more vbytes in one cluster (`-limitclustersize`, there in thousands).
    pub cluster_size_max: u64,
    /// Vbytes that a signature operation counts as, at the least (`-bytespersigop`).
    pub bytes_per_sigop: u64,
    /// Write the file of the mempool without a key over it (`-persistmempoolv1`).
    pub persist_v1: bool,
}

impl Default for MempoolOptions {
    fn default() -> Self {
        Self {
            size_max: 300_000_000,
            expiry: 336 * 3_600,
            incremental_rate: 100,
            relay_rate_min: 100,
            dust_rate: 3_000,
            data_bytes_max: Some(100_000),
            bare_multisig: true,
            require_standard: true,
            cluster_count_max: CLUSTER_COUNT_MAX,
            cluster_size_max: 101_000,
            bytes_per_sigop: 20,
            persist_v1: false,
        }
    }
}

impl MempoolOptions {
    /// The weight that a transaction counts as: its own, or what its signature operations ask for.
    #[must_use]
    pub(super) fn adjusted_weight(&self, weight: u64, sigops_cost: u64) -> u64 {
        weight.max(sigops_cost.saturating_mul(self.bytes_per_sigop))
    }
}
