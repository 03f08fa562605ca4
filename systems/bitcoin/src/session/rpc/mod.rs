//! JSON-RPC by HTTP, as the network's nodes answer it.
//!
//! - upon anything but POST: 405; without a user and a password, or with wrong ones: 401;
//! - upon what is not JSON: 500 with -32700; a malformed request: 400 with -32600; an unknown method: 404 with -32601;
//! - upon a method that fails: 500 with its number and words, by JSON-RPC 1; 200 with the same by 2.0;
//! - upon an array of requests: 200, with an answer for each that wants one;
//! - upon a 2.0 request without an id: 204, and nothing;
//! - upon a method that must wait: the answer comes later, by [`Rpc::poll`]. The rest of its array waits with it.
//!
//! What a method is stands in `table`, what it does in `methods`, by category.
//!
//! Deliberately absent: connections and their framing (`verity-http`), files, threads. A method runs to its end before the
//! next is looked at.

mod auth;
mod call;
pub(crate) mod descriptor;
mod error;
mod json;
mod methods;
pub(crate) mod render;
mod server;
pub(crate) mod signing;
mod spec;
mod table;
mod wait;

#[cfg(test)]
mod tests;

pub use crate::places::{BeginError, NewFile};
pub use auth::{Auth, COOKIE_USER};
pub use call::{Args, Call, Ctx, Files, NoFiles};
pub use error::RpcError;
pub use json::Json;
pub use server::{Answer, Rpc, refusal_status};
pub use spec::{Arg, Kind, Method, Outcome, Run, opt, params_by_name, params_by_place, req};
pub use wait::{Wait, WaitId};

pub(crate) use error::code;
pub(crate) use methods::control::CATEGORIES;
pub(crate) use methods::wallet::METHODS as WALLET_METHODS;
pub(crate) use methods::{blocks, deployments, mempool};
pub(crate) use render::codec::encode;
pub(crate) use render::script::output as script_json;
pub(crate) use render::transaction::{Shown, render};

/// What the server is told at its start.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// Who may call, and what.
    pub auth: Auth,
    /// Who we say we are: `/Verity:0.1.0/`.
    pub user_agent: String,
    /// Where the log is.
    pub log_path: String,
    /// `-rest`.
    pub rest: bool,
    /// There are wallets: paths below `/wallet/` are theirs.
    pub wallets: bool,
    /// `-zmqpub...`: `pub` and the topic, the address, the high-water mark.
    pub zmq: Vec<(String, String, u32)>,
    /// Categories that are logged.
    pub log_categories: Vec<String>,
    /// `-minrelaytxfee`, in satoshi per 1,000 vbytes.
    pub relay_fee_min: u64,
    /// `-incrementalrelayfee`, in satoshi per 1,000 vbytes.
    pub relay_fee_incremental: u64,
    /// `-maxmempool`, in bytes.
    pub mempool_bytes_max: u64,
    /// `-blockmintxfee`, in satoshi per 1,000 vbytes.
    pub block_fee_min: u64,
    /// `-blockmaxweight`.
    pub block_weight_max: u64,
    /// `-blockreservedweight`.
    pub block_reserved_weight: u64,
    /// Peers are connected over the v2 transport if they can.
    pub v2_transport: bool,
    /// `-blocksonly` is not set.
    pub relay_transactions: bool,
    /// `-maxtipage`: a tip older than so many seconds is not the network's.
    pub tip_age_max: u64,
    /// `-deprecatedrpc`.
    pub deprecated: Vec<String>,
    /// `-blockversion`: blocks that are made have it.
    pub block_version: Option<i32>,
    /// `-bantime`: for so many seconds is banned for whom nothing is said.
    pub ban_seconds: u64,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            auth: Auth::new(),
            user_agent: "/Verity:0.1.0/".into(),
            log_path: String::new(),
            rest: false,
            wallets: false,
            zmq: Vec::new(),
            log_categories: Vec::new(),
            relay_fee_min: 100,
            relay_fee_incremental: 100,
            mempool_bytes_max: 300_000_000,
            block_fee_min: 1,
            block_weight_max: 4_000_000,
            block_reserved_weight: 8_000,
            v2_transport: true,
            relay_transactions: true,
            tip_age_max: 24 * 60 * 60,
            deprecated: Vec::new(),
            block_version: None,
            ban_seconds: 24 * 60 * 60,
        }
    }
}

/// What the server remembers between calls.
#[derive(Debug)]
pub(crate) struct State {
    config: RpcConfig,
    more: &'static [Method],
    /// When it started, by the steady clock.
    start_ms: u64,
    /// The methods that wait, and the one that runs: since when, by the steady clock.
    active: Vec<(&'static str, u64)>,
    /// The node caught up with the network once.
    caught_up: bool,
    /// By how much `mockscheduler` moved the timers of this node, in seconds.
    scheduler_seconds: u64,
    /// How often PSBTs were joined.
    joins: u64,
    /// The last template for miners: at which count of the mempool's changes, when, and it.
    template: Option<(u64, u64, crate::mining::Template)>,
    /// The last block that was put together: its weight, and its transactions.
    assembled: Option<(u64, usize)>,
}
