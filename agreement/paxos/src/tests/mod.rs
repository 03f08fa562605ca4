//! The engine's own tests; what every engine must do is judged by the conformance suite.

mod codec;
mod hostile;
mod net;
mod scenarios;
mod start;
