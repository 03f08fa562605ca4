//! The metadata by its commands: what a client would see, and what every copy shows.

mod access;
mod agreements;
mod assignments;
mod configs;
mod copies;
mod draw;
mod limits;
mod moves;
mod rig;
mod topics;
