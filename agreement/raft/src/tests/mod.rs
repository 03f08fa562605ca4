//! Tests that need to see frames and the engine's inside.

mod codec;
mod hostile;
mod net;
mod scenarios;
mod start;
