//! The few frames of ZooKeeper's protocol that a load needs.
//!
//! - Every frame is a 32-bit big-endian length and that many bytes.
//! - A request is `xid, type, record`; its reply is `xid, zxid, err, record`, and replies keep the requests' order.
//! - The first frame of a connection is a `ConnectRequest`, without header.
//!
//! Deliberately absent: every record that no load sends.

use anyhow::{Result, ensure};

/// The size of the data that every create and set carries, and that every get must return.
pub const VALUE_SIZE: usize = 100;

/// The largest reply that the client takes.
pub const FRAME_SIZE_MAX: usize = 64 * 1024;

/// The bytes of a reply's header: xid, zxid, err.
const REPLY_HEADER_SIZE: usize = 16;

/// `KeeperException.Code.NODEEXISTS`.
pub const NODE_EXISTS: i32 = -110;

/// What a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new persistent znode.
    Create,
    /// New data for an existing znode, whatever its version.
    Set,
    /// The data of an existing znode, no watch.
    Get,
    /// Has the session's server catch up with the leader.
    Sync,
    /// Ends the session.
    Close,
}

impl Operation {
    fn code(self) -> i32 {
        match self {
            Operation::Create => 1,
            Operation::Get => 4,
            Operation::Set => 5,
            Operation::Sync => 9,
            Operation::Close => -11,
        }
    }
}

/// A reply's header, and where its record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The xid of the request that it answers.
    pub xid: i32,
    /// Zero, or a `KeeperException.Code`.
    pub error: i32,
    /// What follows the header.
    pub record: &'a [u8],
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let size = i32::try_from(bytes.len()).expect("a request is far smaller than 2 GiB");
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let size = u32::try_from(out.len() - start - 4).expect("a request is far smaller than 4 GiB");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Appends a `ConnectRequest` for a new session.
pub fn connect(out: &mut Vec<u8>, timeout_ms: i32) {
    frame(out, |out| {
        out.extend_from_slice(&0_i32.to_be_bytes());
        out.extend_from_slice(&0_i64.to_be_bytes());
        out.extend_from_slice(&timeout_ms.to_be_bytes());
        out.extend_from_slice(&0_i64.to_be_bytes());
        string(out, &[0; 16]);
        out.push(0);
    });
}

/// Appends a request; a create is open to everyone, a set takes any version.
pub fn request(out: &mut Vec<u8>, xid: i32, operation: Operation, path: &str) {
    const VALUE: [u8; VALUE_SIZE] = [b'v'; VALUE_SIZE];
    frame(out, |out| {
        out.extend_from_slice(&xid.to_be_bytes());
        out.extend_from_slice(&operation.code().to_be_bytes());
        if operation == Operation::Close {
            return;
        }
        string(out, path.as_bytes());
        match operation {
            Operation::Create => {
                string(out, &VALUE);
                out.extend_from_slice(&1_i32.to_be_bytes());
                out.extend_from_slice(&31_i32.to_be_bytes());
                string(out, b"world");
                string(out, b"anyone");
                out.extend_from_slice(&0_i32.to_be_bytes());
            }
            Operation::Set => {
                string(out, &VALUE);
                out.extend_from_slice(&(-1_i32).to_be_bytes());
            }
            Operation::Get => out.push(0),
            Operation::Sync | Operation::Close => {}
        }
    });
}

/// Takes the frame at the start of `bytes`: its body, and the bytes that it spans. `None` until it is whole.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
    let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
    let size = u32::from_be_bytes(*prefix) as usize;
    ensure!(size <= FRAME_SIZE_MAX, "the server announced a frame of {size} bytes");
    Ok(bytes.get(4..4 + size).map(|body| (body, 4 + size)))
}

/// Reads a reply's header.
pub fn reply(body: &[u8]) -> Result<Reply<'_>> {
    ensure!(body.len() >= REPLY_HEADER_SIZE, "a reply of {} bytes has no header", body.len());
    Ok(Reply { xid: integer(body, 0)?, error: integer(body, 12)?, record: &body[REPLY_HEADER_SIZE..] })
}

/// Reads the big-endian integer at `offset`.
pub fn integer(bytes: &[u8], offset: usize) -> Result<i32> {
    let found = bytes.get(offset..).and_then(|rest| rest.first_chunk::<4>());
    ensure!(found.is_some(), "a record of {} bytes ends before its integer at {offset}", bytes.len());
    Ok(found.map_or(0, |four| i32::from_be_bytes(*four)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_get_is_laid_out_as_the_protocol_says() {
        let mut out = Vec::new();
        request(&mut out, 7, Operation::Get, "/a");
        assert_eq!(out, [0, 0, 0, 15, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0, 2, b'/', b'a', 0]);
    }

    #[test]
    fn a_create_carries_its_value_and_one_acl() {
        let mut out = Vec::new();
        request(&mut out, 1, Operation::Create, "/a");
        let (body, spans) = split(&out).unwrap().unwrap();
        assert_eq!(spans, out.len());
        assert_eq!(body.len(), 8 + 6 + 4 + VALUE_SIZE + 4 + 4 + 9 + 10 + 4);
    }

    #[test]
    fn a_frame_is_taken_only_when_whole_and_never_when_huge() {
        assert!(split(&[0, 0]).unwrap().is_none());
        assert!(split(&[0, 0, 0, 2, 1]).unwrap().is_none());
        assert_eq!(split(&[0, 0, 0, 1, 9, 8]).unwrap(), Some((&[9_u8][..], 5)));
        assert!(split(&[255, 255, 255, 255]).is_err());
    }

    #[test]
    fn a_short_reply_is_an_error() {
        assert!(reply(&[0; 15]).is_err());
        let mut body = [0; 20];
        body[3] = 5;
        body[15] = 1;
        assert_eq!(reply(&body).unwrap(), Reply { xid: 5, error: 1, record: &[0; 4] });
    }
}
