//! `[ledger]`: what the ledger's clients are offered.
//!
//! Every key has a default; the names in brackets are those of CometBFT's `config.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::abci::Address;

/// The section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ledger {
    /// For clients without TLS; 0 for none. `[rpc.laddr]`
    pub(crate) port: u16,
    /// For clients with TLS, where there are certificates; 0 for none.
    pub(crate) tls_port: u16,
    /// ca.pem, node.pem and node.key towards clients; those of `[tls]` if it is not set.
    pub(crate) tls_dir: Option<PathBuf>,
    /// What the chain begins with, the same on all nodes. `verity up` makes its own. `[genesis_file]`
    pub(crate) genesis: Option<PathBuf>,
    /// In place of that file: the validators' keys by their nodes' ids, the same on all nodes. Each node says its own when it
    /// is started without.
    pub(crate) validators: BTreeMap<String, String>,
    /// With `validators`: the time of the first block, such as 2026-01-31T00:00:00Z. `genesis_time`
    pub(crate) genesis_time: Option<String>,
    /// With `validators`: what the chain is called; after the cluster's id if it is not set. `chain_id`
    pub(crate) chain_id: Option<String>,
    /// The application, by ABCI's socket: tcp://HOST:PORT or unix://PATH; the built-in one if it is not set. Each node has
    /// its own: `verity up` counts ports up from that of node 1. `[proxy_app]`
    pub(crate) proxy_app: Option<String>,
    /// So many of the last blocks can be read.
    pub(crate) retain_blocks: u64,
    /// They hold at most about so much memory.
    pub(crate) retain_mib: u64,
    /// A block is made after this long, even an empty one; 0 makes none without a reason.
    /// `[consensus.create_empty_blocks_interval]`
    pub(crate) create_empty_blocks_interval_ms: u64,
    /// `[rpc.timeout_broadcast_tx_commit]`
    pub(crate) timeout_broadcast_tx_commit_ms: u64,
    /// Reads wait for every write acknowledged before.
    pub(crate) linearizable_reads: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            port: 26_657,
            tls_port: 0,
            tls_dir: None,
            genesis: None,
            validators: BTreeMap::new(),
            genesis_time: None,
            chain_id: None,
            proxy_app: None,
            retain_blocks: 10_000,
            retain_mib: 256,
            create_empty_blocks_interval_ms: 0,
            timeout_broadcast_tx_commit_ms: 10_000,
            linearizable_reads: false,
        }
    }
}

impl Ledger {
    /// Refuses values that cannot be meant.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(app) = &self.proxy_app {
            Address::parse(app).context("ledger.proxy_app")?;
        }
        if self.genesis.is_some() && !self.validators.is_empty() {
            bail!("ledger.genesis names a file that lists the validators, and so does ledger.validators: say one");
        }
        if self.validators.is_empty() && (self.genesis_time.is_some() || self.chain_id.is_some()) {
            bail!(
                "ledger.genesis_time and ledger.chain_id stand beside ledger.validators; a file of ledger.genesis has its own"
            );
        }
        const MIB_MAX: u64 = 1 << 20;
        if self.retain_blocks < 2 || !(1..=MIB_MAX).contains(&self.retain_mib) {
            bail!("ledger.retain_blocks is at least 2, and ledger.retain_mib between 1 and {MIB_MAX}");
        }
        Ok(())
    }
}
