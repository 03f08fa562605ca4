//! The shared net, and what only Paxos can be asked.

use verity_contract::testing;
use verity_contract::{Boot, Input};
use verity_types::{Mono, NodeId};

use crate::message::{Frame, encode};
use crate::{Config, Paxos};

pub(super) type Net = testing::Net<Paxos>;

pub(super) fn start(boot: Boot, now: Mono) -> Paxos {
    Paxos::start(boot, Config::default(), now).unwrap()
}

pub(super) fn net(voters: u64, nodes: u64, config: Config) -> Net {
    Net::new(voters, nodes, move |boot, now| Paxos::start(boot, config.clone(), now).unwrap())
}

/// Begins phase 1 at `id`, whatever it knows of a leader.
pub(super) fn campaign(net: &mut Net, id: u64) {
    net.with(id, |paxos, out| {
        paxos.campaign();
        paxos.settle(out);
    });
}

/// Gives `frame` to `to` as if `from` sent it; true if it was dropped as invalid.
pub(super) fn is_dropped(net: &mut Net, from: u64, to: u64, frame: &Frame) -> bool {
    let before = net.nodes[&to].dropped().0;
    net.input(to, Input::Message { from: NodeId(from), bytes: encode(frame) });
    net.nodes[&to].dropped().0 > before
}
