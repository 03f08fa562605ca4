//! Nodes whose peers are joined back to back, and peers that say what a test tells them to.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use verity_clock::{Interval, Now};
use verity_nakamoto::has_work;
use verity_storage::{Disk, MemoryDisk};
use verity_types::{ConnId, Mono};

use super::super::transport::{Entropy, Transport};
use super::super::{AddNode, Config, Input, Origin, Output, PeerControl, Peers, Permissions};
use crate::chain::{Chain, ChainConfig};
use crate::mempool::Mempool;
use crate::mining::{TemplateOptions, assemble};
use crate::node::Node;
use crate::params::Params;
use crate::wire::{Message, NetAddress, PROTOCOL_VERSION, Services, Version};

pub(super) const START: u64 = 1_700_000_000;
const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

/// One node.
pub(super) struct Host {
    pub(super) node: Node,
    pub(super) peers: Peers,
    pub(super) log: Vec<String>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
enum End {
    Host(usize, ConnId),
    Script(usize),
}

/// A peer that a test speaks for.
pub(super) struct Script {
    conn: ConnId,
    host: usize,
    transport: Transport,
    pub(super) got: Vec<Message>,
    pub(super) closed: bool,
}

/// All of it.
pub(super) struct World {
    pub(super) hosts: Vec<Host>,
    pub(super) scripts: Vec<Script>,
    links: BTreeMap<(usize, ConnId), End>,
    next_conn: u64,
    /// In microseconds.
    pub(super) now: u64,
    queue: VecDeque<(usize, Output)>,
    /// Nobody's socket takes anything.
    pub(super) stuck: bool,
}

pub(super) fn anybody() -> ScriptBuf {
    ScriptBuf::from([&[0, 32][..], sha256::Hash::hash(&[0x51]).as_byte_array()].concat())
}

pub(super) fn spend(outpoint: OutPoint, value: u64) -> Arc<Transaction> {
    let input = TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[0x51]]),
    };
    let output = vec![TxOut { value: Amount::from_sat(value), script_pubkey: anybody() }];
    let version = bitcoin::transaction::Version::TWO;
    let lock_time = bitcoin::absolute::LockTime::ZERO;
    Arc::new(Transaction { version, lock_time, input: vec![input], output })
}

/// Gives a block its work.
pub(super) fn worked(mut block: Block) -> Arc<Block> {
    let limit = Params::regtest().headers.pow.limit;
    while !has_work(block.block_hash(), block.header.bits, limit) {
        block.header.nonce += 1;
    }
    Arc::new(block)
}

pub(super) fn addr(host: usize) -> SocketAddr {
    format!("20.{}.0.1:18444", host + 1).parse().unwrap()
}

impl World {
    pub(super) fn new(configs: Vec<Config>) -> Self {
        let host = |(index, config): (usize, Config)| {
            let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
            let chain = Chain::open(&disk, Params::regtest(), ChainConfig::default()).unwrap();
            let node = Node::new(chain, Mempool::default(), START).unwrap();
            let config = Config { verbose: true, ..config };
            Host { node, peers: Peers::new(config, MAGIC, [index as u8; 32]), log: Vec::new() }
        };
        Self {
            hosts: configs.into_iter().enumerate().map(host).collect(),
            scripts: Vec::new(),
            links: BTreeMap::new(),
            next_conn: 1,
            now: START * 1_000_000,
            queue: VecDeque::new(),
            stuck: false,
        }
    }

    pub(super) fn of(count: usize) -> Self {
        Self::new(vec![Config::default(); count])
    }

    fn moment(&self) -> Now {
        let nanos = self.now * 1_000;
        Now { mono: Mono(nanos), wall: Interval { earliest: nanos, latest: nanos } }
    }

    fn conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    pub(super) fn input(&mut self, host: usize, input: Input) {
        let (now, mut out) = (self.moment(), Vec::new());
        let Host { node, peers, .. } = &mut self.hosts[host];
        node.set_wall(self.now / 1_000_000);
        peers.on(node, now, input, &mut out).unwrap();
        self.queue.extend(out.into_iter().map(|output| (host, output)));
        self.hear(host);
    }

    /// Tells a host's peers what became of its node.
    pub(super) fn hear(&mut self, host: usize) {
        loop {
            let (now, mut out) = (self.moment(), Vec::new());
            let Host { node, peers, .. } = &mut self.hosts[host];
            node.set_wall(self.now / 1_000_000);
            let events = node.take_events();
            if events.is_empty() {
                return;
            }
            peers.on_events(node, now, &events, &mut out).unwrap();
            self.queue.extend(out.into_iter().map(|output| (host, output)));
        }
    }

    /// Delivers all that is on the way.
    pub(super) fn settle(&mut self) {
        while let Some((host, output)) = self.queue.pop_front() {
            match output {
                Output::Bytes { conn, bytes } => match self.links.get(&(host, conn)).copied() {
                    Some(End::Host(other, conn)) => self.input(other, Input::Bytes { conn, bytes }),
                    Some(End::Script(script)) => self.deliver(script, &bytes),
                    None => {}
                },
                Output::Drain { conn, .. } if !self.stuck => self.input(host, Input::Drained { conn, waiting: 0 }),
                Output::Close(conn) => match self.links.remove(&(host, conn)) {
                    Some(End::Host(other, conn)) => {
                        self.links.remove(&(other, conn));
                        self.input(other, Input::Closed { conn });
                    }
                    Some(End::Script(script)) => self.scripts[script].closed = true,
                    None => {}
                },
                Output::Dial { token, addr: to } => self.dialed(host, token, &to),
                Output::Log { text, .. } => self.hosts[host].log.push(text),
                Output::Drain { .. } | Output::Wake(_) | Output::Pause(_) | Output::Resume(_) => {}
            }
        }
    }

    /// A script's socket takes what waits for it.
    pub(super) fn drain(&mut self, script: usize) {
        let (host, conn) = (self.scripts[script].host, self.scripts[script].conn);
        self.input(host, Input::Drained { conn, waiting: 0 });
        self.settle();
    }

    fn dialed(&mut self, host: usize, token: u64, to: &str) {
        let target = (0..self.hosts.len()).find(|index| addr(*index).to_string() == to);
        let Some(target) = target else { return self.input(host, Input::DialFailed { token }) };
        let (ours, theirs) = (self.conn(), self.conn());
        self.links.insert((host, ours), End::Host(target, theirs));
        self.links.insert((target, theirs), End::Host(host, ours));
        let from = format!("20.{}.0.1:{}", host + 1, 40_000 + ours.0).parse().unwrap();
        let origin = Origin::Inbound(Permissions::NONE);
        self.input(target, Input::Opened { conn: theirs, addr: from, bind: None, origin });
        self.input(host, Input::Opened { conn: ours, addr: addr(target), bind: None, origin: Origin::Dialed(token) });
    }

    fn deliver(&mut self, script: usize, bytes: &[u8]) {
        let Script { transport, got, .. } = &mut self.scripts[script];
        let mut rest = bytes;
        // Noise, to one who speaks in the open, is no message.
        while let Ok(Some(frame)) = transport.next(&mut rest) {
            got.push(Message::decode(&frame.command, &frame.payload).unwrap());
        }
        let mut answer = Vec::new();
        self.scripts[script].transport.flush(&mut answer);
        self.forward(script, answer);
    }

    fn forward(&mut self, script: usize, bytes: Vec<u8>) {
        if !bytes.is_empty() && !self.scripts[script].closed {
            let (host, conn) = (self.scripts[script].host, self.scripts[script].conn);
            self.input(host, Input::Bytes { conn, bytes });
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(100) {
            self.now += 100_000;
            for host in 0..self.hosts.len() {
                self.input(host, Input::Wake);
                self.settle();
            }
        }
    }

    pub(super) fn connect(&mut self, from: usize, to: usize) {
        self.hosts[from].peers.add_node(&addr(to).to_string(), AddNode::OneTry, None).unwrap();
        self.run(300);
    }

    /// A peer that comes in from this address, and says nothing yet.
    pub(super) fn stranger(&mut self, host: usize, from: &str, v2: bool) -> usize {
        let conn = self.conn();
        let entropy = Entropy { secret: [77; 32], noise: [78; 32], garbage: vec![1; 30] };
        let transport = if v2 { Transport::v2(MAGIC, true, entropy) } else { Transport::v1(MAGIC) };
        let script = self.scripts.len();
        self.scripts.push(Script { conn, host, transport, got: Vec::new(), closed: false });
        self.links.insert((host, conn), End::Script(script));
        let origin = Origin::Inbound(Permissions::NONE);
        self.input(host, Input::Opened { conn, addr: from.parse().unwrap(), bind: None, origin });
        let mut first = Vec::new();
        self.scripts[script].transport.flush(&mut first);
        self.forward(script, first);
        self.settle();
        script
    }

    pub(super) fn say(&mut self, script: usize, message: &Message) {
        self.say_raw(script, message.command(), message.encode());
    }

    pub(super) fn say_raw(&mut self, script: usize, command: &str, payload: Vec<u8>) {
        let mut bytes = Vec::new();
        self.scripts[script].transport.send(command, payload, &mut bytes);
        self.forward(script, bytes);
        self.settle();
    }

    /// One that has introduced itself.
    pub(super) fn friend(&mut self, host: usize, from: &str) -> usize {
        let script = self.stranger(host, from, false);
        self.say(script, &Message::Version(version()));
        self.say(script, &Message::WtxidRelay);
        self.say(script, &Message::Verack);
        self.run(100);
        self.scripts[script].got.clear();
        script
    }

    /// What a peer was sent since this was asked last.
    pub(super) fn heard(&mut self, script: usize) -> Vec<Message> {
        std::mem::take(&mut self.scripts[script].got)
    }

    pub(super) fn commands(&mut self, script: usize) -> Vec<String> {
        self.heard(script).iter().map(|message| message.command().to_owned()).collect()
    }

    /// A block upon a host's tip, which nobody has yet.
    pub(super) fn next_block(&self, host: usize) -> Arc<Block> {
        let node = &self.hosts[host].node;
        let options = TemplateOptions { script: anybody(), ..TemplateOptions::default() };
        let template = assemble(node.chain(), node.mempool(), self.now / 1_000_000, &options).unwrap();
        worked(template.block)
    }

    pub(super) fn mine(&mut self, host: usize, count: usize) -> Vec<Arc<Block>> {
        (0..count)
            .map(|_| {
                self.now += 1_000_000;
                self.hosts[host].node.set_wall(self.now / 1_000_000);
                let block = self.next_block(host);
                assert!(self.hosts[host].node.on_block(&block, true).unwrap().unwrap());
                self.hear(host);
                self.settle();
                block
            })
            .collect()
    }

    pub(super) fn height(&self, host: usize) -> u32 {
        self.hosts[host].node.chain().height()
    }

    pub(super) fn logged(&self, host: usize, text: &str) -> bool {
        self.hosts[host].log.iter().any(|line| line.contains(text))
    }
}

pub(super) fn version() -> Version {
    Version {
        version: PROTOCOL_VERSION,
        services: Services(Services::NETWORK | Services::WITNESS),
        time: START as i64,
        receiver_services: Services(0),
        receiver: NetAddress::NONE,
        nonce: 7,
        user_agent: "/script:1/".to_owned(),
        height: 0,
        relay: true,
    }
}
