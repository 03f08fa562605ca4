//! Whom a node's ledger asks: an application that speaks ABCI 2.0, by the connections that CometBFT makes.
//!
//! - upon a connection: Info says what the application ran last; if nothing, InitChain (CometBFT
//!   `consensus/replay.go`, `Handshaker`);
//! - upon an ask about the block behind that: the application is asked, its answer is kept, and a block is committed;
//! - upon an ask about a block that it has run: what was kept answers, since the node reads its log again;
//! - upon an ask about a later one: the ledger is told how far the application is, and sends the blocks between;
//! - upon a connection that breaks: another one, for as long as it takes. Nothing is lost meanwhile: what was asked is asked
//!   again, unless Info says that it was done.
//!
//! HAZARD: an answer is kept on stable storage before the application is told to keep what it did. Without it a node that
//! starts again could not know what its own blocks came to.
//!
//! Deliberately absent: sockets and files, which a [`Pipe`] and a [`Shelf`] are; state sync by the application's snapshots,
//! for which the connection is made and nothing is asked on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use verity_contract::{Channel, Outside};

use crate::machine::{Ask, Errand, Told};
use crate::wire::socket;
use crate::wire::{Genesis, Info};

/// Where the session asks CheckTx.
pub const MEMPOOL: Channel = Channel(1);
/// Where it asks Query and Info.
pub const QUERY: Channel = Channel(2);
/// `TMCoreSemVer`, `ABCISemVer`: what the application takes its peer for.
const VERSIONS: (&str, &str) = ("0.38.17", "2.0.0");

/// One connection to an application.
pub trait Pipe: Send {
    /// Connects anew.
    ///
    /// # Errors
    /// Why it cannot.
    fn connect(&mut self) -> Result<(), String>;

    /// Sends a request and Flush, and waits for the response. A failure ends the connection.
    ///
    /// # Errors
    /// Why there is none.
    fn ask(&mut self, request: &[u8], goes_on: &dyn Fn() -> bool) -> Result<Bytes, String>;

    /// Waits a moment before the next try.
    fn pause(&mut self);

    /// Who is at the other end.
    fn name(&self) -> String;
}

/// What is kept of answers: pieces of bytes under a height and a kind.
pub trait Shelf: Send {
    /// All that was kept.
    ///
    /// # Errors
    /// In one line for an operator.
    fn load(&mut self) -> Result<Vec<Kept>, String>;

    /// Keeps one more on stable storage, once all were loaded. One of the same height and kind takes the place of an earlier one.
    ///
    /// # Errors
    /// In one line for an operator.
    fn keep(&mut self, kept: &Kept) -> Result<(), String>;

    /// Keeps these alone, in place of all others.
    ///
    /// # Errors
    /// In one line for an operator.
    fn replace(&mut self, all: &mut dyn Iterator<Item = Kept>) -> Result<(), String>;
}

/// An answer that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of the block of this height.
    pub height: u64,
    /// An [`Errand`].
    pub kind: u8,
    /// The answer.
    pub answer: Bytes,
}

/// Answers are dropped when so many are of no use any more.
const DEAD_MAX: usize = 1_000;

/// The consensus connection.
pub struct Consensus<P, S> {
    pipe: P,
    shelf: S,
    genesis: Arc<Genesis>,
    kept: Option<BTreeMap<(u64, u8), Bytes>>,
    /// How far the application is, if there is a connection.
    at: Option<u64>,
    /// What it said of itself when it was connected to last.
    info: Bytes,
    /// Dropped up to here.
    floor: u64,
}

/// Why there is no answer.
enum No {
    /// The connection is gone: try again.
    Lost,
    /// The node must stop.
    Fatal(String),
}

impl<P: Pipe, S: Shelf> Consensus<P, S> {
    /// One that has not connected.
    pub fn new(pipe: P, shelf: S, genesis: Arc<Genesis>) -> Self {
        Self { pipe, shelf, genesis, kept: None, at: None, info: Bytes::new(), floor: 0 }
    }

    fn kept(&mut self) -> Result<&mut BTreeMap<(u64, u8), Bytes>, String> {
        if self.kept.is_none() {
            let all = self.shelf.load()?;
            self.kept = Some(all.into_iter().map(|kept| ((kept.height, kept.kind), kept.answer)).collect());
        }
        Ok(self.kept.as_mut().expect("it was just loaded"))
    }

    fn keep(&mut self, height: u64, errand: Errand, answer: &Bytes) -> Result<(), No> {
        // What is there is read before anything is written behind it.
        self.kept().map_err(No::Fatal)?;
        let kept = Kept { height, kind: errand as u8, answer: answer.clone() };
        self.shelf.keep(&kept).map_err(No::Fatal)?;
        self.kept().map_err(No::Fatal)?.insert((height, errand as u8), kept.answer);
        Ok(())
    }

    /// Drops what is of no use any more, once it is worth it. How the chain began stays.
    fn drop_below(&mut self, floor: u64) -> Result<(), String> {
        if floor <= self.floor {
            return Ok(());
        }
        let is_dead = |(height, kind): &(u64, u8)| *height <= floor && *kind != Errand::Begin as u8;
        let kept = self.kept()?;
        if kept.keys().filter(|key| is_dead(key)).count() < DEAD_MAX {
            return Ok(());
        }
        kept.retain(|key, _| !is_dead(key));
        let mut all: Vec<Kept> = kept
            .iter()
            .map(|((height, kind), answer)| Kept { height: *height, kind: *kind, answer: answer.clone() })
            .collect();
        self.floor = floor;
        self.shelf.replace(&mut all.drain(..))
    }

    /// A request's response, without its envelope.
    fn ask(&mut self, request: &[u8], goes_on: &dyn Fn() -> bool) -> Result<Bytes, No> {
        let Ok(answer) = self.pipe.ask(request, goes_on) else {
            self.at = None;
            return Err(No::Lost);
        };
        socket::response(answer).map_err(|why| No::Fatal(format!("the application at {}: {why}", self.pipe.name())))
    }

    /// Connects and learns how far the application is.
    fn shake_hands(&mut self, goes_on: &dyn Fn() -> bool) -> Result<(), No> {
        self.pipe.connect().map_err(|_| No::Lost)?;
        let info = self.ask(&socket::info(VERSIONS.0, VERSIONS.1), goes_on)?;
        let Info { last_block_height, .. } = socket::read_info(info.clone()).map_err(|error| self.unread(&error))?;
        let at = u64::try_from(last_block_height.0).map_err(|_| self.unread(&"a height below zero"))?;
        if at == 0 {
            let began = self.ask(&socket::init_chain(&self.genesis), goes_on)?;
            self.keep(0, Errand::Begin, &began)?;
        }
        (self.at, self.info) = (Some(at), info);
        Ok(())
    }

    fn unread(&self, error: &dyn std::fmt::Display) -> No {
        No::Fatal(format!("the answer of the application at {} cannot be read: {error}", self.pipe.name()))
    }

    fn try_once(&mut self, ask: &Ask, goes_on: &dyn Fn() -> bool) -> Result<Told, No> {
        if self.at.is_none() {
            self.shake_hands(goes_on)?;
        }
        let at = self.at.expect("it was just connected to");
        let known = |all: &BTreeMap<(u64, u8), Bytes>, height| all.get(&(height, ask.errand as u8)).cloned();
        let kept = self.kept().map_err(No::Fatal)?;
        if ask.errand == Errand::Begin {
            let began = known(kept, 0).ok_or_else(|| self.foreign(at))?;
            return Ok(Told::Begun(self.info.clone(), began));
        }
        if at >= ask.height {
            return known(kept, ask.height).map(Told::Answer).ok_or_else(|| self.foreign(at));
        }
        if at + 1 < ask.height {
            return Ok(Told::Behind(at));
        }
        if ask.errand != Errand::Run
            && let Some(answer) = known(kept, ask.height)
        {
            // It was asked before the node was started again, and what it said then may be signed.
            return Ok(Told::Answer(answer));
        }
        let answer = self.ask(&ask.request, goes_on)?;
        self.keep(ask.height, ask.errand, &answer)?;
        if ask.errand == Errand::Run {
            self.ask(&socket::commit(), goes_on)?;
            self.at = Some(ask.height);
        }
        Ok(Told::Answer(answer))
    }

    fn foreign(&self, at: u64) -> No {
        No::Fatal(format!(
            "the application at {} has run {at} blocks, and this node does not know what they came to: it is another \
             chain's or another node's; give it a state from before them",
            self.pipe.name()
        ))
    }
}

impl<P: Pipe, S: Shelf> Outside for Consensus<P, S> {
    fn call(&mut self, ask: Bytes, goes_on: &dyn Fn() -> bool) -> Result<Option<Bytes>, String> {
        let ask = Ask::decode(ask).map_err(|error| error.to_string())?;
        self.drop_below(ask.floor)?;
        while goes_on() {
            match self.try_once(&ask, goes_on) {
                Ok(told) => return Ok(Some(told.encode())),
                Err(No::Fatal(_)) if !goes_on() => break,
                Err(No::Fatal(why)) => return Err(why),
                Err(No::Lost) => self.pipe.pause(),
            }
        }
        Ok(None)
    }
}

/// The mempool's connection, or that of queries: whatever is asked is asked, and a failure is an answer.
pub struct Beside<P> {
    pipe: P,
    connected: bool,
}

impl<P: Pipe> Beside<P> {
    /// One that has not connected.
    pub fn new(pipe: P) -> Self {
        Self { pipe, connected: false }
    }

    fn try_once(&mut self, request: &[u8], goes_on: &dyn Fn() -> bool) -> Result<Bytes, String> {
        if !self.connected {
            self.pipe.connect()?;
            self.connected = true;
        }
        self.pipe.ask(request, goes_on).inspect_err(|_| self.connected = false)
    }
}

impl<P: Pipe> Outside for Beside<P> {
    fn call(&mut self, ask: Bytes, goes_on: &dyn Fn() -> bool) -> Result<Option<Bytes>, String> {
        // A connection that lay idle may be gone; a second one tells whether the application is.
        let was_connected = self.connected;
        let mut answer = self.try_once(&ask, goes_on);
        if answer.is_err() && was_connected && goes_on() {
            answer = self.try_once(&ask, goes_on);
        }
        let answer = answer.and_then(socket::response);
        Ok(goes_on()
            .then(|| encode_beside(&answer.map_err(|why| format!("the application at {}: {why}", self.pipe.name())))))
    }
}

fn encode_beside(answer: &Result<Bytes, String>) -> Bytes {
    let (kind, body) = match answer {
        Ok(body) => (0, &body[..]),
        Err(why) => (1, why.as_bytes()),
    };
    let mut out = BytesMut::with_capacity(1 + body.len());
    out.put_u8(kind);
    out.put_slice(body);
    out.freeze()
}

/// What [`Beside`] answers: a response's body, or why there is none.
pub(crate) fn decode_beside(bytes: &Bytes) -> Result<Bytes, String> {
    match bytes.first() {
        Some(0) => Ok(bytes.slice(1..)),
        Some(_) => Err(String::from_utf8_lossy(&bytes[1..]).into_owned()),
        None => Err("nobody answered".to_owned()),
    }
}
