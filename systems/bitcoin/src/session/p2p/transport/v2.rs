//! The v2 transport's states (BIP 324).
//!
//! - initiator: sends its key and garbage, waits for the responder's;
//! - responder: waits until the first bytes differ from what an old peer begins with; if they do not, it is an old peer;
//! - both, upon the other's key: send the word that ends their garbage, and a packet for the version (empty by now), which
//!   vouches for the garbage;
//! - upon a packet that was changed, is too large, or garbage that does not end: the connection is given up.

use super::cipher::{Cipher, KEY_SIZE, KeyPair, LENGTH_SIZE, PACKET_EXTRA, TERMINATOR_SIZE};
use super::{TransportError, V1_PREFIX_SIZE, v1_prefix};
use crate::wire::{Frame, PAYLOAD_SIZE_MAX};

/// No more garbage than this.
pub(super) const GARBAGE_SIZE_MAX: usize = 4_095;
/// A one-byte or a thirteen-byte command, and a payload.
const CONTENT_SIZE_MAX: usize = 1 + 12 + PAYLOAD_SIZE_MAX;
/// Memory is taken in steps of no more than this ahead of what arrived.
const RESERVE_MAX: usize = 256 * 1024;

/// Commands that take one byte.
const SHORT: [&str; 29] = [
    "",
    "addr",
    "block",
    "blocktxn",
    "cmpctblock",
    "feefilter",
    "filteradd",
    "filterclear",
    "filterload",
    "getblocks",
    "getblocktxn",
    "getdata",
    "getheaders",
    "headers",
    "inv",
    "mempool",
    "merkleblock",
    "notfound",
    "ping",
    "pong",
    "sendcmpct",
    "tx",
    "getcfilters",
    "cfilter",
    "getcfheaders",
    "cfheaders",
    "getcfcheckpt",
    "cfcheckpt",
    "addrv2",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// A responder: a key, or an old peer's first message.
    KeyOrV1,
    Key,
    Garbage,
    Version,
    Packets,
}

/// What a step came to.
pub(super) enum Step {
    /// More bytes are needed.
    Wait,
    /// Something changed: look again.
    Again,
    /// A message.
    Frame(Frame),
    /// The peer speaks the old transport; these bytes belong to it.
    V1(Vec<u8>),
}

/// One connection's.
pub(super) struct V2 {
    magic: [u8; 4],
    initiator: bool,
    pair: KeyPair,
    garbage: Vec<u8>,
    expect: Expect,
    cipher: Option<Cipher>,
    input: Vec<u8>,
    associated: Vec<u8>,
    length: Option<usize>,
    /// Bytes for the peer.
    pub(super) output: Vec<u8>,
    /// Messages that wait for the handshake.
    waiting: Vec<(String, Vec<u8>)>,
}

impl V2 {
    pub(super) fn new(magic: [u8; 4], initiator: bool, pair: KeyPair, garbage: Vec<u8>) -> Self {
        assert!(garbage.len() <= GARBAGE_SIZE_MAX, "we do not send more garbage than is borne with");
        let expect = if initiator { Expect::Key } else { Expect::KeyOrV1 };
        let (output, waiting) = (Vec::new(), Vec::new());
        let mut this = Self {
            magic,
            initiator,
            pair,
            garbage,
            expect,
            cipher: None,
            input: Vec::new(),
            associated: Vec::new(),
            length: None,
            output,
            waiting,
        };
        if initiator {
            this.send_key();
        }
        this
    }

    fn send_key(&mut self) {
        self.output.extend_from_slice(&self.pair.public());
        self.output.extend_from_slice(&self.garbage);
    }

    /// The session's id, once there is one.
    pub(super) fn session(&self) -> Option<[u8; 32]> {
        self.cipher.as_ref().map(|cipher| cipher.session)
    }

    /// True once the peer was found to have the same keys.
    pub(super) fn is_decided(&self) -> bool {
        self.expect == Expect::Packets
    }

    /// True if the peer sent nothing that v2 begins with: an old one may be at the other end.
    pub(super) fn never_answered(&self) -> bool {
        self.initiator && self.expect == Expect::Key && self.input.is_empty()
    }

    /// Sends a message, or keeps it until there are keys.
    pub(super) fn send(&mut self, command: &str, payload: Vec<u8>) {
        match &mut self.cipher {
            None => self.waiting.push((command.to_owned(), payload)),
            Some(cipher) => put_message(cipher, command, &payload, &mut self.output),
        }
    }

    /// How many bytes the state at hand can use.
    fn wanted(&self) -> usize {
        match self.expect {
            Expect::KeyOrV1 => V1_PREFIX_SIZE - self.input.len(),
            Expect::Key => KEY_SIZE - self.input.len(),
            Expect::Garbage => 1,
            Expect::Version | Expect::Packets => match self.length {
                None => LENGTH_SIZE - self.input.len(),
                Some(length) => length + PACKET_EXTRA - self.input.len(),
            },
        }
    }

    /// Takes bytes off the front.
    pub(super) fn step(&mut self, bytes: &mut &[u8]) -> Result<Step, TransportError> {
        if bytes.is_empty() {
            return Ok(Step::Wait);
        }
        let wanted = self.wanted();
        let (head, tail) = bytes.split_at(wanted.min(bytes.len()));
        self.input.reserve(wanted.min(head.len() + RESERVE_MAX));
        self.input.extend_from_slice(head);
        *bytes = tail;
        match self.expect {
            Expect::KeyOrV1 => Ok(self.on_maybe_v1()),
            Expect::Key => self.on_key(),
            Expect::Garbage => self.on_garbage(),
            Expect::Version | Expect::Packets => self.on_packet(head.len() == wanted),
        }
    }

    fn on_maybe_v1(&mut self) -> Step {
        let prefix = v1_prefix(self.magic);
        if !prefix.starts_with(&self.input) {
            self.expect = Expect::Key;
            self.send_key();
            return Step::Again;
        }
        if self.input.len() == prefix.len() { Step::V1(std::mem::take(&mut self.input)) } else { Step::Wait }
    }

    fn on_key(&mut self) -> Result<Step, TransportError> {
        let wrong_magic = self.input.get(4..V1_PREFIX_SIZE).is_some_and(|bytes| *bytes == v1_prefix(self.magic)[4..]);
        if !self.initiator && wrong_magic {
            let magic = self.input[..4].try_into().expect("sixteen bytes are there");
            return Err(TransportError::OtherNetwork(magic));
        }
        if self.input.len() < KEY_SIZE {
            return Ok(Step::Again);
        }
        let theirs = self.input[..].try_into().expect("as many bytes as a key has");
        let mut cipher = Cipher::new(self.magic, &self.pair, theirs, self.initiator);
        self.input.clear();
        self.output.extend_from_slice(&cipher.send_terminator);
        cipher.encrypt(&[], &std::mem::take(&mut self.garbage), false, &mut self.output);
        for (command, payload) in std::mem::take(&mut self.waiting) {
            put_message(&mut cipher, &command, &payload, &mut self.output);
        }
        self.cipher = Some(cipher);
        self.expect = Expect::Garbage;
        Ok(Step::Again)
    }

    fn on_garbage(&mut self) -> Result<Step, TransportError> {
        let cipher = self.cipher.as_ref().expect("keys were exchanged before garbage");
        if self.input.ends_with(&cipher.recv_terminator) {
            let size = self.input.len() - TERMINATOR_SIZE;
            self.input.truncate(size);
            self.associated = std::mem::take(&mut self.input);
            self.expect = Expect::Version;
        } else if self.input.len() >= GARBAGE_SIZE_MAX + TERMINATOR_SIZE {
            return Err(TransportError::NoTerminator);
        }
        Ok(Step::Again)
    }

    fn on_packet(&mut self, complete: bool) -> Result<Step, TransportError> {
        if !complete {
            return Ok(Step::Again);
        }
        let cipher = self.cipher.as_mut().expect("keys were exchanged before packets");
        let Some(length) = self.length else {
            let bytes = self.input[..].try_into().expect("as many bytes as a length has");
            let length = cipher.decrypt_length(bytes);
            if length > CONTENT_SIZE_MAX {
                return Err(TransportError::TooLarge(length));
            }
            self.length = Some(length);
            self.input.clear();
            return Ok(Step::Again);
        };
        let associated = std::mem::take(&mut self.associated);
        let mut packet = std::mem::take(&mut self.input);
        self.length = None;
        let (content, speaks) = cipher.decrypt(&mut packet, &associated).ok_or(TransportError::Changed(length))?;
        if !speaks {
            return Ok(Step::Again);
        }
        if self.expect == Expect::Version {
            self.expect = Expect::Packets;
            return Ok(Step::Again);
        }
        Ok(Step::Frame(frame(content)))
    }
}

/// A message's command and payload; the command is empty if it cannot be told.
fn frame(content: &[u8]) -> Frame {
    let size = content.len() + LENGTH_SIZE + PACKET_EXTRA;
    let skipped = |size| Frame {
        command: String::new(),
        payload: Vec::new(),
        size,
        skip: Some(crate::wire::FrameError::Packet(content.len())),
    };
    let Some((&first, rest)) = content.split_first() else { return skipped(size) };
    if first != 0 {
        return match SHORT.get(usize::from(first)) {
            Some(command) => Frame { command: (*command).to_owned(), payload: rest.to_vec(), size, skip: None },
            // Commands of this kind that came later than this list are unknown ones.
            None => skipped(size),
        };
    }
    let named = rest.split_at_checked(12).and_then(|(name, payload)| Some((crate::wire::command_text(name)?, payload)));
    match named {
        Some((command, payload)) => Frame { command, payload: payload.to_vec(), size, skip: None },
        None => skipped(size),
    }
}

fn put_message(cipher: &mut Cipher, command: &str, payload: &[u8], out: &mut Vec<u8>) {
    match SHORT.iter().position(|short| *short == command) {
        Some(index) => cipher.encrypt(&[&[index as u8], payload], &[], false, out),
        None => cipher.encrypt(&[&[0], &crate::wire::command_bytes(command), payload], &[], false, out),
    }
}
