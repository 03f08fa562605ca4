//! Judges histories: is there one order of facts that explains what everybody saw?
//!
//! [`check()`] takes a history as a user writes it and answers with a verdict, an explanation and a picture. Below it,
//! [`linearizability`] searches for an order of operations on a sequential object, and [`mod@zookeeper`] checks what
//! ZooKeeper promises beyond one.
//!
//! Deliberately absent: any code of the systems that are judged. Of the workspace nothing is imported, so that a
//! checker cannot share a bug with what it judges; the sequential objects are written from public documentation.

#![forbid(unsafe_code)]

mod check;
mod explain;
pub mod history;
pub mod linearizability;
mod shrink;
mod timeline;
mod value;
pub mod zookeeper;

pub use check::{Verdict, Violation, check, check_text};
pub use explain::{Story, Teller, story};
pub use history::{HistoryError, ModelKind};
pub use shrink::smallest;
pub use timeline::{BARS_MAX, Bar, Tone, draw};
pub use value::Value;
