//! The shared net, and what only Raft can be asked.

use verity_contract::{Boot, testing};
use verity_types::Mono;

use crate::{Config, Raft};

pub(super) type Net = testing::Net<Raft>;

pub(super) fn net(voters: u64, nodes: u64, config: Config) -> Net {
    Net::new(voters, nodes, move |boot, now| Raft::start(boot, config.clone(), now).unwrap())
}

/// Without a lease, so that what a file shows does not depend on the clock.
pub(super) fn start(boot: Boot, now: Mono) -> Raft {
    Raft::start(boot, Config { lease: None, ..Config::default() }, now).unwrap()
}

/// Ticks `id` alone until it leads.
pub(super) fn elect(net: &mut Net, id: u64) {
    for _ in 0..80 {
        if net.nodes[&id].leads() {
            return;
        }
        net.tick(&[id], 1);
    }
    panic!("node {id} was not elected");
}
