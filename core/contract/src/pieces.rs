//! Bytes with something in front of them.
//!
//! Whoever wraps large bytes that it shares with others (a session what a client sent, an engine an entry) puts its own few
//! in front of them here, instead of copying all into a buffer of its own.

use bytes::{BufMut, Bytes, BytesMut};

/// One row of bytes in two pieces: `head`, then `body`. Where it is cut says nothing: two rows are equal if their bytes are.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// What comes first.
    pub head: Bytes,
    /// The rest.
    pub body: Bytes,
}

impl Pieces {
    /// How many bytes it is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// True if it is none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    /// Both, in their order.
    #[must_use]
    pub fn slices(&self) -> [&[u8]; 2] {
        [&self.head, &self.body]
    }

    /// Appends them to `out`.
    pub fn put(&self, out: &mut BytesMut) {
        self.slices().iter().for_each(|piece| out.put_slice(piece));
    }

    /// As one; a copy only if there are two.
    #[must_use]
    pub fn join(self) -> Bytes {
        if self.head.is_empty() {
            return self.body;
        }
        if self.body.is_empty() {
            return self.head;
        }
        let mut out = BytesMut::with_capacity(self.len());
        self.put(&mut out);
        out.freeze()
    }
}

impl From<Bytes> for Pieces {
    fn from(body: Bytes) -> Self {
        Self { head: Bytes::new(), body }
    }
}

impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |pieces: &Self| pieces.clone().join();
        self.len() == other.len() && bytes(self) == bytes(other)
    }
}

impl Eq for Pieces {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is_cut_says_nothing() {
        let cut = |at: usize| {
            let mut body = Bytes::from_static(b"append");
            Pieces { head: body.split_to(at), body }
        };
        for at in 0..=6 {
            assert_eq!(cut(at), cut(3));
            assert_eq!(cut(at).join(), "append");
            assert_eq!(cut(at).len(), 6);
            let mut out = BytesMut::new();
            cut(at).put(&mut out);
            assert_eq!(out, "append");
        }
        assert_ne!(cut(3), Bytes::from_static(b"appenD").into());
        assert!(Pieces::default().is_empty() && !cut(0).is_empty() && !cut(6).is_empty());
    }
}
