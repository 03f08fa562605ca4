//! What happens, told to whoever subscribed: a PUB socket by ZMTP 3.0 (RFC 23, RFC 29), without security (NULL).
//!
//! - upon a connection: our greeting; upon the peer's, our READY; upon a READY of a socket that is no subscriber, the end;
//! - upon a subscription, as a message that begins with 1 (3.0) or a command `SUBSCRIBE` (3.1): what begins with its bytes is
//!   sent from then on; 0 or `CANCEL` takes one such subscription back;
//! - upon an event: three frames, the topic, the body, and the count of this topic's messages, the lowest byte first;
//! - upon a subscriber that does not read: once as many messages wait as the high-water mark says, it misses the others.
//!
//! The topics and bodies are those of the network's nodes: `hashblock`, `hashtx`, `rawblock`, `rawtx`, `sequence`. Hashes are
//! written in reverse, as everywhere.
//!
//! Deliberately absent: sockets, other patterns than PUB, versions before 3, resending what was missed.

mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};

use crate::chain::{Chain, ChainEvent};
use crate::mempool::MempoolEvent;
use crate::node::Event;

pub use wire::ZmtpError;
use wire::{Decoder, Input};

/// So many messages wait for one subscriber if nothing is said.
pub const HIGH_WATER_DEFAULT: u32 = 1_000;
/// No subscriber has more subscriptions.
const SUBSCRIPTIONS_MAX: usize = 1_000;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The hash of a new tip.
    HashBlock,
    /// The hash of a transaction that came in, or that a block brought or took away.
    HashTx,
    /// The bytes of a new tip.
    RawBlock,
    /// The bytes of such a transaction.
    RawTx,
    /// Every change of the chain and the mempool.
    Sequence,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::HashBlock, Self::HashTx, Self::RawBlock, Self::RawTx, Self::Sequence];

    /// As subscribers know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HashBlock => "hashblock",
            Self::HashTx => "hashtx",
            Self::RawBlock => "rawblock",
            Self::RawTx => "rawtx",
            Self::Sequence => "sequence",
        }
    }
}

/// The messages of one publisher: what is told, and how often it was.
#[derive(Clone, Debug, Default)]
pub struct Publisher {
    counts: BTreeMap<Topic, u32>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub topic: Topic,
    /// What it says.
    pub body: Vec<u8>,
    /// Its number among those of its topic.
    pub number: u32,
}

impl Message {
    fn frames(&self) -> [Vec<u8>; 3] {
        [self.topic.name().into(), self.body.clone(), self.number.to_le_bytes().into()]
    }
}

fn reversed(mut bytes: [u8; 32]) -> Vec<u8> {
    bytes.reverse();
    bytes.into()
}

impl Publisher {
    /// A publisher of these topics (`-zmqpub...`).
    #[must_use]
    pub fn new(topics: impl IntoIterator<Item = Topic>) -> Self {
        Self { counts: topics.into_iter().map(|topic| (topic, 0)).collect() }
    }

    fn add(&mut self, out: &mut Vec<Message>, topic: Topic, body: impl FnOnce() -> Vec<u8>) {
        if let Some(count) = self.counts.get_mut(&topic) {
            out.push(Message { topic, body: body(), number: *count });
            *count = count.wrapping_add(1);
        }
    }

    fn add_sequence(&mut self, out: &mut Vec<Message>, hash: Vec<u8>, label: u8, sequence: Option<u64>) {
        self.add(out, Topic::Sequence, || {
            let mut body = hash;
            body.push(label);
            body.extend(sequence.into_iter().flat_map(u64::to_le_bytes));
            body
        });
    }

    fn add_transaction(&mut self, out: &mut Vec<Message>, tx: &bitcoin::Transaction) {
        self.add(out, Topic::HashTx, || reversed(tx.compute_txid().to_byte_array()));
        self.add(out, Topic::RawTx, || serialize(tx));
    }

    /// The messages that these events are worth. `catches_up`: the node still loads the chain, and tips are not told.
    pub fn on_events(&mut self, chain: &Chain, events: &[Event], catches_up: bool) -> Vec<Message> {
        let mut out = Vec::new();
        let hash = |hash: BlockHash| reversed(hash.to_byte_array());
        let txid = |txid: Txid| reversed(txid.to_byte_array());
        for event in events {
            match event {
                Event::Chain(ChainEvent::Connected { id, block, .. }) => {
                    for tx in &block.txdata {
                        self.add_transaction(&mut out, tx);
                    }
                    self.add_sequence(&mut out, hash(chain.entry(*id).hash), b'C', None);
                }
                Event::Chain(ChainEvent::Disconnected { id, block }) => {
                    for tx in &block.txdata {
                        self.add_transaction(&mut out, tx);
                    }
                    self.add_sequence(&mut out, hash(chain.entry(*id).hash), b'D', None);
                }
                Event::Mempool(MempoolEvent::Added { tx, sequence }) => {
                    self.add_transaction(&mut out, tx);
                    self.add_sequence(&mut out, txid(tx.compute_txid()), b'A', Some(*sequence));
                }
                Event::Mempool(MempoolEvent::Removed { tx, sequence, .. }) => {
                    self.add_sequence(&mut out, txid(tx.compute_txid()), b'R', Some(*sequence));
                }
                Event::Tip { to, .. } if !catches_up => {
                    self.add(&mut out, Topic::HashBlock, || hash(chain.entry(*to).hash));
                    if self.counts.contains_key(&Topic::RawBlock)
                        && let Ok(Some(block)) = chain.block(*to)
                    {
                        self.add(&mut out, Topic::RawBlock, || serialize(&*block));
                    }
                }
                _ => {}
            }
        }
        out
    }
}

/// A subscriber's connection.
#[derive(Debug)]
pub struct Subscriber {
    decoder: Decoder,
    ready: bool,
    subscriptions: Vec<Vec<u8>>,
    high_water: usize,
    /// Messages that were not written yet, each as one run of bytes.
    waiting: VecDeque<Vec<u8>>,
    greeting: Vec<u8>,
}

impl Subscriber {
    /// A connection that begins. As many messages wait for it at most; 0 for any number.
    #[must_use]
    pub fn new(high_water: u32) -> Self {
        let high_water = if high_water == 0 { usize::MAX } else { high_water as usize };
        Self {
            decoder: Decoder::default(),
            ready: false,
            subscriptions: Vec::new(),
            high_water,
            waiting: VecDeque::new(),
            greeting: wire::greeting(),
        }
    }

    /// Upon bytes of the peer, cut anywhere.
    ///
    /// # Errors
    /// It does not keep to the protocol: close the connection.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Result<(), ZmtpError> {
        self.decoder.push(bytes)?;
        while let Some(input) = self.decoder.take()? {
            match input {
                Input::Greeting => self.greeting.extend(wire::ready()),
                Input::Ready => self.ready = true,
                Input::Subscribe(prefix) => {
                    if self.subscriptions.len() == SUBSCRIPTIONS_MAX {
                        return Err(ZmtpError::TooManySubscriptions);
                    }
                    self.subscriptions.push(prefix);
                }
                Input::Cancel(prefix) => {
                    if let Some(place) = self.subscriptions.iter().position(|own| *own == prefix) {
                        self.subscriptions.remove(place);
                    }
                }
                Input::Ping(context) => self.greeting.extend(wire::pong(&context)),
                Input::Other => {}
            }
        }
        Ok(())
    }

    /// Upon a message: it waits, unless nobody subscribed to it here, or too many wait already.
    pub fn publish(&mut self, message: &Message) {
        let topic = message.topic.name().as_bytes();
        let wanted = self.ready && self.subscriptions.iter().any(|prefix| topic.starts_with(prefix));
        if wanted && self.waiting.len() < self.high_water {
            self.waiting.push_back(wire::message(&message.frames()));
        }
    }

    /// What is to be written next, if the peer takes it: a part of the handshake, or a message.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        if !self.greeting.is_empty() {
            return Some(std::mem::take(&mut self.greeting));
        }
        self.waiting.pop_front()
    }
}
