//! How peers introduce themselves, and whose messages go where.
//!
//! - whoever dialed says `version` first, the other answers with its own;
//! - upon a version: what is agreed upon before the end of introductions (`wtxidrelay`, `sendaddrv2`), then `verack`;
//! - upon a `verack`: the peer is established, and says and is told the rest;
//! - upon our own nonce: it is us, and we hang up; so we do upon a version too old, or if what we need is not offered.
//!
//! Messages before the version, and others than those before the `verack`, are not answered.

use super::PeerId;
use super::config::{Kind, Permissions};
use super::machine::{Peers, SECOND, Step};
use super::peer::TxRelay;
use super::transactions::Source;
use crate::chain::ChainError;
use crate::wire::{
    COMPACT_KIND, COMPACT_VERSION, Frame, Message, NetAddress, PONG_VERSION, PROTOCOL_VERSION, Services, VERSION_MIN,
    Version, WTXID_VERSION,
};

/// A peer is asked for a sign of life this often.
const PING_INTERVAL: u64 = 120 * SECOND;
/// It has this long for it.
pub(super) const TIMEOUT_INTERVAL: u64 = 20 * 60 * SECOND;
/// Near the tip, peers with the last 288 blocks alone will do.
const LIMITED_DEPTH: u64 = 144;
/// Addresses that a peer may send at once after it was asked for them.
const ADDRESSES_ASKED: f64 = 1_000.0;

impl Peers {
    /// Upon a message.
    pub(super) fn on_frame(&mut self, step: &mut Step<'_>, id: PeerId, frame: &Frame) -> Result<(), ChainError> {
        step.log("net", format!("received: {} ({} bytes) peer={id}", frame.command, frame.payload.len()));
        let message = match Message::decode(&frame.command, &frame.payload) {
            Ok(message) => message,
            Err(error) => {
                let (command, size) = (&frame.command, frame.payload.len());
                step.log("net", format!("ProcessMessages({command}, {size} bytes): Exception '{error}' (NSt8ios_base7failureB5cxx11E) caught"));
                return Ok(());
            }
        };
        if let Message::Version(version) = message {
            self.on_version(step, id, &version);
            return Ok(());
        }
        if self.peer(id).version == 0 {
            step.log(
                "net",
                format!("non-version message before version handshake. Message \"{}\" from peer={id}", frame.command),
            );
            return Ok(());
        }
        match message {
            Message::Verack => self.on_verack(step, id),
            Message::SendHeaders => self.peer(id).sync.prefers_headers = true,
            Message::SendCompact { announce, version } => self.on_sendcmpct(step, id, announce, version),
            Message::WtxidRelay => self.on_wtxidrelay(step, id),
            Message::SendAddrV2 => self.on_sendaddrv2(step, id),
            Message::Unknown(command) if command == "sendtxrcncl" => {
                let why = "as our node does not have txreconciliation enabled";
                step.log("net", format!("sendtxrcncl from peer={id} ignored, {why}"));
            }
            message if self.peer(id).established => self.on_message(step, id, message)?,
            message => {
                let command = message.command().to_owned();
                step.log("net", format!("Unsupported message \"{command}\" prior to verack from peer={id}"));
            }
        }
        Ok(())
    }

    /// Upon a message of an established peer.
    fn on_message(&mut self, step: &mut Step<'_>, id: PeerId, message: Message) -> Result<(), ChainError> {
        match message {
            Message::Addr(list) => self.on_addresses(step, id, "addr", list, 0),
            Message::AddrV2(list, unknown) => self.on_addresses(step, id, "addrv2", list, unknown),
            Message::GetAddr => self.on_getaddr(step, id),
            Message::Inv(list) => self.on_inv(step, id, &list),
            Message::GetData(list) => self.on_getdata(step, id, list),
            Message::NotFound(list) => self.on_notfound(id, &list),
            Message::GetBlocks(locator) => self.on_getblocks(step, id, &locator),
            Message::GetHeaders(locator) => self.on_getheaders(step, id, &locator),
            Message::Headers(headers) => self.on_headers_message(step, id, headers)?,
            Message::Block { block, .. } => self.on_block_message(step, id, block)?,
            Message::CompactBlock(compact) => self.on_compact_block(step, id, &compact)?,
            Message::GetBlockTxns(request) => self.on_get_block_txns(step, id, &request)?,
            Message::BlockTxns(response) => self.on_block_txns(step, id, &response)?,
            Message::Tx { tx, .. } => self.on_tx(step, id, tx)?,
            Message::Mempool => self.on_mempool_message(step, id),
            Message::Ping(nonce) => self.on_ping(step, id, nonce),
            Message::Pong(nonce) => self.on_pong(step, id, nonce),
            Message::FeeFilter(rate) => self.on_feefilter(step, id, rate),
            Message::FilterLoad { bits, hashes, tweak, flags } => {
                self.on_filterload(step, id, (bits, hashes, tweak, flags));
            }
            Message::FilterAdd(data) => self.on_filteradd(step, id, &data),
            Message::FilterClear => self.on_filterclear(step, id),
            Message::GetFilters(range) => self.on_getcfilters(step, id, &range),
            Message::GetFilterHeaders(range) => self.on_getcfheaders(step, id, &range),
            Message::GetFilterCheckpoints { kind, stop } => self.on_getcfcheckpt(step, id, kind, stop),
            Message::Unknown(command) => {
                step.log("net", format!("Unknown message type \"{command}\" from peer={id}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Says who we are.
    pub(super) fn send_version(&mut self, step: &mut Step<'_>, id: PeerId) {
        let relay = !self.refuses_transactions(id);
        let height = i32::try_from(step.node.chain().height()).unwrap_or(i32::MAX);
        let (time, user_agent) = (step.seconds() as i64, self.config.user_agent.clone());
        let peer = self.peer(id);
        let addr = NetAddress::from_socket(peer.addr);
        let receiver = if addr.is_routable() { addr } else { NetAddress::NONE };
        let version = Version {
            version: PROTOCOL_VERSION,
            services: peer.our_services,
            time,
            receiver_services: peer.services,
            receiver,
            nonce: peer.nonce,
            user_agent,
            height,
            relay,
        };
        peer.version_sent = true;
        self.send(step, id, &Message::Version(version));
    }

    /// True if no transactions are taken from this peer.
    pub(super) fn refuses_transactions(&self, id: PeerId) -> bool {
        let peer = &self.peers[&id];
        matches!(peer.kind, Kind::BlockRelay | Kind::Feeler)
            || (self.config.blocks_only && !peer.has(Permissions::RELAY))
    }

    /// True if these are what a node needs of another to follow the chain.
    pub(super) fn has_wanted_services(step: &Step<'_>, services: Services) -> bool {
        let chain = step.node.chain();
        let tip = u64::from(chain.entry(chain.tip()).header.time);
        let spacing = u64::from(chain.params().headers.pow.spacing);
        let near = step.seconds().saturating_sub(tip) / spacing < LIMITED_DEPTH;
        let blocks =
            if near && services.has(Services::NETWORK_LIMITED) { Services::NETWORK_LIMITED } else { Services::NETWORK };
        services.has(blocks | Services::WITNESS)
    }

    fn on_version(&mut self, step: &mut Step<'_>, id: PeerId, version: &Version) {
        let peer = &self.peers[&id];
        if peer.version != 0 {
            step.log("net", format!("redundant version message from peer={id}"));
            return;
        }
        let (kind, addr) = (peer.kind, NetAddress::from_socket(peer.addr));
        if kind != Kind::Inbound {
            self.book.set_services(&addr, version.services);
        }
        if kind.expects_services() && !Self::has_wanted_services(step, version.services) {
            let offered = version.services.0;
            let expected = Services::NETWORK | Services::WITNESS;
            return self.close(
                step,
                id,
                &format!("peer does not offer the expected services ({offered:08x} offered, {expected:08x} expected)"),
            );
        }
        if (version.version.cast_signed()) < VERSION_MIN.cast_signed() {
            return self.close(step, id, &format!("peer using obsolete version {}", version.version.cast_signed()));
        }
        if kind == Kind::Inbound && self.is_own_nonce(version.nonce) {
            return self.close(step, id, &format!("connected to self at {}", peer_addr(self, id)));
        }
        if kind == Kind::Inbound {
            self.send_version(step, id);
        }
        self.take_version(step, id, version);
        if self.peer(id).common >= WTXID_VERSION {
            self.send(step, id, &Message::WtxidRelay);
            self.send(step, id, &Message::SendAddrV2);
        }
        self.send(step, id, &Message::Verack);
        self.after_version(step, id, addr);
    }

    /// A connection of ours to ourselves came back.
    fn is_own_nonce(&self, nonce: u64) -> bool {
        self.peers.values().any(|peer| !peer.inbound() && !peer.established && peer.nonce == nonce)
    }

    fn take_version(&mut self, step: &mut Step<'_>, id: PeerId, version: &Version) {
        let (keys, seconds) = (self.keys, step.seconds() as i64);
        let peer = self.peer(id);
        peer.version = version.version;
        peer.common = version.version.min(PROTOCOL_VERSION);
        peer.services = version.services;
        peer.user_agent.clone_from(&version.user_agent);
        peer.height = version.height;
        peer.local = Some(version.receiver);
        peer.time_offset = version.time.saturating_sub(seconds);
        let may_relay = !matches!(peer.kind, Kind::BlockRelay | Kind::Feeler);
        if may_relay && (version.relay || peer.our_services.has(Services::BLOOM)) {
            peer.tx = Some(TxRelay::new(version.relay, keys));
        }
        let (inbound, fetch) = (peer.inbound(), peer.kind == Kind::AddrFetch);
        let willing = !inbound || peer.has(Permissions::NO_BAN);
        peer.sync.preferred = willing && !fetch && peer.services.serves_blocks();
        let name = if version.user_agent.is_empty() { "<no user agent>" } else { &version.user_agent };
        step.log(
            "net",
            format!(
                "receive version message: {name}: version {}, blocks={}, txrelay={}, peer={id}",
                version.version,
                version.height,
                u8::from(version.relay)
            ),
        );
    }

    fn after_version(&mut self, step: &mut Step<'_>, id: PeerId, addr: NetAddress) {
        let peer = self.peer(id);
        if peer.kind == Kind::Inbound {
            return;
        }
        if peer.sets_up_gossip() {
            peer.gossip.getaddr_sent = true;
            peer.gossip.tokens += ADDRESSES_ASKED;
            self.send(step, id, &Message::GetAddr);
        }
        self.book_dirty |= self.book.good(&addr, step.seconds());
        if self.peer(id).kind == Kind::Feeler {
            self.close(step, id, "feeler connection completed");
        }
    }

    fn on_verack(&mut self, step: &mut Step<'_>, id: PeerId) {
        let peer = self.peer(id);
        if peer.established {
            step.log("net", format!("ignoring redundant verack message from peer={id}"));
            return;
        }
        peer.established = true;
        let source =
            Source { preferred: peer.sync.preferred, relay: peer.has(Permissions::RELAY), wtxid: peer.wtxid_relay };
        let text = format!(
            "New {} peer connected: transport: {}, version: {}, peer={id}",
            peer.kind.name(),
            peer.transport.name(),
            peer.version
        );
        let compact = peer.common >= COMPACT_VERSION;
        if compact {
            self.send(step, id, &Message::SendCompact { announce: 0, version: COMPACT_KIND });
        }
        self.downloads.on_connected(id, source);
        step.log("net", text);
    }

    fn on_sendcmpct(&mut self, step: &mut Step<'_>, id: PeerId, announce: u8, version: u64) {
        if announce > 1 {
            return self.blame(step, id, "invalid sendcmpct announce field");
        }
        if version == COMPACT_KIND {
            let sync = &mut self.peer(id).sync;
            sync.provides_compact = true;
            sync.wants_compact = announce == 1;
        }
    }

    fn on_wtxidrelay(&mut self, step: &mut Step<'_>, id: PeerId) {
        if self.peer(id).established {
            return self.close(step, id, "wtxidrelay received after verack");
        }
        let peer = self.peer(id);
        let (common, before) = (peer.common, peer.wtxid_relay);
        peer.wtxid_relay |= common >= WTXID_VERSION;
        if common < WTXID_VERSION {
            step.log("net", format!("ignoring wtxidrelay due to old common version={common} from peer={id}"));
        } else if before {
            step.log("net", format!("ignoring duplicate wtxidrelay from peer={id}"));
        }
    }

    fn on_sendaddrv2(&mut self, step: &mut Step<'_>, id: PeerId) {
        if self.peer(id).established {
            return self.close(step, id, "sendaddrv2 received after verack");
        }
        self.peer(id).gossip.wants_v2 = true;
    }

    fn on_ping(&mut self, step: &mut Step<'_>, id: PeerId, nonce: Option<u64>) {
        if self.peer(id).common > PONG_VERSION && nonce.is_some() {
            self.send(step, id, &Message::Pong(nonce));
        }
    }

    fn on_pong(&mut self, step: &mut Step<'_>, id: PeerId, nonce: Option<u64>) {
        let now = step.now;
        let pings = &mut self.peer(id).pings;
        let expected = pings.nonce;
        let (problem, over) = match nonce {
            None => ("Short payload", true),
            Some(_) if expected == 0 => ("Unsolicited pong without ping", false),
            Some(nonce) if nonce == expected && now >= pings.start => {
                let span = now - pings.start;
                pings.last = Some(span);
                pings.min = Some(pings.min.map_or(span, |min| min.min(span)));
                ("", true)
            }
            Some(nonce) if nonce == expected => ("Timing mishap", true),
            Some(0) => ("Nonce zero", true),
            Some(_) => ("Nonce mismatch", false),
        };
        if over {
            pings.nonce = 0;
        }
        if !problem.is_empty() {
            let (nonce, size) = (nonce.unwrap_or(0), if nonce.is_some() { 8 } else { 0 });
            step.log(
                "net",
                format!("pong peer={id}: {problem}, {expected:x} expected, {nonce:x} received, {size} bytes"),
            );
        }
    }

    /// Asks for a sign of life, or ends what has given none; false upon the latter.
    pub(super) fn send_ping(&mut self, step: &mut Step<'_>, id: PeerId) -> bool {
        let (now, timeout) = (step.now, self.config.timeout.saturating_mul(SECOND));
        let random = self.rng.u64(1..);
        let peer = self.peer(id);
        let checks = peer.connected.saturating_add(timeout) < now;
        if checks && peer.pings.nonce != 0 && now > peer.pings.start + TIMEOUT_INTERVAL {
            let span = (now - peer.pings.start) / SECOND;
            self.close(step, id, &format!("ping timeout: {span}.000000s"));
            return false;
        }
        let due = peer.pings.nonce == 0 && now > peer.pings.start + PING_INTERVAL;
        if !due && !peer.pings.queued {
            return true;
        }
        (peer.pings.queued, peer.pings.start) = (false, now);
        let nonce = (peer.common > PONG_VERSION).then_some(random);
        peer.pings.nonce = nonce.unwrap_or(0);
        self.send(step, id, &Message::Ping(nonce));
        true
    }

    /// Lets go of peers that say nothing, take nothing, or do not introduce themselves.
    pub(super) fn check_silence(&mut self, step: &mut Step<'_>) {
        let (now, timeout) = (step.now, self.config.timeout.saturating_mul(SECOND));
        let late: Vec<PeerId> = self
            .peers
            .values()
            .filter(|peer| !peer.closing && peer.connected.saturating_add(timeout) < now)
            .map(|peer| peer.id)
            .collect();
        for id in late {
            let peer = &self.peers[&id];
            let (sent, received) = (peer.traffic.last_send, peer.traffic.last_recv);
            let seconds = self.config.timeout;
            let why = if sent == 0 || received == 0 {
                let never_received = if received == 0 { ", never received from peer" } else { "" };
                let never_sent = if sent == 0 { ", never sent to peer" } else { "" };
                Some(format!("socket no message in first {seconds} seconds{never_received}{never_sent}"))
            } else if now > sent + TIMEOUT_INTERVAL {
                Some(format!("socket sending timeout: {}s", (now - sent) / SECOND))
            } else if now > received + TIMEOUT_INTERVAL {
                Some(format!("socket receive timeout: {}s", (now - received) / SECOND))
            } else if !peer.established {
                let detecting = peer.transport.name() == "detecting";
                Some(if detecting { "V2 handshake timeout" } else { "version handshake timeout" }.to_owned())
            } else {
                None
            };
            if let Some(why) = why {
                self.close(step, id, &why);
            }
        }
    }
}

fn peer_addr(peers: &Peers, id: PeerId) -> std::net::SocketAddr {
    peers.peers[&id].addr
}
