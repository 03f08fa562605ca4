//! Tests of the whole engine.

mod codec;
mod epoch;
mod hostile;
mod scenarios;
