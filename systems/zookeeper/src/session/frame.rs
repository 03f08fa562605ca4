//! Packets out of bytes that are cut anywhere.
//!
//! - upon four letters at the very beginning: a word;
//! - upon a length: a packet of so many bytes; a negative one closes, and so does any too large one in front of a
//!   session;
//! - upon a packet beyond the limit: an error reply with its xid, and its bytes are skipped as they come. Beyond
//!   [`SKIP_MAX`] the connection closes.

use bytes::{Buf as _, Bytes};
use verity_clock::Now;
use verity_types::ConnId;

use super::conn::Phase;
use super::service::ZooKeeper;
use super::words;
use crate::wire::{BUFFER_SIZE_MAX, ErrorCode};

/// The largest packet that is skipped.
pub(super) const SKIP_MAX: usize = BUFFER_SIZE_MAX;
/// How much more than a packet may have been read before a `Pause` took effect.
const SLACK: usize = 4 << 20;
/// Length, xid, operation.
const HEAD: usize = 12;

/// What the front of the input holds.
enum Piece {
    /// Not enough.
    Partial,
    /// Nothing that can be gone on with.
    Broken,
    Word([u8; 4]),
    Packet(usize),
    TooLarge {
        size: usize,
        xid: i32,
        op: i32,
    },
}

fn first_piece(input: &[u8], fresh: bool, max: usize) -> Piece {
    let Some(head) = input.first_chunk::<4>() else { return Piece::Partial };
    if fresh && words::is_word(*head) {
        let complete = input.len() >= words::size(*head);
        return if complete { Piece::Word(*head) } else { Piece::Partial };
    }
    let Ok(size) = usize::try_from(i32::from_be_bytes(*head)) else { return Piece::Broken };
    if size > max {
        if fresh || size > SKIP_MAX {
            return Piece::Broken;
        }
        let Some(head) = input.first_chunk::<HEAD>() else { return Piece::Partial };
        let word = |at: usize| i32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        return Piece::TooLarge { size: 4 + size, xid: word(4), op: word(8) };
    }
    if input.len() < 4 + size { Piece::Partial } else { Piece::Packet(4 + size) }
}

impl ZooKeeper {
    /// Takes what came. What cannot be decoded yet is kept.
    pub(super) fn take_bytes(&mut self, now: Now, id: ConnId, bytes: &Bytes) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.input.is_empty() || !conn.reads() {
            conn.input.extend_from_slice(bytes);
            if conn.input.len() > self.config.packet_size_max + SLACK {
                return self.close(id);
            }
            return self.settle(now, id);
        }
        let mut rest = bytes.clone();
        self.decode(now, id, &mut rest);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.input.extend_from_slice(&rest);
        }
        self.settle(now, id);
    }

    /// Takes packets from what was kept; false if there was nothing to take.
    pub(super) fn take_kept(&mut self, now: Now, id: ConnId) -> bool {
        let max = self.config.packet_size_max;
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        if conn.input.is_empty() || !conn.reads() {
            return false;
        }
        if conn.skip == 0 && matches!(first_piece(&conn.input, conn.phase == Phase::Fresh, max), Piece::Partial) {
            return false;
        }
        let mut rest = conn.input.split().freeze();
        self.decode(now, id, &mut rest);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.input.extend_from_slice(&rest);
        }
        true
    }

    /// Takes packets off the front of `rest` as long as the connection reads.
    fn decode(&mut self, now: Now, id: ConnId, rest: &mut Bytes) {
        let max = self.config.packet_size_max;
        loop {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            if conn.skip > 0 {
                let size = conn.skip.min(rest.len());
                conn.skip -= size;
                rest.advance(size);
            }
            if !conn.reads() || rest.is_empty() {
                return;
            }
            let fresh = conn.phase == Phase::Fresh;
            match first_piece(rest, fresh, max) {
                Piece::Partial => return,
                Piece::Broken => {
                    self.stats.too_large += 1;
                    return self.close(id);
                }
                Piece::Word(word) => {
                    let parameter = rest.get(4..12).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
                    rest.clear();
                    return self.on_word(now, id, word, parameter);
                }
                Piece::Packet(size) => {
                    let packet = rest.split_to(size);
                    if fresh {
                        self.on_connect(now, id, &packet[4..]);
                    } else {
                        self.on_packet(now, id, &packet[4..]);
                    }
                }
                Piece::TooLarge { size, xid, op } => {
                    conn.skip = size;
                    self.stats.too_large += 1;
                    self.done(now, id, xid, op, ErrorCode::BadArguments, &[]);
                }
            }
        }
    }
}
