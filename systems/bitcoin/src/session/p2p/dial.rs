//! Whom to connect to, and whom to let in.
//!
//! - by an operator: added nodes, tried anew every minute, and those of `-connect`, which are alone then;
//! - by the node: eight for all, two for blocks alone, none in the same neighbourhood; now and then a feeler, to find out whether
//!   an address still answers, and another for blocks when the tip seems old;
//! - upon a newcomer: banned ones are turned away, and when all places are taken somebody has to go (`evict`);
//! - upon too few addresses: nodes behind the seeds' names are asked for some, one connection each, three at a time, until two
//!   others are connected; at once where no address is known, and else after eleven seconds without such peers;
//! - upon a connection under a cipher that was never answered: once more in the open.
//!
//! HAZARD: whoever answers for the seeds' names chooses whom a new node meets. Later it hears of others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use verity_types::ConnId;

use super::PeerId;
use super::config::{Config, Kind, Permissions};
use super::evict::{self, Candidate};
use super::machine::{Origin, Output, Peers, SECOND, Step};
use super::peer::{Opening, Peer};
use super::transport::Transport;
use crate::wire::{NetAddress, Services};

const FULL_MAX: usize = 8;
const BLOCK_RELAY_MAX: usize = 2;
const FEELER_MAX: usize = 1;
const MANUAL_MAX: usize = 8;
const FEELER_INTERVAL: u64 = 120 * SECOND;
const EXTRA_BLOCK_RELAY_INTERVAL: u64 = 300 * SECOND;
/// Between looks at who is missing.
const LOOK_INTERVAL: u64 = SECOND / 2;
/// Between tries of an added node.
const ADDED_INTERVAL: u64 = 60 * SECOND;
const ADDED_LOOK_INTERVAL: u64 = 2 * SECOND;
/// An address is not tried again sooner, while others are there.
const RETRY_INTERVAL: u64 = 600;
/// Between looks at whether seeds are needed.
const SEEDS_INTERVAL: u64 = 11 * SECOND;
/// So many seeds are asked at a time.
const SEEDS_ASKED: usize = 3;
/// With so many peers for all, no seed is needed.
const SEEDS_PEERS: usize = 2;

/// A connection that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    addr: String,
    socket: Option<NetAddress>,
    kind: Kind,
    v2: bool,
}

/// What is dialed, and when next.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    /// What operators added, and whether it is spoken to under a cipher.
    pub(super) added: Vec<(String, bool)>,
    connect: Option<Vec<String>>,
    pub(super) once: VecDeque<Dial>,
    pending: BTreeMap<u64, Dial>,
    next_token: u64,
    next_look: u64,
    next_added: u64,
    next_feeler: u64,
    next_extra_block_relay: u64,
    /// Seeds that were not asked yet.
    seeds: Vec<String>,
    /// When seeds may be asked next; none before the first look.
    next_seeds: Option<u64>,
    /// The tip seems old: one more for all.
    pub(super) try_new: bool,
    /// From now on one more for blocks, at times.
    pub(super) extra_block_relay: bool,
}

impl Dialer {
    pub(super) fn new(config: &Config) -> Self {
        let added = config.add_nodes.iter().map(|addr| (addr.clone(), config.v2_transport)).collect();
        Self {
            added,
            connect: config.connect.clone(),
            once: VecDeque::new(),
            pending: BTreeMap::new(),
            next_token: 1,
            next_look: 0,
            next_added: 0,
            next_feeler: 0,
            next_extra_block_relay: 0,
            seeds: config.seeds.clone(),
            next_seeds: None,
            try_new: false,
            extra_block_relay: false,
        }
    }

    /// An operator's `onetry`.
    pub(super) fn dial_once(&mut self, addr: String, v2: bool) {
        let socket = addr.parse().ok().map(NetAddress::from_socket);
        self.once.push_back(Dial { addr, socket, kind: Kind::Manual, v2 });
    }

    /// A connection of a kind, for tests of the network.
    pub(super) fn dial_kind(&mut self, addr: String, kind: Kind, v2: bool) {
        let socket = addr.parse().ok().map(NetAddress::from_socket);
        self.once.push_back(Dial { addr, socket, kind, v2 });
    }

    /// True from when it is asked for until it is there, or given up.
    pub(super) fn is_dialing(&self, addr: &str) -> bool {
        self.once.iter().chain(self.pending.values()).any(|dial| dial.addr == addr)
    }

    /// A look at added nodes is due now.
    pub(super) fn look_at_added(&mut self) {
        self.next_added = 0;
    }
}

impl Peers {
    /// Upon a connection.
    pub(super) fn on_opened(
        &mut self,
        step: &mut Step<'_>,
        conn: ConnId,
        addr: SocketAddr,
        bind: Option<SocketAddr>,
        origin: Origin,
    ) -> Option<PeerId> {
        assert!(!self.by_conn.contains_key(&conn), "a connection's id is not used twice at a time");
        let opening = match origin {
            Origin::Inbound(permissions) => self.let_in(step, addr, permissions).map(|(permissions, prefer)| {
                let v2 = self.config.v2_transport;
                (addr.to_string(), Kind::Inbound, permissions, v2, prefer)
            }),
            Origin::Dialed(token) => self.dialer.pending.remove(&token).filter(|_| self.active).map(|dial| {
                let permissions = self.config.permissions(addr.ip(), false);
                (dial.addr, dial.kind, permissions, dial.v2, false)
            }),
        };
        let Some((name, kind, permissions, v2, prefer_evict)) = opening else {
            step.out.push(Output::Close(conn));
            return None;
        };
        let id = self.next_id;
        self.next_id += 1;
        let initiator = kind != Kind::Inbound;
        let transport =
            if v2 { Transport::v2(self.magic, initiator, self.entropy(id)) } else { Transport::v1(self.magic) };
        let nonce = self.rng.u64(1..);
        let our_services = self.services();
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let opening =
            Opening { id, conn, addr, name, bind, kind, permissions, transport, our_services, nonce, prefer_evict };
        self.peers.insert(id, Peer::new(opening, step.now, self.keys));
        self.by_conn.insert(conn, id);
        step.log("net", format!("Added connection peer={id}"));
        if v2 && initiator {
            step.log("net", format!("start sending v2 handshake to peer={id}"));
        }
        if initiator {
            self.book.attempt(&NetAddress::from_socket(addr), false, step.seconds());
            self.send_version(step, id);
        }
        let mut first = Vec::new();
        self.peer(id).transport.flush(&mut first);
        self.emit(step, id, first);
        None
    }

    /// May the newcomer come in? With what permissions, and is it the first to go again?
    fn let_in(
        &mut self,
        step: &mut Step<'_>,
        addr: SocketAddr,
        permissions: Permissions,
    ) -> Option<(Permissions, bool)> {
        let permissions = permissions.explicit(&self.config).and(self.config.permissions(addr.ip(), true));
        let inbound = self.peers.values().filter(|peer| peer.inbound() && !peer.closing).count();
        let inbound_max = self.inbound_max();
        let turned_away = |why: &str| format!("connection from {addr} dropped{why}");
        if !self.active {
            step.log("net", turned_away(": not accepting new connections"));
            return None;
        }
        let bears = permissions.has(Permissions::NO_BAN);
        if !bears && self.bans.is_banned(addr.ip(), step.seconds()) {
            step.log("net", turned_away(" (banned)"));
            return None;
        }
        let discouraged = self.bans.is_discouraged(addr.ip());
        if !bears && discouraged && inbound + 1 >= inbound_max {
            step.log("net", turned_away(" (discouraged)"));
            return None;
        }
        if inbound >= inbound_max && !self.evict_one(step) {
            step.log("net", "failed to find an eviction candidate - connection dropped (full)".to_owned());
            return None;
        }
        step.log("net", format!("connection from {addr} accepted"));
        Some((permissions, discouraged))
    }

    fn full_max(&self) -> usize {
        FULL_MAX.min(self.config.connections_max)
    }

    fn block_relay_max(&self) -> usize {
        BLOCK_RELAY_MAX.min(self.config.connections_max - self.full_max())
    }

    /// There are as many of this kind as there may be.
    pub(super) fn is_full_of(&self, kind: Kind) -> bool {
        let count = self.peers.values().filter(|peer| peer.kind == kind).count();
        match kind {
            Kind::Full => count >= self.full_max(),
            Kind::BlockRelay => count >= self.block_relay_max(),
            _ => false,
        }
    }

    fn inbound_max(&self) -> usize {
        self.config.connections_max.saturating_sub(self.full_max() + self.block_relay_max() + FEELER_MAX)
    }

    fn evict_one(&mut self, step: &mut Step<'_>) -> bool {
        let inbound = self.peers.values().filter(|peer| peer.inbound() && !peer.closing);
        let candidate = |peer: &Peer| Candidate {
            id: peer.id,
            connected: peer.connected,
            ping_min: peer.pings.min.unwrap_or(u64::MAX),
            last_block: peer.last_block,
            last_transaction: peer.last_transaction,
            serves_blocks: Self::has_wanted_services(step, peer.services),
            relays: peer.tx.as_ref().is_some_and(|tx| tx.wants),
            bloom: peer.tx.as_ref().is_some_and(|tx| tx.bloom.is_some()),
            group: self.keyed(&[&NetAddress::from_socket(peer.addr).group()]),
            local: peer.addr.ip().is_loopback(),
            prefer: peer.prefer_evict,
            no_ban: peer.has(Permissions::NO_BAN),
        };
        let Some(id) = evict::choose(inbound.map(candidate).collect()) else { return false };
        self.close(step, id, "selected inbound connection for eviction");
        true
    }

    pub(super) fn on_dial_failed(&mut self, step: &mut Step<'_>, token: u64) {
        let Some(dial) = self.dialer.pending.remove(&token) else { return };
        if let Some(addr) = dial.socket {
            self.book.attempt(&addr, dial.kind != Kind::Manual, step.seconds());
        }
    }

    /// A peer is gone: what its address is worth, and whether it may speak otherwise.
    pub(super) fn after_close(&mut self, step: &mut Step<'_>, peer: &Peer) {
        let addr = NetAddress::from_socket(peer.addr);
        if peer.kind != Kind::Inbound && peer.established {
            self.book.connected(&addr, step.seconds());
        }
        if peer.transport.should_fall_back() && self.active {
            step.log("net", format!("retrying with v1 transport protocol for peer={}", peer.id));
            let (addr, kind) = (peer.name.clone(), peer.kind);
            self.dialer.once.push_back(Dial { addr, socket: None, kind, v2: false });
        }
    }

    fn dial_now(&mut self, step: &mut Step<'_>, dial: Dial) {
        let connected = self.peers.values().any(|peer| peer.name == dial.addr);
        if connected || self.dialer.pending.values().any(|other| other.addr == dial.addr) {
            return;
        }
        let token = self.dialer.next_token;
        self.dialer.next_token += 1;
        if let Some(addr) = dial.socket {
            self.book.attempt(&addr, false, step.seconds());
        }
        step.log(
            "net",
            format!(
                "trying {} connection ({}) to {}, lastseen=0.0hrs",
                if dial.v2 { "v2" } else { "v1" },
                dial.kind.name(),
                dial.addr
            ),
        );
        step.out.push(Output::Dial { token, addr: dial.addr.clone() });
        self.dialer.pending.insert(token, dial);
    }

    /// Connects to whoever is missing.
    pub(super) fn dial(&mut self, step: &mut Step<'_>) {
        if !self.active {
            self.dialer.once.clear();
            return;
        }
        while let Some(dial) = self.dialer.once.pop_front() {
            self.dial_now(step, dial);
        }
        if step.now >= self.dialer.next_added || self.dialer.next_added > step.now + ADDED_INTERVAL {
            let tried = self.dial_added(step);
            self.dialer.next_added = step.now + if tried { ADDED_INTERVAL } else { ADDED_LOOK_INTERVAL };
        }
        if step.now < self.dialer.next_look && self.dialer.next_look <= step.now + LOOK_INTERVAL {
            return;
        }
        self.dialer.next_look = step.now + LOOK_INTERVAL;
        if let Some(connect) = self.dialer.connect.clone() {
            for addr in connect {
                let socket = addr.parse().ok().map(NetAddress::from_socket);
                self.dial_now(step, Dial { addr, socket, kind: Kind::Manual, v2: self.config.v2_transport });
            }
            return;
        }
        self.ask_seeds(step);
        self.dial_chosen(step);
    }

    fn dial_added(&mut self, step: &mut Step<'_>) -> bool {
        let mut tried = false;
        let manual = self.peers.values().filter(|peer| peer.kind == Kind::Manual).count();
        let free = MANUAL_MAX.saturating_sub(manual);
        let added = self.dialer.added.iter().filter(|(addr, _)| !self.is_added_connected(addr));
        for (addr, v2) in added.take(free).cloned().collect::<Vec<_>>() {
            tried = true;
            let socket = addr.parse().ok().map(NetAddress::from_socket);
            self.dial_now(step, Dial { addr, socket, kind: Kind::Manual, v2 });
        }
        tried
    }

    /// An added node that is connected, as it was added or by its address.
    pub(super) fn is_added_connected(&self, added: &str) -> bool {
        let socket = added.parse::<SocketAddr>().ok();
        self.peers.values().any(|peer| peer.name == added || Some(peer.addr) == socket)
    }

    fn ask_seeds(&mut self, step: &mut Step<'_>) {
        if self.dialer.seeds.is_empty() {
            return;
        }
        let first =
            || if self.book.len() == 0 || self.config.force_seeds { step.now } else { step.now + SEEDS_INTERVAL };
        let due = *self.dialer.next_seeds.get_or_insert_with(first);
        if step.now < due && due <= step.now + SEEDS_INTERVAL {
            return;
        }
        let met = self.peers.values().filter(|peer| peer.kind == Kind::Full && peer.established).count();
        if met >= SEEDS_PEERS && !self.config.force_seeds {
            self.dialer.seeds.clear();
            return step.log("net", "P2P peers available. Finished asking seeds.".to_owned());
        }
        for _ in 0..SEEDS_ASKED.min(self.dialer.seeds.len()) {
            // Names that are given first are asked first; those of the network in any order.
            let last = self.dialer.seeds.len();
            let at = if self.dialer.seeds[0].contains(':') { 0 } else { self.rng.usize(..last) };
            let name = self.dialer.seeds.remove(at);
            let addr =
                if name.contains(':') { name } else { format!("{name}:{}", step.node.chain().params().p2p_port) };
            step.log("", format!("Loading addresses from seed {addr}"));
            let socket = addr.parse().ok().map(NetAddress::from_socket);
            let v2 = self.config.v2_transport;
            self.dial_now(step, Dial { addr, socket, kind: Kind::AddrFetch, v2 });
        }
        self.dialer.next_seeds = Some(step.now + SEEDS_INTERVAL);
    }

    /// Which kind of connection is missing.
    fn missing_kind(&mut self, step: &Step<'_>) -> Option<Kind> {
        let pending = |kind| self.dialer.pending.values().filter(move |dial| dial.kind == kind).count();
        let count = |kind| self.peers.values().filter(|peer| peer.kind == kind).count() + pending(kind);
        let (full, block_relay, now) = (count(Kind::Full), count(Kind::BlockRelay), step.now);
        if full < self.full_max() {
            return Some(Kind::Full);
        }
        if block_relay < self.block_relay_max() {
            return Some(Kind::BlockRelay);
        }
        if self.dialer.try_new && full == self.full_max() {
            return Some(Kind::Full);
        }
        if self.dialer.extra_block_relay && now > self.dialer.next_extra_block_relay {
            self.dialer.next_extra_block_relay = now + self.exponential(EXTRA_BLOCK_RELAY_INTERVAL);
            return Some(Kind::BlockRelay);
        }
        if now > self.dialer.next_feeler && count(Kind::Feeler) < FEELER_MAX {
            self.dialer.next_feeler = now + self.exponential(FEELER_INTERVAL);
            return Some(Kind::Feeler);
        }
        None
    }

    fn dial_chosen(&mut self, step: &mut Step<'_>) {
        if self.book.len() == 0 {
            return;
        }
        let Some(kind) = self.missing_kind(step) else { return };
        let now = step.seconds();
        let feeler = kind == Kind::Feeler;
        let chosen =
            self.peers.values().filter(|peer| !matches!(peer.kind, Kind::Inbound | Kind::Feeler | Kind::AddrFetch));
        let groups: BTreeSet<Vec<u8>> = chosen.map(|peer| NetAddress::from_socket(peer.addr).group()).collect();
        let collision = self.book.resolve_collisions(now).filter(|_| feeler);
        for tries in 1..=100 {
            let asked = collision.filter(|_| tries == 1).and_then(|addr| self.book.get(&addr)).map(|addr| (addr, 0));
            let Some((addr, last_try)) = asked.or_else(|| self.book.select(feeler, now, &mut self.rng)) else { return };
            let Some(socket) = addr.addr.socket() else { continue };
            let group = addr.addr.group();
            let connected = self.peers.values().any(|peer| peer.addr.ip() == socket.ip());
            if connected || (!feeler && groups.contains(&group)) || (last_try + RETRY_INTERVAL > now && tries < 30) {
                continue;
            }
            if !feeler && !Self::has_wanted_services(step, addr.services) {
                continue;
            }
            if self.bans.is_banned(socket.ip(), now) || self.bans.is_discouraged(socket.ip()) {
                continue;
            }
            let v2 = self.config.v2_transport && addr.services.has(Services::P2P_V2);
            return self.dial_now(step, Dial { addr: socket.to_string(), socket: Some(addr.addr), kind, v2 });
        }
    }
}
