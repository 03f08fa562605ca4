//! What every engine with fixed membership must do, whatever its protocol.
//!
//! [`World`] runs N engines over a network and disks of its own, all from one seed, in virtual time: messages are
//! delayed, dropped, doubled, reordered and cut off (also one way), nodes crash at any event and lose what was not
//! stable, pause, and come back from their records. [`cases`] are the conformance tests; an engine plugs in with a
//! [`Factory`] and one `#[test]` for each.
//!
//! Deliberately absent: `runtime/sim`. An engine is judged before anything stands on it, so a bug in the simulator
//! cannot hide one here, nor the other way round.

#![forbid(unsafe_code)]

pub mod cases;
mod disk;
pub mod liars;
mod rng;
mod world;

pub use disk::Mutant;
pub use rng::Rng;
pub use world::{Faults, Offered, World};

use verity_contract::{Agreement, Boot};
use verity_types::Mono;

/// Makes an engine, or says why stable storage does not allow it.
pub type Factory = fn(Boot, Mono) -> Result<Box<dyn Agreement>, String>;
