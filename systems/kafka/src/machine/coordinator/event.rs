//! What the coordinator puts out beside answers.
//!
//! | topic | bytes | for |
//! | --- | --- | --- |
//! | `g/<group id>` | [`GroupEvent`] | the node whose client waits for a join or a sync |
//! | `t/<transactional id>` | [`TransactionEvent`] | whoever writes markers into partitions |
//! | `s/<group id>` | [`ShareEvent`] | nodes whose clients wait for records; whoever writes into dead-letter topics |
//! | `d` | [`DutyEvent`] | the leader's duty |
//!
//! HAZARD: a replica that catches up by a snapshot puts out no events for what it skipped. A session that waits asks
//! [`super::Query::Waiting`] when its node's state was replaced; otherwise its client waits for its own timeout.

use bytes::Bytes;

use super::command::{ShareName, TopicPartitions, TransactionName};
use super::reply::{JoinResult, SyncResult};
use crate::machine::codec::{self, CodeError, choice, record};

/// The topic of [`DutyEvent`]s.
pub const DUTY_TOPIC: &[u8] = b"d";

choice! {
    /// A rebalance has an answer for somebody who waits.
    pub enum GroupEvent {
        /// A join has its answer.
        JoinDone {
            /// What [`super::Reply::Wait`] said.
            ticket: u64,
            /// Who waited.
            member_id: String,
            /// The answer.
            result: JoinResult,
        } = 1,
        /// A sync has its answer.
        SyncDone {
            /// What [`super::Reply::Wait`] said.
            ticket: u64,
            /// Who waited.
            member_id: String,
            /// The answer.
            result: SyncResult,
        } = 2,
    }
}

choice! {
    /// A transaction has moved on.
    pub enum TransactionEvent {
        /// Its end is decided: these partitions need a marker each. Repeated until [`super::Command::MarkersWritten`].
        WriteMarkers {
            /// The producer id and epoch that the markers bear.
            transaction: TransactionName,
            /// The transaction's number: a partition ignores a marker of another transaction than its open one.
            number: u64,
            /// The epoch of the coordinator that markers bear.
            coordinator_epoch: i32,
            /// Commit or abort.
            commit: bool,
            /// Where markers are missing.
            topics: Vec<TopicPartitions>,
        } = 1,
        /// All markers are written; the next transaction may begin.
        Completed {
            /// The producer id and epoch as they are now.
            transaction: TransactionName,
            /// The transaction's number.
            number: u64,
        } = 2,
    }
}

choice! {
    /// Why a record is dead.
    #[derive(Copy)]
    pub enum Cause {
        /// A member has rejected it.
        Rejected = 1,
        /// It was delivered as often as it may be.
        TooManyDeliveries = 2,
    }
}

record! {
    /// Records that belong into the dead-letter topic.
    #[derive(Copy)]
    pub struct DeadRecords {
        /// The first offset.
        pub first: i64,
        /// The last.
        pub last: i64,
        /// How often they were delivered.
        pub count: u16,
        /// Why.
        pub cause: Cause,
    }
}

choice! {
    /// A partition has moved on, as a share group sees it.
    pub enum ShareEvent {
        /// There may be more to acquire.
        Moved {
            /// Which.
            share: ShareName,
        } = 1,
        /// Records are to be buried. Repeated until [`super::Command::Buried`].
        Dead {
            /// Which.
            share: ShareName,
            /// The state's epoch.
            epoch: i32,
            /// In the order of their offsets.
            records: Vec<DeadRecords>,
        } = 2,
    }
}

choice! {
    /// What the duty watches over.
    pub enum DutyEvent {
        /// A member is there and is to be heard of within its timeout.
        Member {
            /// Of which group.
            group_id: String,
            /// Who.
            member_id: String,
            /// From now on, after each sign.
            timeout_ms: u32,
        } = 1,
        /// A member is gone.
        Gone {
            /// Of which group.
            group_id: String,
            /// Who.
            member_id: String,
        } = 2,
        /// A [`super::Command::Tick`] is due at this time.
        Timer {
            /// Wall time in milliseconds.
            at: u64,
        } = 3,
    }
}

macro_rules! messages {
    ($($name:ident)*) => {$(
        impl $name {
            /// Its bytes.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                codec::encode(self)
            }

            /// Reads it.
            ///
            /// # Errors
            /// [`CodeError`].
            pub fn decode(bytes: &[u8]) -> Result<Self, CodeError> {
                codec::decode(bytes)
            }
        }
    )*};
}

messages! { GroupEvent TransactionEvent ShareEvent DutyEvent }

/// The topic of a group's events.
#[must_use]
pub fn group_topic(group_id: &str) -> Bytes {
    Bytes::from([b"g/", group_id.as_bytes()].concat())
}

/// The topic of a transaction's events.
#[must_use]
pub fn transaction_topic(transactional_id: &str) -> Bytes {
    Bytes::from([b"t/", transactional_id.as_bytes()].concat())
}

/// The topic of a share group's events.
#[must_use]
pub fn share_topic(group_id: &str) -> Bytes {
    Bytes::from([b"s/", group_id.as_bytes()].concat())
}
