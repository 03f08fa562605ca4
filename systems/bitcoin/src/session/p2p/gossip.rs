//! Addresses, as they go from peer to peer.
//!
//! - upon addresses: no more than one in ten seconds of a peer's are taken in the long run, but for those it was asked for; fresh
//!   ones, in small messages, go on to one or two others, who are the same all day long;
//! - upon `getaddr`, of inbound peers and once: some of what is known, the same ones for a day to all who come in by one address
//!   of ours, so that nobody can tell from them whom we know when, nor that another address is ours, too;
//! - ours is told at first, and again about once a day.

use std::net::SocketAddr;

use super::PeerId;
use super::config::{Kind, Permissions};
use super::machine::{Peers, SECOND, Step};
use super::peer::Peer;
use crate::wire::{Message, NetAddress, PeerAddress, Services};

/// Addresses in a message.
const ADDRESSES_MAX: usize = 1_000;
/// Share of what is known, in percent, that is told to one who asks.
const SHARE: usize = 23;
/// Addresses of one peer that are taken, in one second.
const RATE: f64 = 0.1;
/// Tokens do not add up beyond this.
const TOKENS_MAX: f64 = 1_000.0;
/// Of no more of our addresses it is remembered what those are told who come in by them.
const BINDS_MAX: usize = 64;
const SEND_INTERVAL: u64 = 30 * SECOND;
const LOCAL_INTERVAL: u64 = 24 * 3_600 * SECOND;
const DAY: u64 = 24 * 3_600;
/// Whoever is asked for addresses alone has this long for them.
const FETCH_TIMEOUT: u64 = 10 * SEND_INTERVAL;

fn key_of(addr: &NetAddress) -> Vec<u8> {
    format!("{:?}:{}", addr.place, addr.port).into_bytes()
}

impl Peer {
    /// Addresses are exchanged from now on, if they ever are with such a peer.
    pub(super) fn sets_up_gossip(&mut self) -> bool {
        if matches!(self.kind, Kind::BlockRelay | Kind::Feeler) {
            return false;
        }
        self.gossip.enabled = true;
        true
    }

    /// Notes one that is to be told.
    fn tell(&mut self, addr: PeerAddress, random: usize) {
        let fits = self.gossip.wants_v2 || addr.addr.fits_old_form();
        if !fits || self.gossip.known.contains(&key_of(&addr.addr)) {
            return;
        }
        if self.gossip.to_send.len() >= ADDRESSES_MAX {
            self.gossip.to_send[random % ADDRESSES_MAX] = addr;
        } else {
            self.gossip.to_send.push(addr);
        }
    }
}

impl Peers {
    /// Upon addresses; `unknown` more were of networks that are not known here.
    pub(super) fn on_addresses(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        command: &str,
        mut list: Vec<PeerAddress>,
        unknown: usize,
    ) {
        if !self.peer(id).sets_up_gossip() {
            let kind = self.peer(id).kind.name();
            step.log("net", format!("ignoring {command} message from {kind} peer={id}"));
            return;
        }
        let count = list.len() + unknown;
        if count > ADDRESSES_MAX {
            return self.blame(step, id, &format!("{command} message size = {count}"));
        }
        self.refill(id, step.now);
        self.rng.shuffle(&mut list);
        let (mut taken, mut limited) = (Vec::new(), 0);
        let now = step.seconds();
        let unbounded = self.peer(id).has(Permissions::ADDR);
        for mut addr in list {
            let gossip = &mut self.peer(id).gossip;
            if gossip.tokens >= 1.0 {
                gossip.tokens -= 1.0;
            } else if !unbounded {
                limited += 1;
                continue;
            }
            if !addr.services.serves_blocks() && !Self::has_wanted_services(step, addr.services) {
                continue;
            }
            let time = u64::from(addr.time);
            if time <= 100_000_000 || time > now + 600 {
                addr.time = now.saturating_sub(5 * DAY) as u32;
            }
            gossip.known.insert(&key_of(&addr.addr));
            let unwelcome = |ip| self.bans.is_discouraged(ip) || self.bans.is_banned(ip, now);
            if addr.addr.socket().is_some_and(|socket| unwelcome(socket.ip())) {
                continue;
            }
            taken.push(addr);
        }
        self.take_addresses(step, id, &taken, count);
        let gossip = &mut self.peer(id).gossip;
        gossip.processed += taken.len() as u64;
        gossip.rate_limited += limited;
        if count < ADDRESSES_MAX {
            gossip.getaddr_sent = false;
        }
        let processed = taken.len();
        step.log(
            "net",
            format!("Received addr: {count} addresses ({processed} processed, {limited} rate-limited) from peer={id}"),
        );
        if self.peer(id).kind == Kind::AddrFetch && count > 1 {
            self.close(step, id, "addrfetch connection completed");
        }
    }

    fn refill(&mut self, id: PeerId, now: u64) {
        let gossip = &mut self.peer(id).gossip;
        if gossip.tokens < TOKENS_MAX {
            let seconds = now.saturating_sub(gossip.tokens_at) as f64 / SECOND as f64;
            gossip.tokens = (gossip.tokens + seconds * RATE).min(TOKENS_MAX);
        }
        gossip.tokens_at = now;
    }

    fn take_addresses(&mut self, step: &mut Step<'_>, id: PeerId, taken: &[PeerAddress], count: usize) {
        let now = step.seconds();
        let peer = self.peer(id);
        let (source, asked) = (NetAddress::from_socket(peer.addr), peer.gossip.getaddr_sent);
        let mut added = 0;
        for addr in taken {
            let reachable = addr.addr.fits_old_form();
            let fresh = u64::from(addr.time) + 600 > now;
            if fresh && !asked && count <= 10 && addr.addr.is_routable() {
                self.pass_on(id, *addr, reachable, now);
            }
            if reachable {
                let new = self.book.add(*addr, source, 7_200, now, &mut self.rng);
                self.book_dirty |= new;
                if let Some(socket) = addr.addr.socket().filter(|_| new) {
                    step.log("addrman", format!("Added {socket} to new"));
                }
                added += usize::from(new);
            }
        }
        if added > 0 {
            let (of, total) = (taken.len(), self.book.len());
            step.log("addrman", format!("Added {added} addresses (of {of}) from {:?}: {total} in all", source.place));
        }
    }

    /// Tells one or two others.
    fn pass_on(&mut self, from: PeerId, addr: PeerAddress, reachable: bool, now: u64) {
        let key = key_of(&addr.addr);
        let hash = self.keyed(&[b"address", &key]);
        let day = (now.wrapping_add(hash)) / DAY;
        let rank = |id: PeerId| self.keyed(&[b"relay", &hash.to_le_bytes(), &day.to_le_bytes(), &id.to_le_bytes()]);
        let coin = self.keyed(&[b"coin", &hash.to_le_bytes(), &day.to_le_bytes()]) & 1 == 1;
        let count = if reachable || coin { 2 } else { 1 };
        let willing = self.peers.values().filter(|peer| {
            peer.gossip.enabled && peer.id != from && (peer.gossip.wants_v2 || addr.addr.fits_old_form())
        });
        let mut best: Vec<(u64, PeerId)> = willing.map(|peer| (rank(peer.id), peer.id)).collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in best.into_iter().take(count) {
            let random = self.rng.usize(..);
            self.peer(id).tell(addr, random);
        }
    }

    pub(super) fn on_getaddr(&mut self, step: &mut Step<'_>, id: PeerId) {
        if !self.peer(id).inbound() {
            let kind = self.peer(id).kind.name();
            step.log("net", format!("Ignoring \"getaddr\" from {kind} connection. peer={id}"));
            return;
        }
        let peer = self.peer(id);
        peer.sets_up_gossip();
        if std::mem::replace(&mut peer.gossip.getaddr_received, true) {
            step.log("net", format!("Ignoring repeated \"getaddr\". peer={id}"));
            return;
        }
        peer.gossip.to_send.clear();
        let unbounded = peer.has(Permissions::ADDR);
        let bind = peer.bind;
        let list = self.sample_addresses(step.seconds(), bind, unbounded);
        for addr in list {
            let random = self.rng.usize(..);
            self.peer(id).tell(addr, random);
        }
    }

    /// What one who asks is told: the same for about a day to all who come in by the same address of ours. By another
    /// address it is something else, so that nobody can tell from it that both are of one node.
    pub(super) fn sample_addresses(&mut self, now: u64, bind: Option<SocketAddr>, unbounded: bool) -> Vec<PeerAddress> {
        if let Some((until, list)) = self.known_addresses.get(&bind).filter(|_| !unbounded)
            && now < *until
        {
            return list.clone();
        }
        let mut list = self.book.sample(ADDRESSES_MAX, SHARE, now, &mut self.rng);
        let welcome = |addr: &PeerAddress| {
            addr.addr
                .socket()
                .is_none_or(|socket| !self.bans.is_discouraged(socket.ip()) && !self.bans.is_banned(socket.ip(), now))
        };
        list.retain(welcome);
        if !unbounded {
            let until = now + 21 * 3_600 + self.rng.u64(0..6 * 3_600);
            if self.known_addresses.len() >= BINDS_MAX {
                self.known_addresses.clear();
            }
            self.known_addresses.insert(bind, (until, list.clone()));
        }
        list
    }

    /// Tells a peer of addresses, if it is time; false if the connection is over.
    pub(super) fn send_addresses(&mut self, step: &mut Step<'_>, id: PeerId) -> bool {
        let now = step.now;
        let peer = self.peer(id);
        if peer.kind == Kind::AddrFetch && now > peer.connected + FETCH_TIMEOUT {
            self.close(step, id, "addrfetch connection timeout");
            return false;
        }
        if !peer.gossip.enabled {
            return true;
        }
        self.tell_of_us(step, id);
        let next = now + self.exponential(SEND_INTERVAL);
        let gossip = &mut self.peer(id).gossip;
        if now <= gossip.next_send {
            return true;
        }
        gossip.next_send = next;
        let mut list = std::mem::take(&mut gossip.to_send);
        list.retain(|addr| {
            let key = key_of(&addr.addr);
            let new = !gossip.known.contains(&key);
            if new {
                gossip.known.insert(&key);
            }
            new
        });
        if !list.is_empty() {
            self.send_list(step, id, list);
        }
        true
    }

    fn send_list(&mut self, step: &mut Step<'_>, id: PeerId, list: Vec<PeerAddress>) {
        let message = if self.peer(id).gossip.wants_v2 { Message::AddrV2(list, 0) } else { Message::Addr(list) };
        self.send(step, id, &message);
    }

    fn tell_of_us(&mut self, step: &mut Step<'_>, id: PeerId) {
        let now = step.now;
        if !self.config.listen || self.downloading || self.peer(id).gossip.next_local >= now {
            return;
        }
        let (next, random) = (now + self.exponential(LOCAL_INTERVAL), self.rng.usize(..));
        let ours = self.config.external.first().map(|socket| NetAddress::from_socket(*socket));
        let (seconds, services) = (step.seconds(), Services(self.peer(id).our_services.0));
        let gossip = &mut self.peer(id).gossip;
        let first = gossip.next_local == 0;
        gossip.next_local = next;
        if !first {
            gossip.known.clear();
        }
        let Some(addr) = ours.filter(NetAddress::is_routable) else { return };
        if let Some(socket) = addr.socket() {
            step.log("net", format!("Advertising address {socket} to peer={id}"));
        }
        let addr = PeerAddress { time: seconds as u32, services, addr };
        if !first {
            return self.peer(id).tell(addr, random);
        }
        if self.peer(id).gossip.wants_v2 || addr.addr.fits_old_form() {
            self.send_list(step, id, vec![addr]);
        }
    }
}
