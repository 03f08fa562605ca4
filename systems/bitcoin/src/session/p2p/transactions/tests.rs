//! Requests and orphans by themselves.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use proptest::collection::vec;
use proptest::prelude::*;

use super::orphans::Orphans;
use super::requests::{Request, Requests};

const KEYS: (u64, u64) = (1, 2);

fn hash(byte: u8) -> [u8; 32] {
    [byte; 32]
}

fn wtx(byte: u8) -> Request {
    Request { hash: hash(byte), wtxid: true }
}

fn ask(requests: &mut Requests, peer: u64, now: u64) -> Vec<u8> {
    let list = requests.requestable(peer, now, &mut Vec::new());
    list.iter().map(|request| request.hash[0]).collect()
}

#[test]
fn the_preferred_come_first_and_one_is_asked_at_a_time() {
    let mut requests = Requests::new(KEYS);
    requests.announce(1, wtx(9), false, 0);
    requests.announce(2, wtx(9), true, 5);
    assert_eq!(ask(&mut requests, 1, 4), [9]);
    assert_eq!(ask(&mut requests, 1, 5), [0_u8; 0]);
    assert_eq!(ask(&mut requests, 2, 5), [9]);
    requests.requested(2, &hash(9), 60);
    assert_eq!((requests.in_flight(2), ask(&mut requests, 1, 10)), (1, vec![]));
    requests.answered(2, &hash(9));
    assert_eq!((requests.in_flight(2), ask(&mut requests, 1, 10)), (0, vec![9]));
    requests.invariants();
}

#[test]
fn a_request_grows_old_and_the_next_is_asked() {
    let mut requests = Requests::new(KEYS);
    requests.announce(1, wtx(9), true, 0);
    requests.announce(2, wtx(9), true, 0);
    let first = if ask(&mut requests, 1, 0) == [9] { 1 } else { 2 };
    requests.requested(first, &hash(9), 60);
    let mut expired = Vec::new();
    assert_eq!(requests.requestable(3 - first, 60, &mut expired).len(), 1);
    assert_eq!(expired, [(first, wtx(9))]);
    requests.requested(3 - first, &hash(9), 120);
    requests.disconnected(3 - first);
    assert_eq!((requests.count(1), requests.count(2)), (0, 0), "nobody is left to be asked");
    requests.invariants();
}

#[test]
fn requests_go_by_the_order_of_announcements() {
    let mut requests = Requests::new(KEYS);
    [5, 3, 4].iter().for_each(|byte| requests.announce(1, wtx(*byte), true, 0));
    assert_eq!(ask(&mut requests, 1, 0), [5, 3, 4]);
    requests.forget(&hash(3));
    assert_eq!(ask(&mut requests, 1, 0), [5, 4]);
}

proptest! {
    #[test]
    fn requests_keep_their_books(steps in vec((0..6_u8, 0..4_u64, 0..5_u8, 0..30_u64), 0..200)) {
        let (mut requests, mut now) = (Requests::new(KEYS), 0);
        for (kind, peer, byte, span) in steps {
            match kind {
                0 | 1 => requests.announce(peer, wtx(byte), kind == 1, now + span),
                2 => {
                    now += span;
                    for request in requests.requestable(peer, now, &mut Vec::new()) {
                        requests.requested(peer, &request.hash, now + 20);
                    }
                }
                3 => requests.answered(peer, &hash(byte)),
                4 => requests.forget(&hash(byte)),
                _ => requests.disconnected(peer),
            }
            requests.invariants();
        }
    }
}

fn orphan(parent: u8, vout: u32, inputs: usize, size: usize) -> Arc<Transaction> {
    let input = |index: usize| TxIn {
        previous_output: OutPoint::new(Txid::from_byte_array([parent; 32]), vout + index as u32),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Arc::new(Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0..inputs).map(input).collect(),
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::from(vec![0x6a; size]) }],
    })
}

#[test]
fn a_flood_of_one_peer_costs_no_other() {
    let mut orphans = Orphans::default();
    let mine = orphan(1, 0, 1, 10);
    orphans.add(&mine, 7);
    for vout in 0..4_000 {
        orphans.add(&orphan(2, vout, 1, 10), 8);
        assert!(orphans.has_from(&mine.compute_wtxid(), 7));
    }
    orphans.invariants();
    for vout in 0..40 {
        orphans.add(&orphan(3, vout, 1, 90_000), 9);
        assert!(orphans.has_from(&mine.compute_wtxid(), 7));
    }
    orphans.invariants();
    assert!(!orphans.add(&orphan(4, 0, 1, 100_000), 9), "heavier than what is relayed");
}

#[test]
fn children_are_tried_again_by_one_who_announced_them() {
    let parent = orphan(1, 0, 1, 10);
    let mut child = Arc::unwrap_or_clone(orphan(2, 0, 1, 10));
    child.input[0].previous_output = OutPoint::new(parent.compute_txid(), 0);
    let child = Arc::new(child);
    let mut orphans = Orphans::default();
    assert!(orphans.add(&child, 1));
    assert!(!orphans.add(&child, 2), "it is there, by another");
    assert_eq!(orphans.children(&parent.compute_txid(), 2), [Arc::clone(&child)]);
    orphans.on_parent(&parent, |count| count - 1);
    orphans.invariants();
    assert!(orphans.has_again(2) && !orphans.has_again(1));
    assert_eq!(orphans.take_again(2), Some(Arc::clone(&child)));
    assert_eq!(orphans.take_again(2), None);
    assert_eq!(orphans.list(), [(Arc::clone(&child), vec![1, 2])]);
    orphans.erase_peer(1);
    assert!(orphans.has(&child.compute_wtxid()));
    let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    block.txdata.push((*child).clone());
    orphans.on_block(&block);
    assert!(!orphans.has(&child.compute_wtxid()));
    orphans.invariants();
}

proptest! {
    #[test]
    fn orphans_keep_their_books(steps in vec((0..6_u8, 0..4_u64, 0..8_u32, 0..30_usize), 0..150)) {
        let mut orphans = Orphans::default();
        for (kind, peer, vout, inputs) in steps {
            let tx = orphan(1, vout, inputs + 1, inputs * 1_000);
            match kind {
                0..=2 => { orphans.add(&tx, peer); }
                3 => { orphans.erase(&tx.compute_wtxid()); }
                4 => { orphans.erase_peer(peer); }
                _ => { orphans.take_again(peer); }
            }
            orphans.invariants();
        }
    }
}
