//! What an operator sees of the peers, and may do to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A row of `getpeerinfo`. Times are in seconds since 1970, but for pings, which are in seconds.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Counts up with each connection.
    pub id: u64,
    /// As it was asked for, or where it came from.
    pub addr: String,
    /// Our end.
    pub addr_bind: Option<SocketAddr>,
    /// Ours as the peer sees it.
    pub addr_local: Option<SocketAddr>,
    /// What it offers.
    pub services: u64,
    /// It is told of transactions.
    pub relay_txs: bool,
    /// Last sent.
    pub last_send: u64,
    /// Last received.
    pub last_recv: u64,
    /// Last new transaction that it brought.
    pub last_transaction: u64,
    /// Last new block that it brought.
    pub last_block: u64,
    /// Bytes sent to it.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_recv: u64,
    /// Since when it is connected.
    pub conn_time: u64,
    /// By how much its clock differs from ours, in seconds.
    pub time_offset: i64,
    /// The last ping took so long.
    pub ping_time: Option<f64>,
    /// The fastest took so long.
    pub ping_min: Option<f64>,
    /// The one under way takes so long already.
    pub ping_wait: Option<f64>,
    /// Its protocol's version.
    pub version: u32,
    /// Who it says it is.
    pub subver: String,
    /// It came to us.
    pub inbound: bool,
    /// It wants compact blocks unasked, and we want them from it.
    pub bip152_hb_to: bool,
    /// It asked us for compact blocks unasked.
    pub bip152_hb_from: bool,
    /// The height that it began with.
    pub starting_height: i32,
    /// The height of the best header that we gave it or had of it, or -1.
    pub presynced_headers: i64,
    /// The last header that both have, or -1.
    pub synced_headers: i64,
    /// The last block that both have, or -1.
    pub synced_blocks: i64,
    /// Blocks that it was asked for, by height.
    pub inflight: Vec<u32>,
    /// It is told of addresses.
    pub addr_relay_enabled: bool,
    /// Addresses of its that were taken.
    pub addr_processed: u64,
    /// Those that were too many.
    pub addr_rate_limited: u64,
    /// What it may do beyond others.
    pub permissions: Vec<String>,
    /// Nothing below this comes from it, in satoshi per 1,000 vbytes.
    pub min_fee_filter: u64,
    /// Bytes sent by message.
    pub bytes_sent_per_msg: BTreeMap<String, u64>,
    /// Bytes received by message.
    pub bytes_recv_per_msg: BTreeMap<String, u64>,
    /// `inbound`, `manual`, `outbound-full-relay`, `block-relay-only`, `feeler`, `addr-fetch`.
    pub connection_type: String,
    /// `detecting`, `v1` or `v2`.
    pub transport_protocol_type: String,
    /// The session of the v2 transport, in hex.
    pub session_id: String,
    /// Transactions that it is to be told of.
    pub inv_to_send: u64,
    /// The mempool's sequence when it was last told.
    pub last_inv_sequence: u64,
}

/// What `addnode` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddNode {
    /// Stay connected to it.
    Add,
    /// Do not, any more.
    Remove,
    /// Once.
    OneTry,
}

/// A row of `getaddednodeinfo`.
#[derive(Clone, Debug)]
pub struct AddedNode {
    /// As it was added.
    pub addr: String,
    /// Where it is connected, and whether it came in.
    pub connected: Option<(SocketAddr, bool)>,
}

/// One peer, for `disconnectnode`.
#[derive(Clone, Debug)]
pub enum Which {
    /// By its address.
    Addr(String),
    /// By its id.
    Id(u64),
}

/// A row of `listbanned`.
#[derive(Clone, Debug)]
pub struct Banned {
    /// A subnet, such as `192.0.2.0/24`.
    pub subnet: String,
    /// Since when.
    pub created: u64,
    /// Until when.
    pub until: u64,
}

/// A row of `getnodeaddresses`.
#[derive(Clone, Debug)]
pub struct KnownAddress {
    /// When it was last heard of.
    pub time: u64,
    /// What it offers.
    pub services: u64,
    /// Where it is.
    pub addr: SocketAddr,
}

/// What may be sent in a day, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// In bytes; 0 for no bound.
    pub target: u64,
    /// Nothing is left.
    pub reached: bool,
    /// There is enough left for what new blocks need.
    pub serves_old_blocks: bool,
    /// In bytes; 0 without a bound.
    pub bytes_left: u64,
    /// Until the next day begins; 0 without a bound.
    pub seconds_left: u64,
}

impl Default for Upload {
    fn default() -> Self {
        Self { target: 0, reached: false, serves_old_blocks: true, bytes_left: 0, seconds_left: 0 }
    }
}

/// The peers, for operators.
pub trait PeerControl {
    /// `getpeerinfo`, by id.
    fn peers(&self) -> Vec<PeerInfo>;
    /// `addnode`; an error is Core's words (`Error: Node already added`, `Error: Node could not be removed. ...`).
    ///
    /// # Errors
    /// Those.
    fn add_node(&mut self, addr: &str, command: AddNode, v2: Option<bool>) -> Result<(), &'static str>;
    /// `getaddednodeinfo`.
    fn added_nodes(&self) -> Vec<AddedNode>;
    /// `disconnectnode`; false if there is no such peer.
    fn disconnect(&mut self, which: &Which) -> bool;
    /// `setnetworkactive`.
    fn set_network_active(&mut self, active: bool);
    /// Whether the network is on.
    fn network_active(&self) -> bool;
    /// Bytes received and sent, in all.
    fn totals(&self) -> (u64, u64);
    /// How much of the day's bytes is left (`-maxuploadtarget`).
    fn upload(&self) -> Upload {
        Upload::default()
    }
    /// `setban add`: false if it is banned already.
    fn ban(&mut self, subnet: &str, until: u64) -> bool;
    /// `setban remove`: false if it is not banned.
    fn unban(&mut self, subnet: &str) -> bool;
    /// `listbanned`.
    fn banned(&self) -> Vec<Banned>;
    /// `clearbanned`.
    fn clear_banned(&mut self);
    /// `getnodeaddresses`; 0 for all.
    fn known_addresses(&self, count: usize) -> Vec<KnownAddress>;
    /// `addpeeraddress`: false if it was not taken.
    fn add_address(&mut self, addr: SocketAddr, tried: bool) -> bool;
    /// What we offer (`NODE_NETWORK` and its like).
    fn local_services(&self) -> u64;
    /// `ping`.
    fn ping_all(&mut self);
    /// `getblockfrompeer`.
    ///
    /// # Errors
    /// Core's words.
    fn fetch_block(&mut self, hash: bitcoin::BlockHash, peer: u64) -> Result<(), &'static str>;
    /// `addconnection`, of a kind such as `block-relay-only`.
    ///
    /// # Errors
    /// Core's words.
    fn add_connection(&mut self, addr: &str, kind: &str, v2: bool) -> Result<(), &'static str> {
        let _ = (addr, kind, v2);
        Err("Error: Already at capacity for specified connection type.")
    }
    /// A connection to this address was asked for, and it is neither there nor given up.
    fn is_dialing(&self, addr: &str) -> bool {
        let _ = addr;
        false
    }
    /// `sendrawtransaction` of one that waits in the mempool already: peers that do not know it are told.
    fn tell_again(&mut self, tx: &bitcoin::Transaction) {
        let _ = tx;
    }
    /// Where others reach us, as an operator says (`-externalip`).
    fn local_addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }
    /// `sendmsgtopeer`: false if there is no such peer.
    fn send_message(&mut self, peer: u64, kind: &str, bytes: &[u8]) -> bool {
        let _ = (peer, kind, bytes);
        false
    }

    /// `getorphantxs`: transactions whose parents are not known, and the ids of those who announced each.
    fn orphans(&self) -> Vec<(std::sync::Arc<bitcoin::Transaction>, Vec<u64>)> {
        Vec::new()
    }
}
