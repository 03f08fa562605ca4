//! The coordinator: groups, committed offsets, share groups' records and transactions as one replicated state machine.
//!
//! Every decision is made when a [`Command`] is applied, from the command, the state and the entry's stamp. So any node can
//! answer a [`Query`] from what it has applied, a change of leaders loses nothing, and what waits for a rebalance waits in
//! the state. The rules are where they are kept: `classic`, `consumer`, `share`, `offsets`, `transaction`.
//!
//! - upon a command that has to wait: it is answered with [`Reply::Wait`] and a ticket; the answer proper is an event with
//!   that ticket, put out by whatever command ends the wait;
//! - upon a heartbeat that changes nothing: nothing is placed in the order. The session answers from a query and whispers
//!   to the leader's [`CoordinatorDuty`] that the member lives;
//! - upon a silence or a moment that has come: the duty proposes [`Command::ExpireMember`] or [`Command::Tick`], and
//!   the state does what it finds due by the entry's stamp.
//!
//! Which request becomes what:
//!
//! | request | command or query |
//! | --- | --- |
//! | JoinGroup, SyncGroup, LeaveGroup | [`Command::Join`], [`Command::Sync`], [`Command::Leave`] |
//! | Heartbeat | [`Query::Heartbeat`] and a whisper; [`Command::Heartbeat`] where a read may be stale |
//! | ConsumerGroupHeartbeat | [`Query::ConsumerHeartbeat`] and a whisper; [`Command::ConsumerHeartbeat`] if that says so |
//! | OffsetCommit, OffsetDelete, DeleteGroups | [`Command::CommitOffsets`], [`Command::DeleteOffsets`], [`Command::DeleteGroups`] |
//! | OffsetFetch, DescribeGroups, ConsumerGroupDescribe, ListGroups | the queries of those names |
//! | InitProducerId, AddOffsetsToTxn, TxnOffsetCommit, EndTxn | the commands of those names |
//! | AddPartitionsToTxn, Produce | [`Query::VerifyPartitions`]; [`Command::AddPartitions`] for those that are not part yet |
//! | WriteTxnMarkers | asked for by [`TransactionEvent::WriteMarkers`], reported by [`Command::MarkersWritten`] |
//! | DescribeTransactions, ListTransactions | the queries of those names |
//! | ShareGroupHeartbeat | [`Query::ShareHeartbeat`] and a whisper; [`Command::ShareHeartbeat`] if that says so |
//! | ShareFetch | [`Query::ShareWindow`], then [`Command::AcquireShare`] with what the log has there |
//! | ShareAcknowledge | [`Command::AcknowledgeShare`] |
//! | Describe-, Alter-, DeleteShareGroupOffsets | [`Query::ShareOffsets`], [`Command::SeekShares`], [`Command::DeleteShares`] |
//!
//! HAZARD: an answer that throws a member out (`UNKNOWN_MEMBER_ID`, `ILLEGAL_GENERATION`) is right as of the applied index of
//! whoever gives it. A replica that lags would throw out a member that has just joined; sessions give such answers from
//! linearizable reads, or from the command.
//!
//! Deliberately absent: authorisation, which sessions do.

mod classic;
mod command;
mod config;
mod consumer;
mod duty;
mod event;
mod group;
mod groups;
mod invariants;
mod machine;
mod offsets;
mod query;
mod read;
mod reply;
mod share;
mod shares;
mod snapshot;
#[cfg(test)]
mod tests;
mod timers;
mod transaction;
mod transactions;
mod turn;
mod whisper;

pub use command::{
    Acknowledgement, Command, CommitOffsets, CommitTransactionOffsets, ConsumerHeartbeat, IdPartitions, Join,
    MemberName, OffsetRow, Protocol, ShareAcquire, ShareBatch, ShareHeartbeat, ShareName, ShareSession, ShareSettings,
    Sync, TopicInfo, TopicOffsets, TopicPartitions, TransactionName,
};
pub use config::{
    CoordinatorConfig, GROUP_COUNT_MAX, GROUP_SIZE_MAX, MEMBER_SIZE_MAX, NEW_MEMBER_TIMEOUT_MS, OFFSET_COUNT_MAX,
    PENDING_COUNT_MAX, SHARE_PARTITION_COUNT_MAX, SUBSCRIPTION_SIZE_MAX, TRANSACTION_COUNT_MAX,
    TRANSACTION_PARTITION_COUNT_MAX,
};
pub use duty::CoordinatorDuty;
pub use event::{
    Cause, DUTY_TOPIC, DeadRecords, DutyEvent, GroupEvent, ShareEvent, TransactionEvent, group_topic, share_topic,
    transaction_topic,
};
pub use machine::Coordinator;
pub use query::{
    Answer, ClassicMemberRow, ClassicRow, ConsumerMemberRow, ConsumerRow, FetchTopic, FetchedOffset, FetchedTopic,
    GroupRow, NamedPartitions, Query, ROWS_MAX, ShareRow, SurveyRow, TransactionRow,
};
pub use reply::{AcquiredRecords, ConsumerReply, JoinMember, JoinResult, Left, Reply, SyncResult, TopicErrors};
pub use whisper::{ALIVE_COUNT_MAX, alive};
