//! Tests of the whole engine.

mod codec;
mod epoch;
mod hostile;
mod rig;
mod scenarios;
