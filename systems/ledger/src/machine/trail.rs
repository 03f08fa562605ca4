//! What binds the contents of a queue to a few bytes that are kept as it goes.
//!
//! - upon something that is appended: it is hashed behind the end;
//! - upon something that is taken out in front: it is hashed behind the beginning, in the same way.
//!
//! The end and the count are of one queue alone: whoever would show another one with them, and a beginning of his choice,
//! must find a second preimage. A snapshot that a liar sends is thus caught by the digest that others signed, and the digest
//! costs a hash for each change instead of one over everything.

use crate::wire::{Hash, sha256};

/// A queue's trail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trail {
    begin: Hash,
    end: Hash,
}

fn behind(trail: &Hash, item: &Hash) -> Hash {
    sha256(&[&trail[..], item].concat())
}

impl Trail {
    /// Of an empty queue out of which other things have gone.
    pub(super) fn beginning_at(begin: Hash) -> Self {
        Self { begin, end: begin }
    }

    /// Appended.
    pub(super) fn push(&mut self, item: &Hash) {
        self.end = behind(&self.end, item);
    }

    /// Taken out in front.
    pub(super) fn pop(&mut self, item: &Hash) {
        self.begin = behind(&self.begin, item);
    }

    pub(super) fn begin(&self) -> Hash {
        self.begin
    }

    pub(super) fn end(&self) -> Hash {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_what_is_held_and_of_its_beginning() {
        let items = [1, 2, 3].map(|item| [item; 32]);
        let (mut all, mut two) = (Trail::default(), Trail::default());
        items.iter().for_each(|item| all.push(item));
        all.pop(&items[0]);
        two.push(&items[0]);
        let mut again = Trail::beginning_at(two.end());
        items[1..].iter().for_each(|item| again.push(item));
        assert_eq!(all, again);
        let mut other = Trail::beginning_at(two.end());
        [3, 2].iter().for_each(|item| other.push(&[*item; 32]));
        assert_ne!(other.end(), all.end());
    }
}
