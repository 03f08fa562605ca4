//! Tests of the whole engine.

mod codec;
mod hostile;
mod scenarios;
