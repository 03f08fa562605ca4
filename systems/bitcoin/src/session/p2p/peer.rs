//! What is known of one peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bitcoin::{BlockHash, Wtxid};
use verity_nakamoto::BlockId;
use verity_types::ConnId;

use super::PeerId;
use super::bloom::Bloom;
use super::config::{Kind, Permissions};
use super::presync::Presync;
use super::recent::Recent;
use super::transport::Transport;
use crate::wire::{Frame, Inventory, NetAddress, Partial, PeerAddress, Services};

/// Transactions that a peer is known to know.
const KNOWN_TRANSACTIONS: usize = 50_000;
/// Addresses that a peer is known to know.
const KNOWN_ADDRESSES: usize = 5_000;

/// A compact block that is being put together.
#[derive(Debug)]
pub(super) enum Building {
    /// The block was asked for as a whole.
    No,
    /// These transactions are there.
    Partial(Box<Partial>),
    /// It was tried, and came to nothing: the whole block was asked for.
    Spent,
}

/// A block that was asked for.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) id: BlockId,
    pub(super) building: Building,
}

/// Whether a peer keeps up with our chain (only for those that the node chose).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeepUp {
    /// Seconds; 0 for none.
    pub(super) timeout: u64,
    pub(super) work_header: Option<BlockId>,
    pub(super) asked: bool,
    pub(super) protected: bool,
}

/// Of blocks and headers.
#[derive(Debug, Default)]
pub(super) struct Sync {
    pub(super) started: bool,
    /// In microseconds; `u64::MAX` once it does not matter any more.
    pub(super) headers_timeout: u64,
    /// When headers were asked for, 0 if there is an answer.
    pub(super) last_getheaders: u64,
    pub(super) best_known: Option<BlockId>,
    pub(super) unknown: Option<BlockHash>,
    pub(super) last_common: Option<BlockId>,
    pub(super) best_sent: Option<BlockId>,
    pub(super) in_flight: Vec<InFlight>,
    pub(super) downloading_since: u64,
    pub(super) stalling_since: u64,
    pub(super) preferred: bool,
    pub(super) provides_compact: bool,
    /// It asked for compact blocks unasked.
    pub(super) wants_compact: bool,
    /// We asked it for the same.
    pub(super) high_bandwidth: bool,
    pub(super) last_announcement: u64,
    pub(super) keep_up: KeepUp,
    pub(super) presync: Option<Box<Presync>>,
    pub(super) for_inv: Vec<BlockHash>,
    pub(super) for_headers: Vec<BlockHash>,
    pub(super) continuation: Option<BlockHash>,
    pub(super) prefers_headers: bool,
    pub(super) sent_sendheaders: bool,
    pub(super) inv_before_sync: bool,
}

/// Of transactions, if the peer may be told of them.
#[derive(Debug)]
pub(super) struct TxRelay {
    /// It wants to be told.
    pub(super) wants: bool,
    pub(super) bloom: Option<Bloom>,
    pub(super) known: Recent,
    pub(super) to_send: BTreeSet<Wtxid>,
    pub(super) send_mempool: bool,
    pub(super) next_inv: u64,
    /// The mempool's count when it was told last: what came later is not given to it yet.
    pub(super) last_sequence: u64,
    pub(super) fee_filter: u64,
}

impl TxRelay {
    pub(super) fn new(wants: bool, keys: (u64, u64)) -> Self {
        Self {
            wants,
            bloom: None,
            known: Recent::new(KNOWN_TRANSACTIONS, keys),
            to_send: BTreeSet::new(),
            send_mempool: false,
            next_inv: 0,
            last_sequence: 1,
            fee_filter: 0,
        }
    }
}

/// Of addresses.
#[derive(Debug)]
pub(super) struct Gossip {
    pub(super) enabled: bool,
    pub(super) known: Recent,
    pub(super) to_send: Vec<PeerAddress>,
    pub(super) getaddr_sent: bool,
    pub(super) getaddr_received: bool,
    pub(super) wants_v2: bool,
    pub(super) tokens: f64,
    pub(super) tokens_at: u64,
    pub(super) next_send: u64,
    pub(super) next_local: u64,
    pub(super) processed: u64,
    pub(super) rate_limited: u64,
}

/// How far apart both are.
#[derive(Debug, Default)]
pub(super) struct Pings {
    pub(super) nonce: u64,
    pub(super) start: u64,
    pub(super) queued: bool,
    pub(super) last: Option<u64>,
    pub(super) min: Option<u64>,
}

/// Bytes on the way.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// In microseconds, 0 for never.
    pub(super) last_send: u64,
    pub(super) last_recv: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) sent_by: BTreeMap<String, u64>,
    pub(super) received_by: BTreeMap<String, u64>,
    /// What the host's socket may not have taken yet: the host says how much that is once it is asked.
    pub(super) unsent: usize,
    /// The host was asked.
    pub(super) drains: bool,
    pub(super) inbox: VecDeque<Frame>,
    pub(super) inbox_bytes: usize,
    /// The host does not read from it.
    pub(super) paused: bool,
}

/// For operators, who ask without the chain at hand; -1 for none.
#[derive(Debug)]
pub(super) struct Heights {
    pub(super) headers: i64,
    pub(super) blocks: i64,
    pub(super) in_flight: Vec<u32>,
}

/// One peer.
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) conn: ConnId,
    pub(super) addr: SocketAddr,
    /// As it was asked for.
    pub(super) name: String,
    pub(super) bind: Option<SocketAddr>,
    pub(super) kind: Kind,
    pub(super) permissions: Permissions,
    pub(super) transport: Transport,
    /// In microseconds.
    pub(super) connected: u64,
    pub(super) our_services: Services,
    pub(super) nonce: u64,
    pub(super) version_sent: bool,
    /// 0 until it introduced itself.
    pub(super) version: u32,
    pub(super) common: u32,
    pub(super) services: Services,
    pub(super) user_agent: String,
    pub(super) height: i32,
    pub(super) established: bool,
    pub(super) wtxid_relay: bool,
    pub(super) local: Option<NetAddress>,
    pub(super) time_offset: i64,
    pub(super) closing: bool,
    pub(super) discourage: bool,
    pub(super) prefer_evict: bool,
    pub(super) pings: Pings,
    pub(super) sync: Sync,
    pub(super) getdata: VecDeque<Inventory>,
    pub(super) tx: Option<TxRelay>,
    pub(super) fee_filter_sent: u64,
    pub(super) next_fee_filter: u64,
    pub(super) gossip: Gossip,
    pub(super) traffic: Traffic,
    pub(super) last_transaction: u64,
    pub(super) last_block: u64,
    pub(super) heights: Heights,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.id)
            .field("addr", &self.addr)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What a peer begins with.
pub(super) struct Opening {
    pub(super) id: PeerId,
    pub(super) conn: ConnId,
    pub(super) addr: SocketAddr,
    pub(super) name: String,
    pub(super) bind: Option<SocketAddr>,
    pub(super) kind: Kind,
    pub(super) permissions: Permissions,
    pub(super) transport: Transport,
    pub(super) our_services: Services,
    pub(super) nonce: u64,
    pub(super) prefer_evict: bool,
}

impl Peer {
    pub(super) fn new(opening: Opening, now: u64, keys: (u64, u64)) -> Self {
        let Opening { id, conn, addr, name, bind, kind, permissions, transport, mut our_services, nonce, prefer_evict } =
            opening;
        if permissions.has(Permissions::BLOOM) {
            our_services.0 |= Services::BLOOM;
        }
        let gossip = Gossip {
            enabled: false,
            known: Recent::new(KNOWN_ADDRESSES, keys),
            to_send: Vec::new(),
            getaddr_sent: false,
            getaddr_received: false,
            wants_v2: false,
            tokens: 1.0,
            tokens_at: now,
            next_send: 0,
            next_local: 0,
            processed: 0,
            rate_limited: 0,
        };
        Self {
            id,
            conn,
            addr,
            name,
            bind,
            kind,
            permissions,
            transport,
            connected: now,
            our_services,
            nonce,
            version_sent: false,
            version: 0,
            common: 0,
            services: Services::default(),
            user_agent: String::new(),
            height: -1,
            established: false,
            wtxid_relay: false,
            local: None,
            time_offset: 0,
            closing: false,
            discourage: false,
            prefer_evict,
            pings: Pings::default(),
            sync: Sync::default(),
            getdata: VecDeque::new(),
            tx: None,
            fee_filter_sent: 0,
            next_fee_filter: 0,
            gossip,
            traffic: Traffic::default(),
            last_transaction: 0,
            last_block: 0,
            heights: Heights { headers: -1, blocks: -1, in_flight: Vec::new() },
        }
    }

    /// The peer is at fault: it is let go, and not let in again when places are short.
    pub(super) fn misbehaves(&mut self) {
        self.discourage = true;
    }

    pub(super) fn inbound(&self) -> bool {
        self.kind == Kind::Inbound
    }

    pub(super) fn has(&self, permission: Permissions) -> bool {
        self.permissions.has(permission)
    }

    pub(super) fn serves_witnesses(&self) -> bool {
        self.services.has(Services::WITNESS)
    }

    /// It has the last blocks alone.
    pub(super) fn is_limited(&self) -> bool {
        !self.services.has(Services::NETWORK) && self.services.has(Services::NETWORK_LIMITED)
    }

    /// Its socket takes no more for now.
    pub(super) fn is_choked(&self, bound: usize) -> bool {
        self.traffic.unsent > bound
    }
}
