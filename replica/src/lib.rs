//! Hosts the groups of one node: command, agreement, log, machine, reply.
//!
//! [`Replica`] is a pure step machine. A driver (the node or the simulator) hands it inputs and carries out its
//! outputs; everything between a session's `Propose` and its `Completed` happens here.
//!
//! - upon `Propose` by a service: the command joins this node's [lane](lane) to the group and is given the lane's next
//!   sequence number; the leader packs lanes into entries, stamps them with time, and proposes them;
//! - upon a known change of leader, or silence: everything not yet applied is sent again, in order;
//! - upon applying an entry: a command whose sequence number is not the next of its lane is skipped. Each command is
//!   thus applied exactly once and in the order of its node, however often it was sent (the same idea as client
//!   sessions in the Raft dissertation, §6.3, with the node as the client);
//! - upon a reply under an engine that does not trust its members: it leaves once f + 1 of them [vouch] for it, and an answer
//!   that is to convince others carries their [signatures](certify);
//! - upon a machine that needs an answer from outside: its group applies nothing more until the driver has brought it, and
//!   shows nothing of the entry that is applied in part, to reads, snapshots or the engine;
//! - upon a read: local ones are answered from the applied state at once, linearizable ones after a barrier.
//!
//! Deliberately absent: sockets, clocks, threads (the [vault] does its work when a driver calls it), any system's bytes, any agreement's messages.

#![forbid(unsafe_code)]

mod batch;
mod certify;
mod change;
mod frame;
mod group;
mod lane;
mod reads;
mod replica;
mod roster;
mod snapshot;
mod status;
mod vault;
mod vouch;

pub use batch::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, Batch, Proposal};
pub use certify::{Certificate, Signature};
pub use change::CHANGE_WAIT_MAX;
pub use frame::{FRAME_BYTES_MAX, Frame, FrameError, decode_frames, encode_frame};
pub use group::{GroupBoot, GroupConfig};
pub use lane::{LANE_BYTES_MAX, LANE_PROPOSALS_MAX};
pub use replica::{Caller, Input, Output, Replica, ReplicaConfig, ServiceId, Ticket};
pub use roster::{Roster, put_roster, take_roster};
pub use snapshot::{Restored, restore_group};
pub use status::{GroupStatus, LaneStatus};
pub use vault::{
    EngineFactory, Founder, GroupSpec, LogVault, LogWork, OpenError, Opened, Opening, ServiceFactory, SnapshotAnswer,
    SnapshotVault, SnapshotWork, open,
};
pub use vouch::{Tag, Tags};
