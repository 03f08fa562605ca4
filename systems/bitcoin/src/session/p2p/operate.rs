//! What operators see and do ([`PeerControl`]).
//!
//! What a call brings about is done in the next step, no later than the next wake-up.

use std::net::SocketAddr;
use std::sync::Arc;

use bitcoin::Transaction;

use super::PeerId;
use super::addresses::{Subnet, by_hand};
use super::config::Kind;
use super::control::{AddNode, AddedNode, Banned, KnownAddress, PeerControl, PeerInfo, Upload, Which};
use super::machine::{Peers, SECOND};
use super::peer::Peer;
use super::serve::UPLOAD_DAY;
use crate::node::Node;

fn in_seconds(span: u64) -> f64 {
    span as f64 / SECOND as f64
}

impl Peers {
    fn info(&self, peer: &Peer) -> PeerInfo {
        let relay = peer.tx.as_ref();
        let gossip = &peer.gossip;
        let pings = &peer.pings;
        let wait = (pings.nonce != 0 && self.last_now > pings.start).then(|| in_seconds(self.last_now - pings.start));
        PeerInfo {
            id: peer.id,
            addr: peer.name.clone(),
            addr_bind: peer.bind,
            addr_local: peer
                .local
                .filter(super::super::super::wire::NetAddress::is_routable)
                .and_then(|addr| addr.socket()),
            services: peer.services.0,
            relay_txs: relay.is_some_and(|relay| relay.wants),
            last_send: peer.traffic.last_send / SECOND,
            last_recv: peer.traffic.last_recv / SECOND,
            last_transaction: peer.last_transaction,
            last_block: peer.last_block,
            bytes_sent: peer.traffic.sent,
            bytes_recv: peer.traffic.received,
            conn_time: peer.connected / SECOND,
            time_offset: peer.time_offset,
            ping_time: pings.last.map(in_seconds),
            ping_min: pings.min.map(in_seconds),
            ping_wait: wait,
            version: peer.version,
            subver: peer.user_agent.clone(),
            inbound: peer.inbound(),
            bip152_hb_to: peer.sync.high_bandwidth,
            bip152_hb_from: peer.sync.wants_compact,
            starting_height: peer.height,
            presynced_headers: peer
                .sync
                .presync
                .as_ref()
                .and_then(|presync| presync.at())
                .map_or(-1, |(height, _)| i64::from(height)),
            synced_headers: peer.heights.headers,
            synced_blocks: peer.heights.blocks,
            inflight: peer.heights.in_flight.clone(),
            addr_relay_enabled: gossip.enabled,
            addr_processed: gossip.processed,
            addr_rate_limited: gossip.rate_limited,
            permissions: peer.permissions.names(),
            min_fee_filter: relay.map_or(0, |relay| relay.fee_filter),
            bytes_sent_per_msg: peer.traffic.sent_by.clone(),
            bytes_recv_per_msg: peer.traffic.received_by.clone(),
            connection_type: peer.kind.name().to_owned(),
            transport_protocol_type: peer.transport.name().to_owned(),
            session_id: peer.transport.session(),
            inv_to_send: relay.map_or(0, |relay| relay.to_send.len() as u64),
            last_inv_sequence: relay.map_or(0, |relay| relay.last_sequence),
        }
    }

    /// Upon a call, which may come after an operator moved the clock: what is shown is as of now.
    pub fn on_clock(&mut self, node: &Node) {
        if node.is_mocked() || self.last_now / SECOND != node.time() {
            self.last_now = node.time().saturating_mul(SECOND);
        }
    }

    /// Upon `mockscheduler`: what is done at intervals is due so much sooner.
    pub fn on_scheduled(&mut self, seconds: u64) {
        let span = seconds.saturating_mul(SECOND);
        // A timer at 0 was never set.
        let sooner = |timer: &mut u64| *timer = if *timer == 0 { 0 } else { timer.saturating_sub(span).max(1) };
        sooner(&mut self.next_rebroadcast);
        sooner(&mut self.next_stale_check);
    }

    /// The book of addresses for the disk, if it changed since it was taken last.
    pub fn take_book(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.book_dirty).then(|| self.book.encode())
    }

    /// Takes in what [`Self::take_book`] gave; false if it cannot be read. `now` in seconds since 1970.
    pub fn load_book(&mut self, bytes: &[u8], now: u64) -> bool {
        match super::addresses::Book::decode(bytes, now) {
            Some(book) => {
                self.book = book;
                true
            }
            None => false,
        }
    }

    /// `banlist.json` for the disk, if it changed since it was taken last.
    pub fn take_bans(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.bans.changed).then(|| self.bans.encode())
    }

    /// `banlist.json` as it is now.
    pub(crate) fn bans_file(&self) -> Vec<u8> {
        self.bans.encode()
    }

    /// Takes in `banlist.json`; false if it cannot be read. `now` in seconds since 1970.
    pub fn load_bans(&mut self, bytes: &[u8], now: u64) -> bool {
        self.bans.load(bytes, now)
    }

    fn seconds(&self) -> u64 {
        self.last_now / SECOND
    }
}

impl PeerControl for Peers {
    fn peers(&self) -> Vec<PeerInfo> {
        self.peers.values().map(|peer| self.info(peer)).collect()
    }

    fn add_node(&mut self, addr: &str, command: AddNode, v2: Option<bool>) -> Result<(), &'static str> {
        let v2 = v2.unwrap_or(self.config.v2_transport);
        let place = self.dialer.added.iter().position(|(added, _)| added == addr);
        match (command, place) {
            (AddNode::OneTry, _) => self.dialer.dial_once(addr.to_owned(), v2),
            (AddNode::Add, Some(_)) => return Err("Error: Node already added"),
            (AddNode::Add, None) => {
                self.dialer.added.push((addr.to_owned(), v2));
                self.dialer.look_at_added();
            }
            (AddNode::Remove, Some(place)) => {
                self.dialer.added.remove(place);
            }
            (AddNode::Remove, None) => {
                return Err("Error: Node could not be removed. It has not been added previously.");
            }
        }
        Ok(())
    }

    fn added_nodes(&self) -> Vec<AddedNode> {
        let row = |(added, _): &(String, bool)| {
            let socket = added.parse::<SocketAddr>().ok();
            let peer = self.peers.values().find(|peer| peer.name == *added || Some(peer.addr) == socket);
            AddedNode { addr: added.clone(), connected: peer.map(|peer| (peer.addr, peer.inbound())) }
        };
        self.dialer.added.iter().map(row).collect()
    }

    fn disconnect(&mut self, which: &Which) -> bool {
        let wanted = |peer: &&mut Peer| match which {
            Which::Addr(addr) => peer.name == *addr || peer.addr.to_string() == *addr,
            Which::Id(id) => peer.id == *id,
        };
        let peer = self.peers.values_mut().find(wanted);
        peer.map(|peer| peer.closing = true).is_some()
    }

    fn set_network_active(&mut self, active: bool) {
        self.active = active;
        if !active {
            self.peers.values_mut().for_each(|peer| peer.closing = true);
        }
    }

    fn network_active(&self) -> bool {
        self.active
    }

    fn totals(&self) -> (u64, u64) {
        self.totals
    }

    fn upload(&self) -> Upload {
        let target = self.config.upload_target;
        if target == 0 {
            return Upload::default();
        }
        let (seconds, fresh) = (self.seconds(), self.seconds() >= self.upload.0 + UPLOAD_DAY);
        let (spent, left) = if fresh { (0, UPLOAD_DAY) } else { (self.upload.1, self.upload.0 + UPLOAD_DAY - seconds) };
        Upload {
            target,
            reached: self.upload_is_spent(seconds, false),
            serves_old_blocks: !self.upload_is_spent(seconds, true),
            bytes_left: target.saturating_sub(spent),
            seconds_left: left,
        }
    }

    fn ban(&mut self, subnet: &str, until: u64) -> bool {
        let Ok(subnet) = subnet.parse::<Subnet>() else { return false };
        let now = self.seconds();
        if self.bans.has(&subnet, now) {
            return false;
        }
        self.bans.ban(subnet, until, now);
        self.peers.values_mut().filter(|peer| subnet.contains(peer.addr.ip())).for_each(|peer| peer.closing = true);
        true
    }

    fn unban(&mut self, subnet: &str) -> bool {
        subnet.parse::<Subnet>().is_ok_and(|subnet| self.bans.unban(&subnet))
    }

    fn banned(&self) -> Vec<Banned> {
        self.bans.list(self.seconds())
    }

    fn clear_banned(&mut self) {
        self.bans.clear();
    }

    fn known_addresses(&self, count: usize) -> Vec<KnownAddress> {
        let mut rng = self.rng.clone();
        let sample = self.book.sample(count, 0, self.seconds(), &mut rng);
        let row = |addr: crate::wire::PeerAddress| {
            Some(KnownAddress { time: u64::from(addr.time), services: addr.services.0, addr: addr.addr.socket()? })
        };
        sample.into_iter().filter_map(row).collect()
    }

    fn add_address(&mut self, addr: SocketAddr, tried: bool) -> bool {
        let now = self.seconds();
        let known = by_hand(addr, now);
        if !self.book.add(known, known.addr, 0, now, &mut self.rng) {
            return false;
        }
        self.book_dirty = true;
        !tried || self.book.good(&known.addr, now)
    }

    fn local_services(&self) -> u64 {
        self.services().0
    }

    fn ping_all(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.pings.queued = true);
    }

    fn fetch_block(&mut self, hash: bitcoin::BlockHash, peer: PeerId) -> Result<(), &'static str> {
        let Some(found) = self.peers.get(&peer) else { return Err("Peer does not exist") };
        if !found.serves_witnesses() {
            return Err("Pre-SegWit peer");
        }
        if self.asked(&hash).contains(&peer) {
            return Err("Already requested from this peer");
        }
        self.fetches.push((hash, peer));
        Ok(())
    }

    fn add_connection(&mut self, addr: &str, kind: &str, v2: bool) -> Result<(), &'static str> {
        let kinds = [Kind::Full, Kind::BlockRelay, Kind::AddrFetch, Kind::Feeler];
        let kind = kinds.into_iter().find(|known| known.name() == kind).ok_or("Error: no such connection type")?;
        if self.is_full_of(kind) {
            return Err("Error: Already at capacity for specified connection type.");
        }
        self.dialer.dial_kind(addr.to_owned(), kind, v2);
        Ok(())
    }

    fn is_dialing(&self, addr: &str) -> bool {
        self.dialer.is_dialing(addr)
    }

    fn tell_again(&mut self, tx: &Transaction) {
        self.broadcast(tx);
    }

    fn local_addresses(&self) -> Vec<SocketAddr> {
        self.config.external.clone()
    }

    fn send_message(&mut self, peer: u64, kind: &str, bytes: &[u8]) -> bool {
        let known = self.peers.contains_key(&peer);
        if known {
            self.raw.push((peer, kind.to_owned(), bytes.to_vec()));
        }
        known
    }

    fn orphans(&self) -> Vec<(Arc<Transaction>, Vec<u64>)> {
        self.downloads.orphans()
    }
}
