//! The topics in what Kafka's own consumers tell each other.
//!
//! ```text
//! subscription = version:i16 topics:[string] ...
//! ```
//! The coordinator reads nothing else of it, and need not understand it: who does not use it, says nothing.

use std::collections::BTreeSet;

use crate::machine::codec::Code as _;

/// The topics of a subscription; `None` if it is none.
pub(super) fn topics(mut bytes: &[u8]) -> Option<BTreeSet<String>> {
    let input = &mut bytes;
    let _version = i16::take(input).ok().filter(|version| *version >= 0)?;
    let count = usize::try_from(i32::take(input).ok()?).ok()?;
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let size = usize::try_from(i16::take(input).ok()?).ok()?;
        let (name, rest) = input.split_at_checked(size)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        *input = rest;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_nothing_else_is() {
        let bytes = b"\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x02bc\x00\x00\x00\x00";
        assert_eq!(topics(bytes), Some(["a".to_owned(), "bc".to_owned()].into()));
        (0..12).for_each(|cut| assert_eq!(topics(&bytes[..cut]), None, "cut at {cut}"));
        assert_eq!(topics(b"\x00\x01\x7f\xff\xff\xff"), None, "a count beyond the bytes");
        assert_eq!(topics(b"\xff\xff\x00\x00\x00\x00"), None);
    }
}
