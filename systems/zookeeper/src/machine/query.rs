//! Questions that services and duties ask, and their answers. All travel as jute behind the envelope and answer heads.

use crate::wire::{Decode, DecodeError, Encode, Reader, SetWatches2};

/// The most sessions that one answer lists.
pub const SESSION_COUNT_MAX: usize = 4096;
/// The most nodes that one answer names as due.
pub const DUE_COUNT_MAX: usize = 1024;

macro_rules! answer {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$fdoc])* pub $field: $type,)*
        }

        answer!(@impl $name $(<$life>)? { $($field,)* });
    )* };
    (@impl $name:ident <$life:lifetime> { $($field:ident,)* }) => {
        impl<$life> Decode<$life> for $name<$life> {
            fn decode(reader: &mut Reader<$life>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Decode::decode(reader)?,)* })
            }
        }
        impl Encode for $name<'_> {
            fn encode(&self, out: &mut Vec<u8>) { $(self.$field.encode(out);)* }
        }
    };
    (@impl $name:ident { $($field:ident,)* }) => {
        impl Decode<'_> for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Decode::decode(reader)?,)* })
            }
        }
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) { $(self.$field.encode(out);)* }
        }
    };
}

answer! {
    /// Which sessions to list.
    SessionsQuery {
        /// Those with ids above this one; `i64::MIN` from the start, otherwise the last id of the answer before.
        after: i64,
        /// At most so many; [`SESSION_COUNT_MAX`] at the most.
        count_max: i32,
    }
    /// One session of a list.
    SessionRow {
        /// Its id.
        session: i64,
        /// In milliseconds.
        timeout_ms: i32,
        /// The node that serves it.
        owner: i64,
    }
    /// One session.
    SessionInfo<'a> {
        /// In milliseconds.
        timeout_ms: i32,
        /// The node that serves it.
        owner: i64,
        /// Its password.
        password: Option<&'a [u8]>,
        /// How many ephemerals it owns.
        ephemerals: i32,
    }
    /// The ephemerals of a session.
    SessionEphemerals<'a> {
        /// Its id.
        session: i64,
        /// Their paths, in the order of their creation.
        paths: Vec<&'a str>,
    }
    /// Which nodes shall go.
    DueQuery {
        /// As of this moment, in milliseconds since 1970.
        time: i64,
        /// At most so many; [`DUE_COUNT_MAX`] at the most.
        count_max: i32,
    }
    /// Figures of the tree.
    TreeStatus {
        /// The last transaction.
        zxid: i64,
        /// Nodes, ZooKeeper's own included.
        nodes: i64,
        /// Ephemeral nodes.
        ephemerals: i64,
        /// Sessions.
        sessions: i64,
        /// Bytes of paths and data, as `zk_approximate_data_size` counts them.
        data_size: i64,
        /// Bytes of memory, roughly.
        memory: i64,
        /// The last transaction of this node's last snapshot.
        snapshot_zxid: i64,
        /// The moment of it, in milliseconds since 1970.
        snapshot_time: i64,
        /// The switches, as [`crate::machine::TreeConfig`] writes them.
        config: i32,
    }
    /// What a reconnecting client's watches missed.
    WatchesAnswer<'a> {
        /// One-time watches that fire at once, and are then not registered.
        due: Vec<DueWatch<'a>>,
        /// What persistent watches missed, oldest first.
        missed: Vec<MissedEvent<'a>>,
        /// False if events between the client's zxid and the oldest remembered one are forgotten.
        complete: bool,
    }
    /// A one-time watch that fires at once.
    DueWatch<'a> {
        /// The list that it was in: 0 data, 1 exist, 2 child.
        list: i32,
        /// [`crate::wire::EventType`].
        kind: i32,
        /// Its path.
        path: &'a str,
    }
    /// An event that a persistent watch missed.
    MissedEvent<'a> {
        /// [`crate::wire::EventType`].
        kind: i32,
        /// Its transaction.
        zxid: i64,
        /// The node.
        path: &'a str,
    }
}

/// Reads the body of setWatches or setWatches2 into one shape.
pub(super) fn watches(with_persistent: bool, body: &[u8]) -> Result<SetWatches2<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut all = SetWatches2 {
        relative_zxid: i64::decode(&mut reader)?,
        data: Decode::decode(&mut reader)?,
        exist: Decode::decode(&mut reader)?,
        child: Decode::decode(&mut reader)?,
        ..SetWatches2::default()
    };
    if with_persistent {
        all.persistent = Decode::decode(&mut reader)?;
        all.persistent_recursive = Decode::decode(&mut reader)?;
    }
    Ok(all)
}
