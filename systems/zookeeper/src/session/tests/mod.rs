//! Sessions against real trees, by raw bytes.

mod client;
mod reconfig;
mod requests;
mod sessions;
mod texts;
mod watches;
mod wild;
mod world;
