//! Worlds that need no system: the smallest machine and service that show what the rooms below them promise.

#![forbid(unsafe_code)]

pub mod append;
pub mod filed;
