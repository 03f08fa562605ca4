//! All peers, as one step machine.
//!
//! - upon bytes: messages are answered one by one, in their order, as long as the peer takes what it is sent;
//! - upon a wake-up, ten times a second: each peer is sent what its time has come for, and silent ones are let go;
//! - upon what became of the node: peers are told.
//!
//! Moments are those of [`Node::time`], so that an operator's clock moves all timers; the finer part is the host's.
//!
//! HAZARD: the host must report what its sockets took ([`Input::Sent`]). A peer with more than `-maxsendbuffer` unsent is not
//! served until then.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::hashes::{Hash, HashEngine, sha256, siphash24};
use bitcoin::{BlockHash, Transaction, Txid, Wtxid};
use verity_clock::Now;
use verity_nakamoto::BlockId;
use verity_types::{ConnId, Mono, Nanos};

use super::PeerId;
use super::addresses::{Bans, Book};
use super::config::{Config, Kind, Permissions};
use super::dial::Dialer;
use super::filters::FilterIndex;
use super::peer::Peer;
use super::transactions::Downloads;
use super::transport::Entropy;
use crate::chain::ChainError;
use crate::node::{Event, Node};
use crate::wire::{CompactBlock, Message, Services};

/// A microsecond is the unit of all moments here.
pub(super) const SECOND: u64 = 1_000_000;
/// Between wake-ups.
const TICK: Nanos = Nanos(100_000_000);
/// Names of unknown messages are not kept: this stands for them.
pub(super) const OTHER: &str = "*other*";

/// What happens to peers.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection came, or one that was asked for came about.
    Opened {
        /// Which.
        conn: ConnId,
        /// Where the peer is.
        addr: SocketAddr,
        /// Our end.
        bind: Option<SocketAddr>,
        /// Why it is there.
        origin: Origin,
    },
    /// A connection that was asked for did not come about.
    DialFailed {
        /// Which.
        token: u64,
    },
    /// Bytes of a peer.
    Bytes {
        /// Whose.
        conn: ConnId,
        /// Them.
        bytes: Vec<u8>,
    },
    /// An [`Output::Drain`] is answered.
    Drained {
        /// Whose.
        conn: ConnId,
        /// Bytes that the host's socket did not take yet.
        waiting: usize,
    },
    /// A connection is gone.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// The time of an [`Output::Wake`] has come.
    Wake,
}

/// Who asked for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The peer; with what it may by where it came in (`-whitebind`).
    Inbound(Permissions),
    /// We, by this token.
    Dialed(u64),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these.
    Bytes {
        /// To whom.
        conn: ConnId,
        /// Them.
        bytes: Vec<u8>,
    },
    /// Tell the machine once no more than so many bytes wait for the host's socket.
    Drain {
        /// Of whom.
        conn: ConnId,
        /// Bytes.
        below: usize,
    },
    /// End a connection, once what was sent is gone.
    Close(ConnId),
    /// Connect.
    Dial {
        /// For the answer.
        token: u64,
        /// A host's name or address, and a port.
        addr: String,
    },
    /// Wake the machine then.
    Wake(Mono),
    /// Read no more of a peer for now.
    Pause(ConnId),
    /// Read of it again.
    Resume(ConnId),
    /// A line for the log.
    Log {
        /// Core's category.
        category: &'static str,
        /// It.
        text: String,
    },
}

/// The node, the time, and what is to be done.
pub(super) struct Step<'a> {
    pub(super) node: &'a mut Node,
    /// In microseconds since 1970.
    pub(super) now: u64,
    pub(super) out: &'a mut Vec<Output>,
    /// Details are written down, too.
    pub(super) verbose: bool,
}

impl Step<'_> {
    pub(super) fn seconds(&self) -> u64 {
        self.now / SECOND
    }

    pub(super) fn log(&mut self, category: &'static str, text: String) {
        if self.verbose || category.is_empty() {
            self.out.push(Output::Log { category, text });
        }
    }
}

/// The block that came last, as it is asked for most.
#[derive(Clone, Debug)]
pub(super) struct LastBlock {
    pub(super) hash: BlockHash,
    pub(super) block: Arc<Block>,
    pub(super) compact: CompactBlock,
    pub(super) by_txid: BTreeMap<Txid, usize>,
    pub(super) by_wtxid: BTreeMap<Wtxid, usize>,
}

/// All peers.
pub struct Peers {
    pub(super) config: Config,
    pub(super) rng: fastrand::Rng,
    pub(super) keys: (u64, u64),
    secret: [u8; 32],
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) by_conn: BTreeMap<ConnId, PeerId>,
    pub(super) next_id: PeerId,
    pub(super) magic: [u8; 4],
    pub(super) active: bool,
    pub(super) totals: (u64, u64),
    /// Blocks that were asked for, and of whom.
    pub(super) in_flight: BTreeMap<BlockHash, Vec<PeerId>>,
    /// Who brought a block that is not judged yet, and whether it is to blame for it.
    pub(super) sources: BTreeMap<BlockHash, (PeerId, bool)>,
    /// Who announces by compact blocks, the latest last.
    pub(super) announcers: VecDeque<PeerId>,
    pub(super) downloads: Downloads,
    pub(super) extra: VecDeque<(Wtxid, Arc<Transaction>)>,
    pub(super) last_block: Option<LastBlock>,
    pub(super) downloading: bool,
    pub(super) stalling_timeout: u64,
    pub(super) last_tip_update: u64,
    pub(super) inv_triggering: Option<BlockHash>,
    /// What an operator wants a peer to be sent (`sendmsgtopeer`).
    pub(super) raw: Vec<(PeerId, String, Vec<u8>)>,
    /// Blocks that an operator wants of a peer.
    pub(super) fetches: Vec<(BlockHash, PeerId)>,
    pub(super) next_rebroadcast: u64,
    pub(super) next_stale_check: u64,
    pub(super) next_extra_check: u64,
    pub(super) initial_sync_over: bool,
    pub(super) next_inv_inbound: u64,
    pub(super) book: Book,
    pub(super) book_dirty: bool,
    pub(super) bans: Bans,
    pub(super) known_addresses: BTreeMap<Option<SocketAddr>, (u64, Vec<crate::wire::PeerAddress>)>,
    pub(super) dialer: Dialer,
    pub(super) filters: Option<Box<dyn FilterIndex>>,
    /// Bytes sent in the day that began then.
    pub(super) upload: (u64, u64),
    /// Of the last step: `PeerControl` has no clock.
    pub(super) last_now: u64,
    /// What an operator's call brought about, for the next step.
    pub(super) pending: Vec<Output>,
    wake_at: Option<Mono>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Peers {
    /// Nobody yet. `seed` is secret and never used twice.
    #[must_use]
    pub fn new(config: Config, magic: [u8; 4], seed: [u8; 32]) -> Self {
        let word = |label: &[u8]| {
            let hash = sha256::Hash::hash(&[&seed[..], label].concat()).to_byte_array();
            u64::from_le_bytes(hash[..8].try_into().expect("a hash has 32 bytes"))
        };
        let keys = (word(b"k0"), word(b"k1"));
        let dialer = Dialer::new(&config);
        Self {
            rng: fastrand::Rng::with_seed(word(b"rng")),
            keys,
            secret: seed,
            peers: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            next_id: 0,
            magic,
            active: true,
            totals: (0, 0),
            in_flight: BTreeMap::new(),
            sources: BTreeMap::new(),
            announcers: VecDeque::new(),
            downloads: Downloads::new((word(b"d0"), word(b"d1"))),
            extra: VecDeque::new(),
            last_block: None,
            downloading: true,
            stalling_timeout: super::fetch::STALLING_TIMEOUT,
            last_tip_update: 0,
            inv_triggering: None,
            raw: Vec::new(),
            fetches: Vec::new(),
            next_rebroadcast: 0,
            next_stale_check: 0,
            next_extra_check: 0,
            initial_sync_over: false,
            next_inv_inbound: 0,
            book: Book::new((word(b"b0"), word(b"b1"))),
            book_dirty: false,
            bans: Bans::new(keys),
            known_addresses: BTreeMap::new(),
            dialer,
            filters: None,
            upload: (0, 0),
            last_now: 0,
            pending: Vec::new(),
            wake_at: None,
            config,
        }
    }

    /// What answers for compact block filters.
    pub fn set_filters(&mut self, filters: Box<dyn FilterIndex>) {
        self.filters = Some(filters);
    }

    /// How many peers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.peers.len()
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// True until the chain is near the network's for the first time (`initialblockdownload`).
    #[must_use]
    pub fn is_initial_block_download(&self) -> bool {
        self.downloading
    }

    /// What we offer.
    #[must_use]
    pub fn services(&self) -> Services {
        let mut bits = Services::NETWORK_LIMITED | Services::WITNESS;
        let options = [
            (!self.config.prune, Services::NETWORK),
            (self.config.v2_transport, Services::P2P_V2),
            (self.config.bloom_filters, Services::BLOOM),
            (self.config.block_filters, Services::COMPACT_FILTERS),
        ];
        options.iter().filter(|(on, _)| *on).for_each(|(_, bit)| bits |= bit);
        Services(bits)
    }

    fn moment(node: &Node, now: Now) -> u64 {
        if node.is_mocked() { node.time().saturating_mul(SECOND) } else { now.wall.midpoint() / 1_000 }
    }

    /// Upon an input.
    ///
    /// # Errors
    /// The chain cannot go on.
    pub fn on(&mut self, node: &mut Node, now: Now, input: Input, out: &mut Vec<Output>) -> Result<(), ChainError> {
        let moment = Self::moment(node, now);
        let mut step = Step { node, now: moment, out, verbose: self.config.verbose };
        self.begin(&mut step);
        let touched = match input {
            Input::Opened { conn, addr, bind, origin } => self.on_opened(&mut step, conn, addr, bind, origin),
            Input::DialFailed { token } => {
                self.on_dial_failed(&mut step, token);
                None
            }
            Input::Bytes { conn, bytes } => self.on_bytes(&mut step, conn, &bytes)?,
            Input::Drained { conn, waiting } => self.on_drained(&mut step, conn, waiting)?,
            Input::Closed { conn } => {
                if let Some(id) = self.by_conn.get(&conn).copied() {
                    self.forget(&mut step, id);
                }
                None
            }
            Input::Wake => {
                self.on_wake(&mut step)?;
                None
            }
        };
        if let Some(id) = touched {
            self.send_due(&mut step, id)?;
        }
        self.end(&mut step, now);
        Ok(())
    }

    /// Upon what became of the node.
    ///
    /// # Errors
    /// The chain cannot go on.
    pub fn on_events(
        &mut self,
        node: &mut Node,
        now: Now,
        events: &[Event],
        out: &mut Vec<Output>,
    ) -> Result<(), ChainError> {
        let moment = Self::moment(node, now);
        let mut step = Step { node, now: moment, out, verbose: self.config.verbose };
        self.begin(&mut step);
        for event in events {
            match event {
                Event::Chain(event) => self.on_chain_event(&mut step, event),
                Event::Mempool(event) => self.on_mempool_event(event),
                Event::Tip { from, to } => self.on_tip(&mut step, *from, *to),
            }
        }
        if !events.is_empty() {
            self.serve_all(&mut step)?;
        }
        self.end(&mut step, now);
        Ok(())
    }

    fn begin(&mut self, step: &mut Step<'_>) {
        self.last_now = step.now;
        step.out.append(&mut self.pending);
        if self.downloading {
            let (chain, time) = (step.node.chain(), step.seconds());
            let tip = chain.entry(chain.tip());
            let old = u64::from(tip.header.time).saturating_add(self.config.tip_age_max) < time;
            self.downloading = tip.work < chain.params().minimum_chain_work || old;
        }
    }

    fn end(&mut self, step: &mut Step<'_>, now: Now) {
        let closing: Vec<PeerId> = self.peers.values().filter(|peer| peer.closing).map(|peer| peer.id).collect();
        for id in closing {
            let conn = self.peers[&id].conn;
            self.forget(step, id);
            step.out.push(Output::Close(conn));
        }
        let chain = step.node.chain();
        for peer in self.peers.values_mut() {
            let height = |id: Option<BlockId>| id.map_or(-1, |id| i64::from(chain.entry(id).height));
            peer.heights.headers = height(peer.sync.best_known);
            peer.heights.blocks = height(peer.sync.last_common);
            peer.heights.in_flight.clear();
            peer.heights.in_flight.extend(peer.sync.in_flight.iter().map(|block| chain.entry(block.id).height));
        }
        if self.wake_at.is_none_or(|at| at <= now.mono) {
            let at = now.mono + TICK;
            self.wake_at = Some(at);
            step.out.push(Output::Wake(at));
        }
    }

    fn on_wake(&mut self, step: &mut Step<'_>) -> Result<(), ChainError> {
        self.check_silence(step);
        self.fetch_asked(step);
        for (id, command, payload) in std::mem::take(&mut self.raw) {
            if self.peers.contains_key(&id) {
                self.send_raw(step, id, &command, payload);
            }
        }
        self.dial(step);
        self.check_tip(step);
        self.rebroadcast(step);
        self.serve_all(step)
    }

    /// Lets all peers go on: those that wait for something of ours, and those whose time has come.
    fn serve_all(&mut self, step: &mut Step<'_>) -> Result<(), ChainError> {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.pump(step, id)?;
            self.send_due(step, id)?;
        }
        Ok(())
    }

    pub(super) fn peer(&mut self, id: PeerId) -> &mut Peer {
        self.peers.get_mut(&id).expect("whoever is spoken of is connected until the step ends")
    }

    /// Random bytes for a transport: those of this connection alone.
    pub(super) fn entropy(&mut self, id: PeerId) -> Entropy {
        let derive =
            |label: &[u8]| sha256::Hash::hash(&[&self.secret[..], label, &id.to_le_bytes()].concat()).to_byte_array();
        let (secret, noise) = (derive(b"v2 secret"), derive(b"v2 noise"));
        let garbage = (0..self.rng.usize(0..=4_095)).map(|_| self.rng.u8(..)).collect();
        Entropy { secret, noise, garbage }
    }

    /// Keyed, so that nobody can make two that meet.
    pub(super) fn keyed(&self, parts: &[&[u8]]) -> u64 {
        let mut engine = siphash24::HashEngine::with_keys(self.keys.0, self.keys.1);
        parts.iter().for_each(|part| engine.input(part));
        siphash24::Hash::from_engine(engine).as_u64()
    }

    /// A span of this mean, as between events that do not know of each other.
    pub(super) fn exponential(&mut self, mean: u64) -> u64 {
        let uniform = 1.0 - self.rng.f64();
        (-uniform.ln() * mean as f64) as u64
    }

    pub(super) fn send(&mut self, step: &mut Step<'_>, id: PeerId, message: &Message) {
        let (command, payload) = (message.command().to_owned(), message.encode());
        self.send_raw(step, id, &command, payload);
    }

    pub(super) fn send_raw(&mut self, step: &mut Step<'_>, id: PeerId, command: &str, payload: Vec<u8>) {
        let peer = self.peers.get_mut(&id).expect("whoever is spoken to is connected until the step ends");
        if peer.closing {
            return;
        }
        step.log("net", format!("sending {command} ({} bytes) peer={id}", payload.len()));
        let mut bytes = Vec::new();
        let estimate = payload.len() + crate::wire::HEADER_SIZE;
        peer.transport.send(command, payload, &mut bytes);
        let size = if bytes.is_empty() { estimate } else { bytes.len() } as u64;
        *peer.traffic.sent_by.entry(command.to_owned()).or_default() += size;
        self.emit(step, id, bytes);
    }

    /// Hands bytes to the host.
    pub(super) fn emit(&mut self, step: &mut Step<'_>, id: PeerId, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let peer = self.peers.get_mut(&id).expect("whoever is spoken to is connected until the step ends");
        let size = bytes.len();
        peer.traffic.unsent += size;
        peer.traffic.sent += size as u64;
        peer.traffic.last_send = step.now;
        self.totals.1 += size as u64;
        if step.now / SECOND >= self.upload.0 + 24 * 3_600 {
            self.upload = (step.now / SECOND, 0);
        }
        self.upload.1 += size as u64;
        let (conn, below) = (peer.conn, self.config.send_buffer / 2);
        if peer.traffic.unsent > below && !std::mem::replace(&mut peer.traffic.drains, true) {
            step.out.push(Output::Drain { conn, below });
        }
        // What is written down or asked in between does not change what goes into one segment.
        let beside = |output: &Output| matches!(output, Output::Log { .. } | Output::Drain { .. });
        match step.out.iter_mut().rfind(|output| !beside(output)) {
            Some(Output::Bytes { conn: last, bytes: before }) if *last == conn => before.extend_from_slice(&bytes),
            _ => step.out.push(Output::Bytes { conn, bytes }),
        }
    }

    /// Takes the next step of a peer's messages, as far as it takes what it is sent.
    pub(super) fn pump(&mut self, step: &mut Step<'_>, id: PeerId) -> Result<(), ChainError> {
        loop {
            if self.peers.get(&id).is_none_or(|peer| peer.closing) {
                return Ok(());
            }
            self.serve_getdata(step, id)?;
            self.retry_orphans(step, id)?;
            let bound = self.config.send_buffer;
            let peer = self.peer(id);
            if peer.closing || !peer.getdata.is_empty() || peer.is_choked(bound) {
                break;
            }
            // We speak first if we came: Core answers nobody before.
            let Some(frame) = peer.traffic.inbox.pop_front() else { break };
            peer.traffic.inbox_bytes -= frame.size;
            self.on_frame(step, id, &frame)?;
            self.punish(step, id);
        }
        self.adjust_reading(step, id);
        Ok(())
    }

    /// Pauses or resumes the host's reading by what waits here.
    fn adjust_reading(&mut self, step: &mut Step<'_>, id: PeerId) {
        let bound = self.config.receive_buffer;
        let peer = self.peer(id);
        let full = peer.traffic.inbox_bytes > bound || !peer.getdata.is_empty();
        if full == peer.traffic.paused || peer.closing {
            return;
        }
        peer.traffic.paused = full;
        let conn = peer.conn;
        step.out.push(if full { Output::Pause(conn) } else { Output::Resume(conn) });
    }

    fn on_bytes(&mut self, step: &mut Step<'_>, conn: ConnId, bytes: &[u8]) -> Result<Option<PeerId>, ChainError> {
        let Some(id) = self.by_conn.get(&conn).copied() else { return Ok(None) };
        self.totals.0 += bytes.len() as u64;
        let now = step.now;
        let peer = self.peer(id);
        peer.traffic.received += bytes.len() as u64;
        peer.traffic.last_recv = now;
        let mut rest = bytes;
        loop {
            let peer = self.peer(id);
            match peer.transport.next(&mut rest) {
                Ok(Some(frame)) => {
                    let known = is_known(&frame.command);
                    let name = if known { frame.command.as_str() } else { OTHER };
                    *peer.traffic.received_by.entry(name.to_owned()).or_default() += frame.size as u64;
                    if let Some(skip) = &frame.skip {
                        step.log("net", format!("{skip}, peer={id}"));
                        continue;
                    }
                    peer.traffic.inbox_bytes += frame.size;
                    peer.traffic.inbox.push_back(frame);
                    self.pump(step, id)?;
                    if self.peer(id).closing {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    peer.closing = true;
                    step.log("net", format!("{error}, peer={id}"));
                    break;
                }
            }
        }
        let mut answer = Vec::new();
        self.peer(id).transport.flush(&mut answer);
        self.emit(step, id, answer);
        Ok(Some(id))
    }

    /// Little waits for a peer any more: what it asked for goes on.
    fn on_drained(&mut self, step: &mut Step<'_>, conn: ConnId, waiting: usize) -> Result<Option<PeerId>, ChainError> {
        let Some(id) = self.by_conn.get(&conn).copied() else { return Ok(None) };
        let traffic = &mut self.peer(id).traffic;
        (traffic.unsent, traffic.drains) = (waiting, false);
        self.pump(step, id)?;
        Ok(Some(id))
    }

    /// Lets go of whoever broke a rule, unless an operator wants it.
    pub(super) fn punish(&mut self, step: &mut Step<'_>, id: PeerId) {
        let peer = self.peer(id);
        if !std::mem::take(&mut peer.discourage) {
            return;
        }
        if peer.has(Permissions::NO_BAN) || peer.kind == Kind::Manual {
            let whom = if peer.has(Permissions::NO_BAN) { "noban" } else { "manually connected" };
            step.log("net", format!("Not punishing {whom} peer {id}!"));
            return;
        }
        let ip = peer.addr.ip();
        if ip.to_canonical().is_loopback() {
            peer.closing = true;
            step.log("net", format!("Warning: disconnecting but not discouraging local peer {id}!"));
            return;
        }
        step.log("net", format!("Disconnecting and discouraging peer {id}!"));
        self.bans.discourage(ip);
        self.peers.values_mut().filter(|peer| peer.addr.ip() == ip).for_each(|peer| peer.closing = true);
    }

    /// Says why a peer is at fault.
    pub(super) fn blame(&mut self, step: &mut Step<'_>, id: PeerId, why: &str) {
        let colon = if why.is_empty() { "" } else { ": " };
        step.log("net", format!("Misbehaving: peer={id}{colon}{why}"));
        self.peer(id).misbehaves();
    }

    /// Ends a connection.
    pub(super) fn close(&mut self, step: &mut Step<'_>, id: PeerId, why: &str) {
        step.log("net", format!("{why}, disconnecting peer={id}"));
        self.peer(id).closing = true;
    }

    /// A peer is gone: whatever was expected of it is expected of others.
    pub(super) fn forget(&mut self, step: &mut Step<'_>, id: PeerId) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        self.by_conn.remove(&peer.conn);
        self.announcers.retain(|other| *other != id);
        self.downloads.on_disconnected(id);
        self.tell_of_downloads(step);
        for block in std::mem::take(&mut peer.sync.in_flight) {
            let hash = step.node.chain().entry(block.id).hash;
            if let Some(whose) = self.in_flight.get_mut(&hash) {
                whose.retain(|other| *other != id);
                if whose.is_empty() {
                    self.in_flight.remove(&hash);
                }
            }
        }
        self.after_close(step, &peer);
        step.log("net", format!("Cleared nodestate for peer={id}"));
    }
}

/// Messages that have a name here, though one is ignored.
fn is_known(command: &str) -> bool {
    command == "sendtxrcncl" || !matches!(Message::decode(command, &[]), Ok(Message::Unknown(_)))
}
