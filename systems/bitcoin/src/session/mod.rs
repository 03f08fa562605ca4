//! Who talks to the node: peers, and clients.

pub mod conf;
pub mod p2p;
pub mod rest;
pub mod rpc;
pub mod zmq;

mod figures;
mod notice;
mod service;
mod warnings;

pub use figures::Figures;
pub use notice::{Commands, Notice, Notify};
pub use service::{BitcoinConfig, BitcoinService, Log, NoLog, P2P_DOOR, RPC_DOOR, WHITE_DOOR, ZMQ_DOOR, ZmqDoor};
