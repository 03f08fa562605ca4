//! The diagram, both state machines transition by transition, and every interleaving of a small group.

mod diagram;
mod model;
mod transitions;
