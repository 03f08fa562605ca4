//! The traits that the rooms of the house meet at.
//!
//! ```text
//! bytes -> Service -> Propose | Read -> replica -> Agreement -> Commit -> StateMachine -> Reply, Event -> Service -> bytes
//! ```
//!
//! Everything behind these traits is a step function: inputs come in as values, time among them; outputs go
//! out as values. The same code therefore runs under the node and under the simulator.
//!
//! Deliberately absent: sockets, files, threads, clocks, randomness, and any knowledge of one system or one
//! agreement.

#![forbid(unsafe_code)]

mod agreement;
pub mod codec;
mod duty;
mod facts;
mod machine;
mod outside;
mod pieces;
mod range;
mod session;
#[cfg(feature = "testing")]
pub mod testing;

pub use agreement::{
    Agreement, AgreementStatus, Barrier, BarrierId, Boot, Change, Committed, CommittedKind, Input, Members, Output,
    Part, PersistId, Progress, Reconfigure, Record, RecordKind, SnapshotMeta, Transfer, Verdict, Witness,
};
pub use duty::{Duty, DutyInput, DutyOutput};
pub use facts::GroupFacts;
pub use machine::{
    Attachment, Attachments, Command, Effect, Effects, ReadOutcome, RequestId, RestoreError, Spawn, StateMachine,
    SyncFiles,
};
pub use outside::{Channel, Outside};
pub use pieces::Pieces;
pub use range::{FileBytes, FileRange};
pub use session::{Consistency, Door, Failure, Gather, GroupRole, Peer, Service, SessionInput, SessionOutput};
