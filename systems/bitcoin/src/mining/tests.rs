use std::sync::Arc;

use bitcoin::hashes::sha256;
use verity_nakamoto::has_work;
use verity_storage::{Disk, MemoryDisk};

use super::*;
use crate::chain::ChainConfig;
use crate::mempool::AcceptOptions;
use crate::node::Node;
use crate::params::Params;

const NOW: u64 = 1_700_000_000;

fn anybody() -> ScriptBuf {
    ScriptBuf::from([&[0, 32][..], sha256::Hash::hash(&[0x51]).as_byte_array()].concat())
}

fn node() -> Node {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let chain = Chain::open(&disk, Params::regtest(), ChainConfig::default()).expect("it begins");
    Node::new(chain, Mempool::default(), NOW).expect("it begins")
}

fn options() -> TemplateOptions {
    TemplateOptions { script: anybody(), ..TemplateOptions::default() }
}

/// Makes a block of what waits, with work, and takes it.
fn mine(node: &mut Node) -> Template {
    let template = assemble(node.chain(), node.mempool(), node.time(), &options()).expect("a disk in memory");
    let mut block = template.block.clone();
    let now = node.time() as u32;
    let judged = node.chain_mut().check_template(&Arc::new(block.clone()), now, false, true);
    judged.expect("a disk in memory").expect("a template is valid");
    while !has_work(block.block_hash(), block.header.bits, node.chain().params().headers.pow.limit) {
        block.header.nonce += 1;
    }
    let hash = block.block_hash();
    assert!(node.on_block(&Arc::new(block), true).expect("a disk in memory").expect("it is valid"));
    assert_eq!(node.chain().entry(node.chain().tip()).hash, hash);
    node.mempool().invariants();
    template
}

fn spend(outpoint: OutPoint, value: u64) -> Arc<Transaction> {
    let input = TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[0x51]]),
    };
    let output = vec![TxOut { value: Amount::from_sat(value), script_pubkey: anybody() }];
    Arc::new(Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output })
}

fn send(node: &mut Node, tx: &Arc<Transaction>) -> Txid {
    node.on_transaction(tx.clone(), AcceptOptions::default()).expect("a disk in memory").expect("it is good");
    tx.compute_txid()
}

#[test]
fn blocks_have_what_pays_most_and_pay_it_out() {
    let mut node = node();
    let first = mine(&mut node);
    assert_eq!(first.block.txdata[0].input[0].script_sig.as_bytes(), [0x51, 0]);
    assert_eq!(first.block.txdata[0].lock_time.to_consensus_u32(), 0);
    let second = mine(&mut node);
    for _ in 0..100 {
        mine(&mut node);
    }
    let reward = first.value.to_sat();
    assert_eq!(reward, 50 * 100_000_000);
    let [one, two] = [first, second].map(|template| OutPoint::new(template.block.txdata[0].compute_txid(), 0));
    let parent = spend(one, reward - 1_000);
    let child = spend(OutPoint::new(parent.compute_txid(), 0), reward - 50_000);
    let other = spend(two, reward - 5_000);
    let [parent, child, other] = [&parent, &child, &other].map(|tx| send(&mut node, tx));
    let narrow = TemplateOptions { reserved_weight: 2_000, weight_max: 3_000, ..options() };
    let narrow = assemble(node.chain(), node.mempool(), NOW, &narrow).expect("a disk in memory");
    assert_eq!(narrow.block.txdata.len(), 3, "a chunk that fits, and not the rest");
    let picky = TemplateOptions { fee_rate_min: 100_000, ..options() };
    let picky = assemble(node.chain(), node.mempool(), NOW, &picky).expect("a disk in memory");
    assert_eq!(picky.fees, [-50_000, 1_000, 49_000]);
    let mut by_hand = assemble(node.chain(), node.mempool(), NOW, &TemplateOptions { use_mempool: false, ..options() });
    let by_hand = &mut by_hand.as_mut().expect("a disk in memory").block;
    by_hand.txdata.push((*spend(two, reward)).clone());
    let judge = |node: &mut Node, block: &Block| {
        let judged = node.chain_mut().check_template(&Arc::new(block.clone()), NOW as u32, false, true);
        judged.expect("a disk in memory").map_err(|reject| reject.reason)
    };
    assert_eq!(judge(&mut node, by_hand), Err("bad-txnmrklroot".into()));
    commit_anew(by_hand);
    assert_eq!(judge(&mut node, by_hand), Ok(()));
    let template = mine(&mut node);
    let txids: Vec<Txid> = template.block.txdata[1..].iter().map(|tx| tx.compute_txid()).collect();
    assert_eq!(txids, [parent, child, other]);
    assert_eq!((template.fees[0], template.value.to_sat()), (-55_000, reward + 55_000));
    assert_eq!((template.height, template.sigops.len()), (103, 4));
    assert!(node.mempool().is_empty());
    assert_eq!(template.witness_commitment, template.block.txdata[0].output[1].script_pubkey);
}

#[test]
fn a_lost_block_s_transactions_wait_again() {
    let mut node = node();
    let first = mine(&mut node);
    for _ in 0..100 {
        mine(&mut node);
    }
    let outpoint = OutPoint::new(first.block.txdata[0].compute_txid(), 0);
    let txid = send(&mut node, &spend(outpoint, first.value.to_sat() - 1_000));
    mine(&mut node);
    assert!(node.mempool().is_empty());
    node.invalidate(node.chain().tip()).expect("a disk in memory");
    assert!(node.mempool().get(&txid).is_some());
    node.invalidate(node.chain().tip()).expect("a disk in memory");
    assert!(node.mempool().get(&txid).is_some());
    // One block more, and the reward is not ripe any more.
    node.invalidate(node.chain().tip()).expect("a disk in memory");
    assert!(node.mempool().is_empty());
}

#[test]
fn versions_stand_for_what_may_come() {
    let mut node = node();
    let mut versions = Vec::new();
    while versions.len() < 440 {
        versions.push(mine(&mut node).block.header.version.to_consensus());
    }
    let (chain, tip) = (node.chain(), node.chain().tip());
    let [dummy] = signal::deployments(chain.params());
    let changes: Vec<usize> =
        (1..versions.len()).filter(|at| versions[*at] != versions[at - 1]).map(|at| at + 1).collect();
    assert_eq!(changes, [144, 432]);
    assert_eq!((versions[0], versions[200]), (0x2000_0000, 0x3000_0000));
    assert_eq!(dummy.state_after(chain.tree(), tip), signal::State::Active);
    assert_eq!(dummy.since(chain.tree(), tip), 432);
    let in_second = chain.active(200).expect("it is there");
    let count = dummy.count(chain.tree(), in_second);
    assert_eq!((count.signalling.len(), count.count, count.possible), (57, 57, true));
    assert_eq!(dummy.since(chain.tree(), in_second), 144);
}

#[test]
fn time_does_not_go_back() {
    let mut node = node();
    for _ in 0..12 {
        mine(&mut node);
    }
    let median = node.chain().tree().median_time_past(node.chain().tip());
    let early = assemble(node.chain(), node.mempool(), 5, &options()).expect("a disk in memory");
    assert_eq!(early.block.header.time, median + 1);
    let mut header = early.block.header;
    update_time(node.chain(), &mut header, NOW + 9);
    assert_eq!(u64::from(header.time), NOW + 9);
    update_time(node.chain(), &mut header, NOW);
    assert_eq!(u64::from(header.time), NOW + 9);
}
