//! Time as values: intervals, hybrid logical clocks, version vectors. Readings come in as arguments.
//!
//! Five answers to "which came first?", from strong to weak: [`TrueTime`] bounds real time and may be waited for;
//! [`select`] finds the bound that several masters support; [`HybridClock`] respects causality and stays near the
//! wall; [`VersionVector`] tells causality from concurrency exactly; [`Siblings`] keeps what is concurrent.
//!
//! Deliberately absent: reading a clock, sockets to masters, and anything that sleeps. `runtime` does these.

#![forbid(unsafe_code)]

mod dotted;
mod hlc;
mod interval;
mod marzullo;
mod truetime;
mod vector;

pub use dotted::{SIBLINGS_MAX, Siblings};
pub use hlc::{Hlc, HlcError, HybridClock};
pub use interval::{Interval, Now};
pub use marzullo::{SOURCES_MAX, Selection, Source, largest_agreement, select};
pub use truetime::{Provenance, Reading, Refused, Status, TrueTime};
pub use vector::{ACTORS_MAX, Dot, Relation, VectorError, VersionVector};
