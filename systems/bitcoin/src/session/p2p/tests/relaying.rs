//! How transactions come and go.

use std::sync::Arc;

use bitcoin::{OutPoint, Transaction};

use super::super::{Config, PeerControl};
use super::world::{World, spend};
use crate::mempool::AcceptOptions;
use crate::wire::{Inventory, Item, Message};

const REWARD: u64 = 50 * 100_000_000;

/// A host with coins, and a transaction of its own.
fn funded(world: &mut World, host: usize) -> OutPoint {
    let first = world.mine(host, 1)[0].txdata[0].compute_txid();
    world.mine(host, 100);
    OutPoint::new(first, 0)
}

fn give(world: &mut World, host: usize, tx: &Arc<Transaction>) {
    world.hosts[host].node.on_transaction(Arc::clone(tx), AcceptOptions::default()).unwrap().unwrap();
    world.hear(host);
    world.settle();
}

fn has(world: &World, host: usize, tx: &Transaction) -> bool {
    world.hosts[host].node.mempool().get(&tx.compute_txid()).is_some()
}

#[test]
fn transactions_go_from_node_to_node() {
    let mut world = World::of(3);
    let coin = funded(&mut world, 0);
    world.connect(1, 0);
    world.connect(2, 1);
    world.run(5_000);
    assert_eq!(world.height(2), 101);
    let tx = spend(coin, REWARD - 1_000);
    let child = spend(OutPoint::new(tx.compute_txid(), 0), REWARD - 2_000);
    give(&mut world, 0, &tx);
    give(&mut world, 0, &child);
    world.run(60_000);
    assert!(has(&world, 1, &tx) && has(&world, 2, &tx) && has(&world, 2, &child));
}

#[test]
fn an_announcement_is_fetched_and_an_orphan_s_parents_are() {
    let mut world = World::of(1);
    let coin = funded(&mut world, 0);
    let peer = world.friend(0, "1.2.3.4:5");
    let tx = spend(coin, REWARD - 1_000);
    let child = spend(OutPoint::new(tx.compute_txid(), 0), REWARD - 2_000);
    world.say(peer, &Message::Inv(vec![Inventory::wtx(child.compute_wtxid())]));
    world.run(1_000);
    assert!(!world.commands(peer).contains(&"getdata".to_owned()), "others might have it, and are preferred");
    world.run(2_000);
    assert!(world.heard(peer).contains(&Message::GetData(vec![Inventory::wtx(child.compute_wtxid())])));
    world.say(peer, &Message::Tx { tx: Arc::clone(&child), witness: true });
    assert_eq!(world.hosts[0].peers.orphans().len(), 1);
    world.run(5_000);
    let parent = Inventory { item: Item::WitnessTx, ..Inventory::tx(tx.compute_txid()) };
    assert!(world.heard(peer).contains(&Message::GetData(vec![parent])));
    world.say(peer, &Message::Tx { tx: Arc::clone(&tx), witness: true });
    assert!(has(&world, 0, &tx) && has(&world, 0, &child));
    assert!(world.hosts[0].peers.orphans().is_empty());
}

#[test]
fn a_child_pays_for_its_parent() {
    let mut world = World::of(1);
    let coin = funded(&mut world, 0);
    let peer = world.friend(0, "1.2.3.4:5");
    let parent = spend(coin, REWARD);
    let child = spend(OutPoint::new(parent.compute_txid(), 0), REWARD - 10_000);
    world.say(peer, &Message::Tx { tx: Arc::clone(&child), witness: true });
    world.say(peer, &Message::Tx { tx: Arc::clone(&parent), witness: true });
    assert!(has(&world, 0, &parent) && has(&world, 0, &child));
    assert!(world.logged(0, "package accepted"));
}

#[test]
fn what_a_peer_was_told_of_it_can_have_and_nothing_else() {
    let mut world = World::of(1);
    let coin = funded(&mut world, 0);
    let peer = world.friend(0, "1.2.3.4:5");
    world.run(20_000);
    let tx = spend(coin, REWARD - 1_000);
    give(&mut world, 0, &tx);
    let name = Inventory::wtx(tx.compute_wtxid());
    world.heard(peer);
    world.say(peer, &Message::GetData(vec![name]));
    let heard = world.heard(peer);
    if !heard.contains(&Message::Inv(vec![name])) {
        assert!(heard.contains(&Message::NotFound(vec![name])), "{heard:?}");
    }
    world.run(60_000);
    assert!(world.heard(peer).contains(&Message::Inv(vec![name])));
    world.say(peer, &Message::GetData(vec![name]));
    assert!(world.heard(peer).contains(&Message::Tx { tx, witness: true }));
}

#[test]
fn fees_that_a_peer_does_not_want_are_not_told() {
    let mut world = World::of(1);
    let coin = funded(&mut world, 0);
    let peer = world.friend(0, "1.2.3.4:5");
    world.say(peer, &Message::FeeFilter(1_000_000));
    give(&mut world, 0, &spend(coin, REWARD - 1_000));
    world.run(60_000);
    assert!(!world.commands(peer).contains(&"inv".to_owned()));
}

#[test]
fn a_node_for_blocks_alone_lets_go_of_those_who_send_more() {
    let mut world = World::new(vec![Config { blocks_only: true, ..Config::default() }]);
    let coin = funded(&mut world, 0);
    let [one, other] = ["1.2.3.4:5", "1.2.3.4:6"].map(|from| world.friend(0, from));
    let tx = spend(coin, REWARD - 1_000);
    world.say(one, &Message::Inv(vec![Inventory::wtx(tx.compute_wtxid())]));
    world.say(other, &Message::Tx { tx, witness: true });
    assert!(world.scripts[one].closed && world.scripts[other].closed);
    assert!(world.logged(0, "transaction sent in violation of protocol"));
}

#[test]
fn the_mempool_is_told_to_those_who_may_ask() {
    let mut world = World::new(vec![Config { bloom_filters: true, ..Config::default() }, Config::default()]);
    let coin = funded(&mut world, 0);
    let tx = spend(coin, REWARD - 1_000);
    give(&mut world, 0, &tx);
    let peer = world.friend(0, "1.2.3.4:5");
    world.say(peer, &Message::FilterLoad { bits: vec![0; 3], hashes: 5, tweak: 0, flags: 1 });
    world.say(peer, &Message::FilterAdd(tx.output[0].script_pubkey.as_bytes()[2..].to_vec()));
    world.say(peer, &Message::Mempool);
    world.run(30_000);
    assert!(world.heard(peer).contains(&Message::Inv(vec![Inventory::wtx(tx.compute_wtxid())])));
    let block = world.mine(0, 1)[0].block_hash();
    world.say(peer, &Message::GetData(vec![Inventory::block(Item::FilteredBlock, block)]));
    let heard = world.commands(peer);
    assert!(heard.contains(&"merkleblock".to_owned()) && heard.contains(&"tx".to_owned()), "{heard:?}");
    let peer = world.friend(1, "1.2.3.4:5");
    world.say(peer, &Message::Mempool);
    assert!(world.scripts[peer].closed);
}
