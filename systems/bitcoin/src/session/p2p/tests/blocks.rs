//! How chains come and go.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;

use super::super::{Config, PeerControl};
use super::world::{World, worked};
use crate::params::Params;
use crate::wire::{BlockTxns, CompactBlock, Inventory, Item, Locator, Message};

#[test]
fn a_new_node_fetches_the_whole_chain() {
    let mut world = World::of(2);
    world.mine(0, 2_100);
    world.connect(1, 0);
    world.run(5_000);
    assert_eq!(world.height(1), 2_100);
    let rows = world.hosts[1].peers.peers();
    assert_eq!((rows[0].synced_headers, rows[0].synced_blocks, rows[0].inflight.len()), (2_100, 2_100, 0));
    assert!(!world.hosts[1].peers.is_initial_block_download());
}

#[test]
fn blocks_go_from_node_to_node_and_the_better_chain_wins() {
    let mut world = World::of(3);
    world.mine(0, 5);
    world.connect(1, 0);
    world.connect(2, 1);
    world.run(2_000);
    assert_eq!((world.height(1), world.height(2)), (5, 5));
    world.mine(0, 1);
    world.run(1_000);
    assert_eq!(world.height(2), 6);
    // The second announces by compact blocks once it brought one.
    world.mine(0, 1);
    world.run(1_000);
    assert_eq!(world.height(2), 7);
    let row = &world.hosts[1].peers.peers()[0];
    assert!(row.bip152_hb_to, "whoever brought a block may announce the next in whole");
    assert!(row.bytes_recv_per_msg.contains_key("cmpctblock"));
}

#[test]
fn two_chains_meet_and_the_longer_one_stays() {
    let mut world = World::of(2);
    world.mine(0, 10);
    world.mine(1, 14);
    world.connect(0, 1);
    world.run(3_000);
    assert_eq!((world.height(0), world.height(1)), (14, 14));
    assert_eq!(world.hosts[0].node.chain().tip(), world.hosts[0].node.chain().best_header());
}

#[test]
fn headers_and_blocks_are_served() {
    let mut world = World::of(1);
    let blocks = world.mine(0, 30);
    let peer = world.friend(0, "1.2.3.4:5");
    let genesis = Params::regtest().genesis.block_hash();
    let stop = BlockHash::all_zeros();
    world.say(peer, &Message::GetHeaders(Locator { hashes: vec![genesis], stop }));
    let heard = world.heard(peer);
    let Some(Message::Headers(list)) = heard.last() else { panic!("{heard:?}") };
    assert_eq!((list.len(), list[29]), (30, blocks[29].header));
    let want = |item| Inventory::block(item, blocks[29].block_hash());
    world.say(peer, &Message::GetData(vec![want(Item::WitnessBlock), want(Item::CompactBlock)]));
    let heard = world.heard(peer);
    assert_eq!(heard[0], Message::Block { block: Arc::clone(&blocks[29]), witness: true });
    assert!(matches!(&heard[1], Message::CompactBlock(compact) if compact.header == blocks[29].header));
    world.say(peer, &Message::GetBlocks(Locator { hashes: vec![genesis], stop: blocks[3].block_hash() }));
    world.run(100);
    let heard = world.heard(peer);
    assert!(matches!(&heard[..], [Message::Inv(list)] if list.len() == 3), "{heard:?}");
    world.say(peer, &Message::GetHeaders(Locator { hashes: vec![genesis; 102], stop }));
    assert!(world.scripts[peer].closed);
}

#[test]
fn whoever_takes_nothing_is_sent_no_more_until_it_does() {
    const BUFFER: usize = 2_000;
    let mut world = World::new(vec![Config { send_buffer: BUFFER, ..Config::default() }]);
    let blocks = world.mine(0, 50);
    let size = bitcoin::consensus::encode::serialize(blocks[0].as_ref()).len();
    let peer = world.friend(0, "1.2.3.4:5");
    world.stuck = true;
    let wanted = blocks.iter().map(|block| Inventory::block(Item::WitnessBlock, block.block_hash())).collect();
    world.say(peer, &Message::GetData(wanted));
    world.say(peer, &Message::Ping(Some(7)));
    world.run(10_000);
    let first = world.heard(peer);
    assert!((BUFFER / 2 / size..=BUFFER / size + 1).contains(&first.len()), "{} blocks of {size} bytes", first.len());
    world.drain(peer);
    let second = world.heard(peer);
    assert!((1..=BUFFER / size + 1).contains(&second.len()), "{} blocks", second.len());
    world.stuck = false;
    world.drain(peer);
    let rest = world.heard(peer);
    assert_eq!(first.len() + second.len() + rest.len(), 51, "each of them came once");
    assert_eq!(rest.last(), Some(&Message::Pong(Some(7))), "and in order");
}

#[test]
fn new_blocks_are_told_as_they_are_asked_for() {
    let mut world = World::of(1);
    world.mine(0, 3);
    let [plain, headers] = ["1.2.3.4:5", "1.2.3.4:6"].map(|from| world.friend(0, from));
    world.say(headers, &Message::SendHeaders);
    let tip = world.hosts[0].node.chain().entry(world.hosts[0].node.chain().tip()).header;
    for peer in [plain, headers] {
        world.say(peer, &Message::Headers(vec![tip]));
        world.heard(peer);
    }
    let block = world.mine(0, 1)[0].clone();
    world.run(100);
    assert_eq!(world.heard(plain), [Message::Inv(vec![Inventory::block(Item::Block, block.block_hash())])]);
    assert_eq!(world.heard(headers), [Message::Headers(vec![block.header])]);
}

#[test]
fn a_peer_announces_and_is_asked() {
    let mut world = World::of(1);
    world.mine(0, 3);
    let peer = world.friend(0, "1.2.3.4:5");
    let block = world.next_block(0);
    world.say(peer, &Message::Headers(vec![block.header]));
    let heard = world.heard(peer);
    let asked = |message: &Message| matches!(message, Message::GetData(list) if list[0].hash == block.block_hash().to_byte_array());
    assert!(heard.iter().any(asked), "{heard:?}");
    world.say(peer, &Message::Block { block: Arc::clone(&block), witness: true });
    assert_eq!(world.height(0), 4);
    assert!(!world.scripts[peer].closed);
}

#[test]
fn a_compact_block_is_put_together_and_what_is_missing_is_asked_for() {
    let mut world = World::of(1);
    world.mine(0, 3);
    let peer = world.friend(0, "1.2.3.4:5");
    world.say(peer, &Message::SendCompact { announce: 0, version: 2 });
    let block = world.next_block(0);
    // Announced by its header it is asked for in the short form.
    world.say(peer, &Message::Headers(vec![block.header]));
    let asked = world.heard(peer);
    let short = Inventory::block(Item::CompactBlock, block.block_hash());
    assert!(asked.contains(&Message::GetData(vec![short])), "{asked:?}");
    let mut compact = CompactBlock::new(&block, 5);
    let coinbase = compact.prefilled.pop().unwrap().tx;
    compact.names.push(crate::wire::ShortIdKey::new(&block.header, 5).name(&coinbase.compute_wtxid()));
    world.say(peer, &Message::CompactBlock(compact));
    let heard = world.heard(peer);
    assert!(matches!(&heard[..], [Message::GetBlockTxns(request)] if request.places == [0]), "{heard:?}");
    world.say(peer, &Message::BlockTxns(BlockTxns { block: block.block_hash(), txs: vec![coinbase] }));
    assert_eq!(world.height(0), 4);
    world.run(100);
    let high = Message::SendCompact { announce: 1, version: 2 };
    assert!(world.heard(peer).contains(&high), "it may announce the next in this way");
}

#[test]
fn answers_that_do_not_fit_are_held_against_a_peer() {
    let mut world = World::of(1);
    world.mine(0, 3);
    let peer = world.friend(0, "1.2.3.4:5");
    world.say(peer, &Message::SendCompact { announce: 0, version: 2 });
    let block = world.next_block(0);
    world.say(peer, &Message::Headers(vec![block.header]));
    let mut compact = CompactBlock::new(&block, 5);
    compact.names.push(1);
    world.say(peer, &Message::CompactBlock(compact));
    world.say(peer, &Message::BlockTxns(BlockTxns { block: block.block_hash(), txs: Vec::new() }));
    assert!(world.scripts[peer].closed);
    assert!(world.logged(0, "invalid compact block/non-matching block transactions"));
}

#[test]
fn whoever_brings_a_bad_block_or_header_is_let_go() {
    let mut world = World::of(1);
    world.mine(0, 3);
    let good = world.next_block(0);
    let mut overpaid = (*good).clone();
    overpaid.txdata[0].output[0].value = bitcoin::Amount::from_sat(51 * 100_000_000);
    overpaid.header.merkle_root = overpaid.compute_merkle_root().unwrap();
    let peer = world.friend(0, "1.2.3.4:5");
    world.say(peer, &Message::Block { block: worked(overpaid), witness: true });
    assert!(world.scripts[peer].closed, "{:?}", world.hosts[0].log.last());
    let peer = world.friend(0, "1.2.3.5:5");
    let mut doubled = (*good).clone();
    doubled.txdata.push(doubled.txdata[0].clone());
    world.say(peer, &Message::Block { block: Arc::new(doubled), witness: true });
    assert!(world.scripts[peer].closed && world.logged(0, "mutated block"));
    let peer = world.friend(0, "1.2.3.6:5");
    let mut lazy = good.header;
    while verity_nakamoto::has_work(lazy.block_hash(), lazy.bits, Params::regtest().headers.pow.limit) {
        lazy.nonce += 1;
    }
    world.say(peer, &Message::Headers(vec![lazy]));
    assert!(world.scripts[peer].closed && world.logged(0, "header with invalid proof of work"));
    let peer = world.friend(0, "1.2.3.7:5");
    let genesis = Params::regtest().genesis.header;
    world.say(peer, &Message::Headers(vec![good.header, genesis]));
    assert!(world.scripts[peer].closed && world.logged(0, "non-continuous headers sequence"));
    assert_eq!(world.height(0), 3);
}

#[test]
fn headers_that_follow_nothing_known_are_asked_about() {
    let mut world = World::of(2);
    world.mine(0, 3);
    let blocks = world.mine(1, 9);
    let peer = world.friend(0, "1.2.3.4:5");
    world.say(peer, &Message::Headers(Vec::new()));
    world.heard(peer);
    world.say(peer, &Message::Headers(vec![blocks[8].header]));
    let heard = world.heard(peer);
    assert!(heard.iter().any(|message| matches!(message, Message::GetHeaders(_))), "{heard:?}");
    assert!(!world.scripts[peer].closed);
}

#[test]
fn a_chain_of_too_little_work_is_only_counted() {
    let mut world = World::of(2);
    world.mine(0, 400);
    let weak = world.mine(1, 100);
    let peer = world.friend(0, "1.2.3.4:5");
    let headers = weak.iter().map(|block| block.header).collect();
    let before = world.hosts[0].node.chain().tree().len();
    world.say(peer, &Message::Headers(headers));
    assert_eq!(world.hosts[0].node.chain().tree().len(), before);
    assert!(world.logged(0, "Ignoring low-work chain (height=100)"));
    assert!(!world.scripts[peer].closed);
}

#[test]
fn a_peer_that_holds_up_blocks_is_let_go() {
    let mut world = World::new(vec![Config::default(), Config::default()]);
    let blocks = world.mine(1, 40);
    let peer = world.friend(0, "1.2.3.4:5");
    let headers = blocks.iter().map(|block| block.header).collect();
    world.say(peer, &Message::Headers(headers));
    world.run(1_000);
    assert_eq!(world.hosts[0].peers.peers()[0].inflight.len(), 16);
    let until = world.now + 601 * 1_000_000;
    while world.now < until {
        if let Some(Message::Ping(nonce)) =
            world.heard(peer).into_iter().find(|message| matches!(message, Message::Ping(_)))
        {
            world.say(peer, &Message::Pong(nonce));
        }
        world.run(1_000);
    }
    assert!(world.scripts[peer].closed && world.logged(0, "Timeout downloading block"));
}
