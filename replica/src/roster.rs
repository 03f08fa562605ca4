//! Where the members of a group are met. It travels with each change of members, in front of the system's own context,
//! and stays in snapshots, so that a node that was away for long finds those that joined.
//!
//! ```text
//! context = version:u8 (1) last:u8 count:u16 (node:u64 size:u16 address)*count system's bytes
//! ```
//! Deliberately absent: the names of a group's founders' addresses. Those come from each node's own configuration.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_types::NodeId;

const VERSION: u8 = 1;

/// Address by node.
pub type Roster = BTreeMap<NodeId, String>;

/// What a change of members carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// True for the step that ends a change.
    pub(crate) last: bool,
    pub(crate) roster: Roster,
    /// For the state machine.
    pub(crate) system: Bytes,
}

impl Context {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.last));
        put_roster(&mut out, &self.roster);
        out.put_slice(&self.system);
        out.freeze()
    }

    /// `None` for a change that carries none of ours: it says nothing about addresses.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let last = bytes.try_get_u8().ok()? != 0;
        let roster = take_roster(&mut bytes)?;
        Some(Self { last, roster, system: bytes })
    }
}

/// Writes a roster.
pub fn put_roster(out: &mut BytesMut, roster: &Roster) {
    // An address that no field holds is none.
    let fits = |address: &String| u16::try_from(address.len()).is_ok();
    let count = roster.values().filter(|address| fits(address)).count();
    out.put_u16(u16::try_from(count).expect("a group has fewer than 2^16 members"));
    for (node, address) in roster.iter().filter(|(_, address)| fits(address)) {
        out.put_u64(node.0);
        out.put_u16(u16::try_from(address.len()).expect("it was looked at"));
        out.put_slice(address.as_bytes());
    }
}

/// Reads what [`put_roster`] wrote.
pub fn take_roster(bytes: &mut Bytes) -> Option<Roster> {
    let count = bytes.try_get_u16().ok()?;
    let mut roster = Roster::new();
    for _ in 0..count {
        let node = NodeId(bytes.try_get_u64().ok()?);
        let size = usize::from(bytes.try_get_u16().ok()?);
        if size > bytes.remaining() {
            return None;
        }
        let address = String::from_utf8(bytes.split_to(size).to_vec()).ok()?;
        roster.insert(node, address);
    }
    Some(roster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_round_trip() {
        let roster = Roster::from([(NodeId(1), "a:1".to_owned()), (NodeId(4), String::new())]);
        let context = Context { last: true, roster, system: Bytes::from_static(b"text") };
        let bytes = context.encode();
        assert_eq!(Context::decode(bytes.clone()), Some(context));
        for cut in 0..bytes.len() - 4 {
            assert_eq!(Context::decode(bytes.slice(..cut)), None, "cut at {cut}");
        }
    }
}
