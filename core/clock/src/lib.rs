//! Time as values: intervals, hybrid logical clocks, version vectors. Readings come in as arguments.

#![forbid(unsafe_code)]

mod interval;

pub use interval::{Interval, Now};
