//! The node as a service: what comes in by its doors, and what follows from it.
//!
//! - upon a connection: the door says whether it is a peer's, a client's or a subscriber's;
//! - upon anything: the node's truth changes first; then peers, subscribers, indexes and calls that wait hear of it, in the order
//!   in which it came about;
//! - upon a call that changed something: it is on stable storage before the call is answered;
//! - upon a second in which something else changed: what is not on stable storage yet is brought there;
//! - upon `stop`, or the end of the node: the mempool and all else that is kept is written;
//! - upon a disk that fails, or a disagreement about a script: the node stops and says why.
//!
//! HAZARD: judging a block takes as long as it takes, and nothing else happens meanwhile. A node of this kind has a thread of
//! its own.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};

use bitcoin::hashes::Hash as _;
use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Door, Peer, Service, SessionInput, SessionOutput};
use verity_http::{Event as HttpEvent, Limits, Request, RequestNumber, Response, Server};
use verity_nakamoto::BlockId;
use verity_storage::{Disk, replace};
use verity_types::{ConnId, Mono, Nanos, Token};

use super::figures::Figures;
use super::notice::{Notice, Notify};
use super::p2p::{self, Origin, Peers, Permissions, StoredFilter};
use super::rpc::{self, Answer, Ctx, Files, Rpc, RpcConfig, WaitId};
use super::warnings::Warnings;
use super::zmq::{Publisher, Subscriber, Topic};
use crate::chain::{Chain, ChainConfig, ChainError, ChainEvent};
use crate::index::{Index, IndexOptions};
use crate::mempool::{LoadOptions, Mempool, MempoolEvent, MempoolOptions};
use crate::mutant::Mutant;
use crate::node::{Event, Node};
use crate::params::Params;
use crate::places::{BeginError, NewFile, Places};
use crate::wallet::{WalletOptions, Wallets};

/// Clients come in by it.
pub const RPC_DOOR: Door = Door(0);
/// Peers come in by it, and are dialled by it.
pub const P2P_DOOR: Door = Door(1);
/// Subscribers come in by it and those behind it, one for each address.
pub const ZMQ_DOOR: Door = Door(2);

/// Peers who may do more come in by it and those behind it, one for each address (`-whitebind`).
pub const WHITE_DOOR: Door = Door(1_000);

/// What changed is brought to stable storage at least so often.
const FLUSH_EVERY: Nanos = Nanos::from_millis(1_000);
/// What takes longer to write (the mempool, known addresses) so often.
const SAVE_EVERY: Nanos = Nanos::from_millis(15 * 60 * 1_000);
/// No block is further ahead of the clock, in seconds.
const FUTURE_MAX: u64 = 2 * 60 * 60;
const FROM_THE_FUTURE: &str = "The block database contains a block which appears to be from the future. This may be due \
                               to your computer's date and time being set incorrectly. Only rebuild the block database if \
                               you are sure that your computer's date and time are correct";
/// So many inputs are audited before anything else has its turn.
const AUDITS: usize = 16;
/// Between audits, while some wait.
const AUDIT_EVERY: Nanos = Nanos::from_millis(5);
/// A call's body: four megabytes of a block in hex, twice over.
const BODY_BYTES_MAX: usize = 32 << 20;
/// A call's head.
const HEAD_BYTES_MAX: usize = 8_192;
/// No file of peers or bans is longer.
const FILE_BYTES_MAX: u64 = 64 << 20;
const MEMPOOL_FILE: &str = "mempool.dat";
const FEES_FILE: &str = "fee_estimates.dat";
const PEERS_FILE: &str = "peers.dat";
const BANS_FILE: &str = "banlist.json";

/// Lines for `debug.log`.
pub trait Log: Debug + Send {
    /// One line, of one of Core's categories; none for what is always told.
    fn line(&mut self, category: &str, text: &str);
}

/// Nobody reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl Log for NoLog {
    fn line(&mut self, _: &str, _: &str) {}
}

/// Subscribers of one address.
#[derive(Clone, Debug)]
pub struct ZmqDoor {
    /// What is told there.
    pub topics: Vec<Topic>,
    /// So many messages wait for one of them.
    pub high_water: u32,
}

/// How the service is run.
#[derive(Debug)]
pub struct BitcoinConfig {
    /// The network.
    pub params: Params,
    /// Memory for coins, and who runs scripts.
    pub chain: ChainConfig,
    /// Policy.
    pub mempool: MempoolOptions,
    /// Peers.
    pub p2p: p2p::Config,
    /// What peers may do who come in by [`WHITE_DOOR`] and those behind it.
    pub white: Vec<Permissions>,
    /// Clients.
    pub rpc: RpcConfig,
    /// Who may call from beyond this machine (`-rpcallowip`).
    pub rpc_allow: Vec<p2p::Subnet>,
    /// Subscribers, by door.
    pub zmq: Vec<ZmqDoor>,
    /// What is looked up beside the chain.
    pub index: IndexOptions,
    /// Who runs an operator's commands, if there are any.
    pub notify: Option<Box<dyn Notify>>,
    /// `-persistmempool`.
    pub persist_mempool: bool,
    /// Wallets; none with `-disablewallet`.
    pub wallet: Option<WalletOptions>,
    /// All that the machine has, for backups of wallets and mempools to load; none if they stay in the node's folder.
    pub outside: Option<Arc<dyn Disk>>,
    /// The time to begin at, in seconds since 1970; the clock's if there is none (`-mocktime`).
    pub mock_time: Option<u64>,
    /// A chain is opened though its tip is more than two hours ahead of the clock: where clocks are moved on purpose, that is no
    /// sign of damage.
    pub from_the_future: bool,
    /// The node ends once a block of this height, or above, is its tip (`-stopatheight`).
    pub stop_at_height: Option<u32>,
    /// Secret, and never used twice.
    pub seed: [u8; 32],
    /// Where `debug.log` is, for people.
    pub folder: String,
}

/// The indexes, which peers and clients both ask.
#[derive(Clone, Debug)]
struct SharedIndex(Arc<Mutex<Index>>);

impl SharedIndex {
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

impl p2p::FilterIndex for SharedIndex {
    fn filter(&self, chain: &Chain, block: BlockId) -> Option<StoredFilter> {
        let filter = self.lock().filter(chain, block).ok()??;
        let hash = bitcoin::bip158::FilterHash::hash(&filter.content).to_byte_array();
        Some(StoredFilter { content: filter.content, hash, header: filter.header.to_byte_array() })
    }
}

/// The node's folder, for calls that write to it.
#[derive(Debug)]
struct Folder {
    places: Places,
    key: [u8; 8],
}

impl Files for Folder {
    fn save_mempool(&mut self, node: &mut Node) -> Result<String, String> {
        let written = node.mempool().dump(self.places.own.as_ref(), MEMPOOL_FILE, self.key);
        written.map_err(|error| error.to_string())?;
        Ok(format!("{}/{MEMPOOL_FILE}", self.places.path))
    }

    fn load_mempool(&mut self, node: &mut Node, path: &str, options: LoadOptions) -> Result<(), String> {
        let found = self.places.find(path);
        let (disk, inside) = found.ok_or_else(|| format!("{path} is no place for a mempool"))?;
        let disk = Arc::clone(disk);
        let loaded = node.with_mempool(|mempool, chain, now, events| {
            mempool.load(chain, (disk.as_ref(), inside), now, options, events)
        });
        match loaded.map_err(|error| error.to_string())? {
            Some(_) => Ok(()),
            None => Err("Unable to import mempool file, see debug log for details.".to_owned()),
        }
    }

    fn begin(&mut self, path: &str) -> Result<NewFile, BeginError> {
        self.places.begin(path)
    }
}

/// One connection, by what it is for.
#[derive(Debug)]
enum Conn {
    Client(Box<Server>),
    Peer,
    Subscriber(usize, Box<Subscriber>),
}

/// The service of one node.
#[derive(Debug)]
pub struct BitcoinService {
    node: Node,
    peers: Peers,
    rpc: Rpc,
    wallets: Option<Wallets>,
    index: SharedIndex,
    folder: Folder,
    rpc_allow: Vec<p2p::Subnet>,
    white: Vec<Permissions>,
    publishers: Vec<(Publisher, u32)>,
    figures: Arc<Figures>,
    conns: BTreeMap<ConnId, Conn>,
    waits: BTreeMap<WaitId, (ConnId, RequestNumber)>,
    log: Box<dyn Log>,
    notify: Option<Box<dyn Notify>>,
    warnings: Warnings,
    persist_mempool: bool,
    stop_at_height: Option<u32>,
    stop: bool,
    fatal: Option<String>,
    peers_wake: Option<Mono>,
    wake_at: Option<Mono>,
    flush_at: Mono,
    save_at: Mono,
    /// Something changed since the last flush.
    changed: bool,
}

impl BitcoinService {
    /// Opens what a disk has, or begins.
    ///
    /// # Errors
    /// The disk's, or what it has does not hold together.
    pub fn open(
        disk: &Arc<dyn Disk>,
        config: BitcoinConfig,
        now: Now,
        mut log: Box<dyn Log>,
    ) -> Result<Self, ChainError> {
        let wall = config.mock_time.unwrap_or(now.wall_ms().0 / 1_000);
        let chain = Chain::open_telling(disk, config.params, config.chain, &mut |line| log.line("", line))?;
        let mut node = Node::new(chain, Mempool::new(config.mempool), wall)?;
        node.set_mock_time(config.mock_time);
        let tip = node.chain().entry(node.chain().tip());
        if !config.from_the_future && tip.height > 0 && u64::from(tip.header.time) > wall + FUTURE_MAX {
            return Err(ChainError::Rebuild(FROM_THE_FUTURE.to_owned()));
        }
        let index = Index::open(disk, node.chain(), config.index)?;
        let index = SharedIndex(Arc::new(Mutex::new(index)));
        let magic = node.chain().params().magic;
        let p2p = p2p::Config { prune: node.chain().prune().is_some(), ..config.p2p };
        let mut peers = Peers::new(p2p, magic, config.seed);
        if config.index.filters {
            peers.set_filters(Box::new(index.clone()));
        }
        for (file, load) in
            [(PEERS_FILE, Peers::load_book as fn(&mut Peers, &[u8], u64) -> bool), (BANS_FILE, Peers::load_bans)]
        {
            match read(disk.as_ref(), file)? {
                Some(bytes) => {
                    load(&mut peers, &bytes, wall);
                }
                None if file == BANS_FILE => {
                    log.line("", "Recreating the banlist database");
                    replace(disk.as_ref(), "", BANS_FILE, &peers.bans_file())?;
                }
                None => {}
            }
        }
        if config.persist_mempool {
            let file = (disk.as_ref(), MEMPOOL_FILE);
            node.with_mempool(|mempool, chain, now, events| {
                mempool.load(chain, file, now, LoadOptions::default(), events)
            })?;
        }
        let (mempool, _) = node.mempool_mut();
        mempool.estimator_mut().load(disk.as_ref(), FEES_FILE, wall, false)?;
        node.take_events();
        let mut wallets = config.wallet.map(|options| {
            // Wallets have a secret of their own: what else the seed is used for tells nothing of it.
            let seed = bitcoin::hashes::sha256::Hash::hash(&[&b"wallets"[..], &config.seed].concat()).to_byte_array();
            Wallets::new(Arc::clone(disk), &config.folder, options, seed)
        });
        if let Some(wallets) = &mut wallets {
            wallets.set_outside(config.outside.clone());
            wallets.start(&mut node)?.iter().for_each(|words| log.line("", words));
        }
        let methods = if wallets.is_some() { super::rpc::WALLET_METHODS } else { &[] };
        let config_rpc = RpcConfig { wallets: wallets.is_some(), ..config.rpc };
        let mut rpc = Rpc::new(config_rpc, methods, now.mono.0 / 1_000_000);
        rpc.set_ready();
        let key = config.seed[..8].try_into().expect("a seed has 32 bytes");
        let publisher = |door: ZmqDoor| (Publisher::new(door.topics), door.high_water);
        Ok(Self {
            node,
            peers,
            rpc,
            wallets,
            index,
            folder: Folder {
                places: Places { own: Arc::clone(disk), path: config.folder, outside: config.outside },
                key,
            },
            rpc_allow: config.rpc_allow,
            white: config.white,
            publishers: config.zmq.into_iter().map(publisher).collect(),
            figures: Arc::default(),
            conns: BTreeMap::new(),
            waits: BTreeMap::new(),
            log,
            notify: config.notify,
            warnings: Warnings::default(),
            persist_mempool: config.persist_mempool,
            stop_at_height: config.stop_at_height,
            stop: false,
            fatal: None,
            peers_wake: Some(now.mono),
            wake_at: None,
            flush_at: now.mono + FLUSH_EVERY,
            save_at: now.mono + SAVE_EVERY,
            changed: true,
        })
    }

    /// The same, with a bug.
    #[must_use]
    pub fn with_mutant(mut self, mutant: Mutant) -> Self {
        self.node.chain_mut().plant(mutant);
        self
    }

    /// The node's truth.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where the node is, for whoever watches it.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Something with which calls are answered, and who answers them.
    fn with_rpc<R>(&mut self, now: Now, deed: impl FnOnce(&mut Rpc, &mut Ctx<'_>) -> R) -> R {
        self.peers.on_clock(&self.node);
        let mut none = ();
        let index = self.index.0.lock().expect("nobody panics while holding it");
        let mut ctx = Ctx {
            node: &mut self.node,
            peers: &mut self.peers,
            indexes: &index,
            warnings: self.warnings.told(),
            files: &mut self.folder,
            now_ms: now.mono.0 / 1_000_000,
            stop: &mut self.stop,
            fatal: &mut self.fatal,
            other: match &mut self.wallets {
                Some(wallets) => wallets as &mut dyn Any,
                None => &mut none,
            },
        };
        deed(&mut self.rpc, &mut ctx)
    }

    fn on_opened(
        &mut self,
        now: Now,
        conn: ConnId,
        peer: &Peer,
        out: &mut Vec<SessionOutput>,
    ) -> Result<(), ChainError> {
        match peer.door {
            RPC_DOOR => {
                let (ip, allowed) = (peer.addr.ip().to_canonical(), &self.rpc_allow);
                if !ip.is_loopback() && !allowed.iter().any(|subnet| subnet.contains(ip)) {
                    out.push(SessionOutput::Close(conn));
                    return Ok(());
                }
                let limits =
                    Limits { head_bytes_max: HEAD_BYTES_MAX, body_bytes_max: BODY_BYTES_MAX, ..Limits::default() };
                let server = Server::new(limits).refusing_by(|refusal| Response::new(rpc::refusal_status(refusal)));
                self.conns.insert(conn, Conn::Client(Box::new(server)));
            }
            Door(door) if peer.door == P2P_DOOR || door >= WHITE_DOOR.0 => {
                self.conns.insert(conn, Conn::Peer);
                let white = door.checked_sub(WHITE_DOOR.0).and_then(|at| self.white.get(usize::from(at)));
                let origin = Origin::Inbound(white.copied().unwrap_or_default());
                let input = p2p::Input::Opened { conn, addr: peer.addr, bind: peer.local, origin };
                self.on_peers(now, input, out)?;
            }
            Door(door) => {
                let at = usize::from(door - ZMQ_DOOR.0);
                let subscriber = Subscriber::new(self.publishers[at].1);
                self.conns.insert(conn, Conn::Subscriber(at, Box::new(subscriber)));
                self.pump_subscriber(conn, out);
            }
        }
        Ok(())
    }

    fn on_bytes(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes: Bytes,
        out: &mut Vec<SessionOutput>,
    ) -> Result<(), ChainError> {
        match self.conns.get_mut(&conn) {
            None => {}
            Some(Conn::Client(server)) => {
                server.on_bytes(bytes);
                self.pump_client(now, conn, out);
            }
            Some(Conn::Peer) => {
                self.on_peers(now, p2p::Input::Bytes { conn, bytes: bytes.to_vec() }, out)?;
            }
            Some(Conn::Subscriber(_, subscriber)) => {
                if subscriber.on_bytes(&bytes).is_err() {
                    self.conns.remove(&conn);
                    out.push(SessionOutput::Close(conn));
                }
                self.pump_subscriber(conn, out);
            }
        }
        Ok(())
    }

    fn on_closed(&mut self, now: Now, conn: ConnId, out: &mut Vec<SessionOutput>) -> Result<(), ChainError> {
        match self.conns.remove(&conn) {
            Some(Conn::Peer) => self.on_peers(now, p2p::Input::Closed { conn }, out)?,
            Some(Conn::Client(_)) => {
                let rpc = &mut self.rpc;
                self.waits.retain(|id, (client, _)| {
                    if *client == conn {
                        rpc.forget(*id);
                    }
                    *client != conn
                });
            }
            Some(Conn::Subscriber(..)) | None => {}
        }
        Ok(())
    }

    fn pump_subscriber(&mut self, conn: ConnId, out: &mut Vec<SessionOutput>) {
        if let Some(Conn::Subscriber(_, subscriber)) = self.conns.get_mut(&conn) {
            while let Some(bytes) = subscriber.poll() {
                out.push(SessionOutput::Bytes { conn, bytes: bytes.into() });
            }
        }
    }

    /// Carries out what a client's framing puts out.
    fn pump_client(&mut self, now: Now, conn: ConnId, out: &mut Vec<SessionOutput>) {
        while let Some(Conn::Client(server)) = self.conns.get_mut(&conn)
            && let Some(event) = server.poll()
        {
            match event {
                HttpEvent::Write(bytes) => out.push(SessionOutput::Bytes { conn, bytes }),
                HttpEvent::Close => out.push(SessionOutput::Close(conn)),
                HttpEvent::Pause => out.push(SessionOutput::Pause(conn)),
                HttpEvent::Resume => out.push(SessionOutput::Resume(conn)),
                HttpEvent::Request(request) => self.on_request(now, conn, &request),
                HttpEvent::Upgrade(upgrade) => self.on_request(now, conn, &upgrade.request),
                HttpEvent::Message(_) | HttpEvent::Refuse(_) => {}
            }
        }
    }

    fn on_request(&mut self, now: Now, conn: ConnId, request: &Request) {
        let (answer, lines) = self.with_rpc(now, |rpc, ctx| (rpc.on_request(ctx, request), rpc.take_lines()));
        lines.iter().for_each(|line| self.log.line("rpc", line));
        let scheduled = self.rpc.take_scheduled();
        if scheduled > 0 {
            self.peers.on_scheduled(scheduled);
            self.save_at = Mono(self.save_at.0.saturating_sub(scheduled.saturating_mul(1_000_000_000)));
        }
        // Whom an operator bans stays banned.
        if let Err(error) = self.save_bans() {
            self.fatal.get_or_insert_with(|| error.to_string());
        }
        self.answer(conn, request.number, answer);
    }

    fn answer(&mut self, conn: ConnId, number: RequestNumber, answer: Answer) {
        match answer {
            Answer::Now(response) => {
                if let Some(Conn::Client(server)) = self.conns.get_mut(&conn) {
                    server.respond(number, response);
                }
            }
            Answer::Later(id) => {
                self.waits.insert(id, (conn, number));
            }
        }
    }

    fn on_peers(&mut self, now: Now, input: p2p::Input, out: &mut Vec<SessionOutput>) -> Result<(), ChainError> {
        let mut outputs = Vec::new();
        self.peers.on(&mut self.node, now, input, &mut outputs)?;
        self.carry_out(outputs, out);
        Ok(())
    }

    fn carry_out(&mut self, outputs: Vec<p2p::Output>, out: &mut Vec<SessionOutput>) {
        for output in outputs {
            match output {
                p2p::Output::Bytes { conn, bytes } => out.push(SessionOutput::Bytes { conn, bytes: bytes.into() }),
                p2p::Output::Drain { conn, below } => out.push(SessionOutput::Drain { conn, below }),
                p2p::Output::Close(conn) => {
                    self.conns.remove(&conn);
                    out.push(SessionOutput::Close(conn));
                }
                p2p::Output::Dial { token, addr } => {
                    out.push(SessionOutput::Dial { token: Token(token), addr, door: P2P_DOOR });
                }
                p2p::Output::Wake(at) => self.peers_wake = Some(at),
                p2p::Output::Pause(conn) => out.push(SessionOutput::Pause(conn)),
                p2p::Output::Resume(conn) => out.push(SessionOutput::Resume(conn)),
                p2p::Output::Log { category, text } => self.log.line(category, &text),
            }
        }
    }

    /// Tells everybody what became of the node, until nothing more follows from it.
    fn settle(&mut self, now: Now, out: &mut Vec<SessionOutput>) -> Result<(), ChainError> {
        loop {
            let events = self.node.take_events();
            if events.is_empty() {
                break;
            }
            self.changed = true;
            self.note(&events)?;
            if let Some(wallets) = &mut self.wallets {
                wallets.on_events(&self.node, &events)?;
            }
            let catches_up = self.peers.is_initial_block_download();
            for at in 0..self.publishers.len() {
                let messages = self.publishers[at].0.on_events(self.node.chain(), &events, catches_up);
                let subscribers: Vec<ConnId> = self.subscribers(at);
                for conn in subscribers {
                    if let Some(Conn::Subscriber(_, subscriber)) = self.conns.get_mut(&conn) {
                        messages.iter().for_each(|message| subscriber.publish(message));
                    }
                    self.pump_subscriber(conn, out);
                }
            }
            let came = events.iter().any(|event| matches!(event, Event::Tip { .. }));
            let height = self.node.chain().height();
            self.stop |= came && self.stop_at_height.is_some_and(|last| height >= last);
            let mut outputs = Vec::new();
            self.peers.on_events(&mut self.node, now, &events, &mut outputs)?;
            // The first block with which the node has caught up is told of already.
            if !self.peers.is_initial_block_download() {
                self.warn(&events);
            }
            self.carry_out(outputs, out);
        }
        self.tell_of_wallets();
        self.answer_waits(now, out);
        Ok(())
    }

    /// An operator hears of tips and warnings.
    fn warn(&mut self, events: &[Event]) {
        let warning = self.warnings.on_events(self.node.chain(), events);
        if let Some(text) = &warning {
            self.log.line("", text);
        }
        let Some(notify) = &mut self.notify else { return };
        if let Some(text) = warning {
            notify.notify(&Notice::Warning(text));
        }
        for event in events {
            if let Event::Tip { to, .. } = event {
                notify.notify(&Notice::Block(self.node.chain().entry(*to).hash));
            }
        }
    }

    /// An operator hears of wallets' transactions.
    fn tell_of_wallets(&mut self) {
        let Some(wallets) = &mut self.wallets else { return };
        let news = wallets.take_news();
        if let Some(notify) = &mut self.notify {
            news.iter().for_each(|notice| notify.notify(notice));
        }
    }

    fn subscribers(&self, at: usize) -> Vec<ConnId> {
        let is_there = |conn: &Conn| matches!(conn, Conn::Subscriber(door, _) if *door == at);
        self.conns.iter().filter(|(_, conn)| is_there(conn)).map(|(id, _)| *id).collect()
    }

    /// Indexes, and the log.
    fn note(&mut self, events: &[Event]) -> Result<(), ChainError> {
        let mut crowded_out = 0_usize;
        for event in events {
            match event {
                Event::Chain(ChainEvent::Connected { id, block, undo }) => {
                    self.index.lock().on_connected(self.node.chain(), *id, block, undo)?;
                    let entry = self.node.chain().entry(*id);
                    let text = format!(
                        "UpdateTip: new best={} height={} version=0x{:08x} log2_work={:.6} tx={}",
                        entry.hash,
                        entry.height,
                        entry.header.version.to_consensus(),
                        entry.work.log2(),
                        entry.chain_tx_count,
                    );
                    self.log.line("", &text);
                }
                Event::Chain(ChainEvent::Invalid { id, reject }) => {
                    let entry = self.node.chain().entry(*id);
                    let text = format!("InvalidChainFound: invalid block={} height={}", entry.hash, entry.height);
                    self.log.line("", &format!("Block validation error: {reject}"));
                    self.log.line("", &text);
                }
                Event::Mempool(MempoolEvent::Removed { reason: "sizelimit", .. }) => crowded_out += 1,
                Event::Mempool(MempoolEvent::Unsent { txid }) if self.rpc.logs("mempool") => {
                    let text = format!(
                        "Removed {txid} from set of unbroadcast txns before confirmation that txn was sent out"
                    );
                    self.log.line("mempool", &text);
                }
                _ => {}
            }
        }
        if crowded_out > 0 && self.rpc.logs("mempool") {
            let rate = self.node.mempool().rolling_rate(self.node.time());
            let text = format!("Removed {crowded_out} txn, rolling minimum fee bumped to {rate} sat/kvB");
            self.log.line("mempool", &text);
        }
        Ok(())
    }

    fn answer_waits(&mut self, now: Now, out: &mut Vec<SessionOutput>) {
        if self.waits.is_empty() {
            return;
        }
        let answers = self.with_rpc(now, |rpc, ctx| rpc.poll(ctx));
        self.deliver(now, answers, out);
    }

    fn deliver(&mut self, now: Now, answers: Vec<(WaitId, Answer)>, out: &mut Vec<SessionOutput>) {
        for (id, answer) in answers {
            if let Some((conn, number)) = self.waits.remove(&id) {
                self.answer(conn, number, answer);
                self.pump_client(now, conn, out);
            }
        }
    }

    fn on_time(&mut self, now: Now, out: &mut Vec<SessionOutput>) -> Result<(), ChainError> {
        if self.peers_wake.is_some_and(|at| at <= now.mono) {
            self.peers_wake = None;
            self.on_peers(now, p2p::Input::Wake, out)?;
        }
        for _ in 0..AUDITS {
            if !self.node.chain_mut().audit()? {
                break;
            }
        }
        if self.flush_at <= now.mono {
            self.flush_at = now.mono + FLUSH_EVERY;
            let time = self.node.time();
            if let Some(wallets) = &mut self.wallets {
                wallets.on_time(time);
                // A node that does not know the network's chain cannot say what is confirmed.
                if !self.peers.is_initial_block_download() {
                    let peers = &mut self.peers;
                    let words = wallets.resend(&mut self.node, &mut |tx| peers.broadcast(tx))?;
                    words.iter().for_each(|line| self.log.line("", line));
                }
            }
            if std::mem::take(&mut self.changed) || self.node.chain().is_dirty() {
                self.flush()?;
            }
        }
        if self.save_at <= now.mono {
            self.save_at = now.mono + SAVE_EVERY;
            self.save()?;
        }
        Ok(())
    }

    /// Brings the chain and its indexes to stable storage, in that order. Then old blocks may go.
    fn flush(&mut self) -> Result<(), ChainError> {
        self.node.chain_mut().flush()?;
        let mut index = self.index.lock();
        index.flush()?;
        // Indexes are made of blocks and of what they spent: those that are not kept yet may be needed again.
        let height = index.needs_blocks().then(|| self.node.chain().height());
        drop(index);
        if let Some(wallets) = &mut self.wallets {
            wallets.flush(&self.node)?;
        }
        let chain = self.node.chain_mut();
        chain.hold_pruning_at(height);
        chain.prune_to_target()
    }

    fn save_bans(&mut self) -> Result<(), ChainError> {
        match self.peers.take_bans() {
            Some(bytes) => Ok(replace(self.folder.places.own.as_ref(), "", BANS_FILE, &bytes)?),
            None => Ok(()),
        }
    }

    /// Writes what is of use after a restart, and was promised to nobody.
    fn save(&mut self) -> Result<(), ChainError> {
        let disk = Arc::clone(&self.folder.places.own);
        if let Some(bytes) = self.peers.take_book() {
            replace(disk.as_ref(), "", PEERS_FILE, &bytes)?;
        }
        self.save_bans()?;
        let time = self.node.time();
        self.node.mempool().estimator().store(disk.as_ref(), FEES_FILE, time)?;
        let text = format!("Flushed fee estimates to {}/{FEES_FILE}.", self.folder.places.path);
        self.log.line("", &text);
        if self.persist_mempool {
            self.node.mempool().dump(disk.as_ref(), MEMPOOL_FILE, self.folder.key)?;
        }
        Ok(())
    }

    fn on_input(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) -> Result<(), ChainError> {
        let of_client =
            matches!(&input, SessionInput::Bytes { conn, .. } if matches!(self.conns.get(conn), Some(Conn::Client(_))));
        match input {
            SessionInput::Opened { conn, peer } => self.on_opened(now, conn, &peer, out)?,
            SessionInput::Dialed { token: Token(token), result } => match result {
                Ok((conn, peer)) => {
                    self.conns.insert(conn, Conn::Peer);
                    let origin = Origin::Dialed(token);
                    self.on_peers(now, p2p::Input::Opened { conn, addr: peer.addr, bind: peer.local, origin }, out)?;
                }
                Err(_) => self.on_peers(now, p2p::Input::DialFailed { token }, out)?,
            },
            SessionInput::Bytes { conn, bytes } => self.on_bytes(now, conn, bytes, out)?,
            SessionInput::Drained { conn, waiting } => {
                self.on_peers(now, p2p::Input::Drained { conn, waiting }, out)?;
            }
            SessionInput::Closed { conn } => self.on_closed(now, conn, out)?,
            SessionInput::Wake => self.wake_at = None,
            SessionInput::Stopping => {
                self.save()?;
                self.flush()?;
            }
            SessionInput::Completed { .. }
            | SessionInput::CompletedInFile { .. }
            | SessionInput::Event { .. }
            | SessionInput::Role { .. }
            | SessionInput::Restored { .. } => unreachable!("no group is asked"),
        }
        if self.fatal.is_some() {
            return Ok(());
        }
        self.on_time(now, out)?;
        self.settle(now, out)?;
        // What a client is told of is kept: answers leave once this returns.
        let keeps = self.node.chain().mutant() != Mutant::AnswerBeforeFlush;
        if of_client && keeps && std::mem::take(&mut self.changed) {
            self.flush()?;
        }
        Ok(())
    }

    /// Asks to be woken when the next thing is due.
    fn ask_to_be_woken(&mut self, now: Now, out: &mut Vec<SessionOutput>) {
        let calls = self.rpc.wake_at().map(|ms| Mono(ms.saturating_mul(1_000_000)));
        let audits = (self.node.chain().audits().1 > 0).then(|| now.mono + AUDIT_EVERY);
        let due = [self.peers_wake, calls, audits, Some(self.flush_at), Some(self.save_at)];
        let next = due.into_iter().flatten().min().expect("there is always a next flush").max(now.mono);
        if self.wake_at.is_none_or(|at| next < at) {
            self.wake_at = Some(next);
            out.push(SessionOutput::Wake(next));
        }
    }
}

fn read(disk: &dyn Disk, path: &str) -> Result<Option<Vec<u8>>, ChainError> {
    if !disk.exists(path)? {
        return Ok(None);
    }
    Ok(Some(verity_storage::read_all(disk.open(path)?.as_ref(), FILE_BYTES_MAX)?))
}

impl Service for BitcoinService {
    fn on(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        if self.fatal.is_some() {
            return;
        }
        self.node.set_wall(now.wall_ms().0 / 1_000);
        let before = out.len();
        if let Err(error) = self.on_input(now, input, out) {
            self.fatal.get_or_insert_with(|| error.to_string());
        }
        if let Some(reason) = &self.fatal {
            // What answers say may not be kept.
            out.truncate(before);
            self.log.line("", reason);
            out.push(SessionOutput::Fatal(reason.clone()));
        } else if std::mem::take(&mut self.stop) {
            let answers = self.with_rpc(now, |rpc, ctx| rpc.close(ctx));
            self.deliver(now, answers, out);
            out.push(SessionOutput::Stop);
        } else {
            self.figures.read(&self.node, &self.peers);
            self.ask_to_be_woken(now, out);
        }
    }

    fn invariants(&self) {
        if self.fatal.is_some() {
            return;
        }
        self.node.chain().invariants();
        self.node.mempool().invariants();
        if let Some(wallets) = &self.wallets {
            wallets.invariants();
        }
    }
}
