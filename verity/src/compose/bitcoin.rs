//! Bitcoin's part: listeners alone, since its node stands beside the replica's (`crate::bitcoin::chains`).

use verity_bitcoin::session::{P2P_DOOR, RPC_DOOR, ZMQ_DOOR};

use super::{DoorUse, PlannedDoor, System};
use crate::settings::Bitcoin as Settings;

/// The listeners.
pub(super) fn doors(settings: &Settings) -> [PlannedDoor; 3] {
    let door = |name, setting, port, door| PlannedDoor {
        system: System::Bitcoin,
        name,
        setting,
        port,
        door,
        used: DoorUse::Plain,
    };
    [
        door("bitcoin", "rpcport", settings.rpc_port, RPC_DOOR),
        door("bitcoin-p2p", "port", settings.p2p_port, P2P_DOOR),
        door("bitcoin-zmq", "zmqpub", settings.zmq_port, ZMQ_DOOR),
    ]
}
