//! The service with the state, without sockets.

mod flow;
mod world;
