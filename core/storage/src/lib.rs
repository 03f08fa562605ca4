//! Stable storage of one node: a write-ahead log that all groups share, snapshots, key-value state, all over one
//! [`Disk`] trait.
//!
//! The log is the truth: what was not synced to it was never acknowledged, and key-value state may lag behind it. Every
//! byte that is read back is checked; what does not check is refused with [`Error::Corrupt`] and never served.
//!
//! Everything is synchronous and takes no time, randomness or thread of its own. [`RealDisk`] is the one type that
//! touches the operating system; [`RamDisk`] ends with the process; [`MemoryDisk`] loses what was not synced when it is
//! told to crash, [`VolatileDisk`] when its process is killed, and [`FaultyDisk`] fails on plan.
//!
//! Deliberately absent: which records an agreement writes, what a snapshot's bytes mean, and any retry of a failed
//! sync. After one, the kernel may have thrown the dirty pages away and call the next sync a success.

#![forbid(unsafe_code)]

mod codec;
pub mod disk;
mod error;
mod identity;
pub mod kv;
mod sealed;
pub mod snapshot;
pub mod wal;

pub use disk::{
    Disk, DiskFile, FaultyDisk, MemoryDisk, RamDisk, RealDisk, VolatileDisk, file_range, group_folder, read_all,
    replace,
};
pub use error::Error;
pub use identity::{ClusterId, FORMAT_VERSION, Identity};
pub use kv::{Batch, Direction, Keyspace, Kv, KvRead, MemoryKv, RedbKv};
pub use sealed::{read_sealed, write_sealed};
pub use snapshot::{SnapshotConfig, SnapshotStore};
pub use wal::{Recovered, RecoveredGroup, Wal, WalConfig};
