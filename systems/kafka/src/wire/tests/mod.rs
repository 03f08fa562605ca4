//! Tests of the codec as a whole.

mod batches;
mod differential;
pub(super) mod draw;
mod frames;
mod produce;
mod properties;
mod vectors;
