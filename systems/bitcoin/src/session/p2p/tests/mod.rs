//! Whole nodes, joined back to back or to peers that say what a test tells them to.

mod blocks;
mod meeting;
mod relaying;
mod world;
