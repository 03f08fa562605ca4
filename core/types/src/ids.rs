//! Identifiers and places in a log.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl From<u64> for $name {
            fn from(raw: u64) -> Self {
                Self(raw)
            }
        }
    };
}

number! {
    /// A node of the cluster. 1 and up; 0 names nobody.
    NodeId
}
number! {
    /// A group: one agreement with one state machine, replicated over some nodes.
    GroupId
}
number! {
    /// A place in a group's log. The first entry has index 1; 0 stands before the log.
    LogIndex
}
number! {
    /// A leader's term (Raft §5.1), or the round of a ballot (Paxos) where an engine reports one.
    Term
}
number! {
    /// A client connection, unique on its node for the life of the process.
    ConnId
}
number! {
    /// What a session calls one of its own pending requests.
    Token
}
number! {
    /// How many times a node has started; persisted, so that it only grows.
    Incarnation
}

impl LogIndex {
    /// The index behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a log of 2^64 entries cannot be written"))
    }

    /// The index before this one; 0 stays 0.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_steps() {
        assert_eq!(LogIndex(0).next(), LogIndex(1));
        assert_eq!(LogIndex(0).prev(), LogIndex(0));
        assert_eq!(LogIndex(7).prev(), LogIndex(6));
        assert_eq!(NodeId(3).to_string(), "3");
    }
}
