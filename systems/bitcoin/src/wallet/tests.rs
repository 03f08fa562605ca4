//! Wallets as they are written down, and what they make of blocks, without clients.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Block, Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Witness, transaction,
};
use proptest::prelude::*;
use verity_storage::disk::Crash;
use verity_storage::{Disk, MemoryDisk};

use super::coins::Asked;
use super::file::{self, FileError};
use super::*;

const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];
const NOW: u64 = 1_700_000_000;

fn wallet() -> Wallet {
    let genesis = (BlockHash::from_byte_array([1; 32]), 0);
    let mut wallet = Wallet::new("w", Network::Regtest, Flags::default(), genesis, 3);
    wallet.add_standard(&mut Entropy::new([9; 32]), NOW);
    wallet.derive();
    wallet
}

fn input(outpoint: OutPoint) -> TxIn {
    TxIn { previous_output: outpoint, script_sig: ScriptBuf::new(), sequence: Sequence::MAX, witness: Witness::new() }
}

fn pay(from: OutPoint, to: &[(&ScriptBuf, u64)]) -> Transaction {
    let output = |(script, value): &(&ScriptBuf, u64)| TxOut {
        value: Amount::from_sat(*value),
        script_pubkey: (*script).clone(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input(from)],
        output: to.iter().map(output).collect(),
    }
}

fn elsewhere(mark: u8) -> OutPoint {
    OutPoint { txid: bitcoin::Txid::from_byte_array([mark; 32]), vout: 0 }
}

fn block(prev: BlockHash, mark: u32, txs: &[Transaction]) -> Block {
    Block {
        header: Header {
            version: Version::ONE,
            prev_blockhash: prev,
            merkle_root: TxMerkleNode::all_zeros(),
            time: u32::try_from(NOW).expect("it fits"),
            bits: CompactTarget::from_consensus(0),
            nonce: mark,
        },
        txdata: txs.to_vec(),
    }
}

fn connect(wallet: &mut Wallet, mark: u32, txs: &[Transaction]) -> Block {
    let block = block(wallet.best.0, mark, txs);
    let height = wallet.best.1 + 1;
    wallet.on_connected(block.block_hash(), height, &block, NOW);
    wallet.invariants();
    block
}

fn disconnect(wallet: &mut Wallet, block: &Block) {
    let height = wallet.best.1;
    wallet.on_disconnected(block.block_hash(), height, block);
    wallet.invariants();
}

fn address(wallet: &mut Wallet, internal: bool) -> ScriptBuf {
    let at = wallet.active("bech32", internal).expect("a usual source");
    let script = wallet.give_out(at).expect("it is derived");
    if !internal {
        wallet.book.insert(script.clone(), Named { label: "l".into(), receive: true });
    }
    script
}

#[test]
fn a_rival_in_a_block_wins_until_the_block_is_undone() {
    let mut wallet = wallet();
    let own = address(&mut wallet, false);
    let change = address(&mut wallet, true);
    let funding = pay(elsewhere(1), &[(&own, 1_000)]);
    connect(&mut wallet, 1, std::slice::from_ref(&funding));
    let coin = OutPoint { txid: funding.compute_txid(), vout: 0 };
    let first = pay(coin, &[(&change, 900)]);
    let child = pay(OutPoint { txid: first.compute_txid(), vout: 0 }, &[(&change, 800)]);
    wallet.on_added(&Arc::new(first.clone()), NOW);
    wallet.on_added(&Arc::new(child.clone()), NOW);
    assert_eq!(wallet.balance(0, false).trusted, 800);
    let rival = pay(coin, &[(&own, 700)]);
    let lost = connect(&mut wallet, 2, std::slice::from_ref(&rival));
    assert_eq!(wallet.balance(0, false).trusted, 700);
    for tx in [&first, &child] {
        assert_eq!(wallet.records[&tx.compute_txid()].depth(wallet.tip()), -1);
    }
    disconnect(&mut wallet, &lost);
    assert_eq!(wallet.records[&child.compute_txid()].place, Place::Nowhere { abandoned: false });
    // Neither counts now, and both are taken to spend.
    assert_eq!(wallet.balance(0, false).trusted, 0);
    assert!(wallet.abandon(&first.compute_txid()) && wallet.abandon(&rival.compute_txid()));
    assert_eq!(wallet.balance(0, false).trusted, 1_000);
    assert_eq!(wallet.coins(Asked::default()).len(), 1);
}

#[test]
fn an_address_beyond_the_next_is_found_and_watched_on() {
    let mut wallet = wallet();
    let at = wallet.active("bech32m", false).expect("a usual source");
    let script = wallet.sources[at].expand(2, &mut crate::session::rpc::descriptor::Known::default());
    let script = script.expect("it is derived").remove(0);
    connect(&mut wallet, 1, &[pay(elsewhere(1), &[(&script, 5)])]);
    assert_eq!(wallet.sources[at].next, 3);
    assert_eq!(wallet.sources[at].end, 6);
    assert_eq!(wallet.label(&script), Some(""));
}

#[test]
fn a_file_comes_back_as_it_was() {
    let mut wallet = wallet();
    let own = address(&mut wallet, false);
    let funding = pay(elsewhere(1), &[(&own, 1_000), (&own, 2_000)]);
    connect(&mut wallet, 1, std::slice::from_ref(&funding));
    wallet.locked.insert(OutPoint { txid: funding.compute_txid(), vout: 1 }, true);
    wallet.encrypt("word", &mut Entropy::new([8; 32]));
    let bytes = file::encode(&wallet, MAGIC);
    let mut back = file::decode(&bytes, "w", Network::Regtest, MAGIC, 3).expect("it is whole");
    assert_eq!(file::encode(&back, MAGIC), bytes);
    assert_eq!(back.balance(0, false), wallet.balance(0, false));
    assert!(back.is_locked() && !back.unlock("ward") && back.unlock("word"));
    assert_eq!(file::decode(&bytes, "w", Network::Regtest, [0; 4], 3).expect_err("refused"), FileError::OtherChain);
    for at in 0..bytes.len() {
        assert!(file::decode(&bytes[..at], "w", Network::Regtest, MAGIC, 3).is_err(), "cut at {at}");
    }
}

#[test]
fn a_crash_leaves_the_old_file_or_the_new_one() {
    let mut old = wallet();
    let mut new = old.clone();
    address(&mut new, false);
    old.best.1 = 1;
    let (old, new) = (file::encode(&old, MAGIC), file::encode(&new, MAGIC));
    for seed in 0..64 {
        let disk = MemoryDisk::new();
        disk.create_dir("wallets/w").expect("a disk in memory");
        file::write(&disk, "wallets/w", "wallets/w/wallet.dat", &old).expect("a disk in memory");
        // The steps of a write, cut off behind each.
        let steps: [&dyn Fn(); 3] = [
            &|| {
                let file = disk.create("wallets/w/wallet.dat.tmp").expect("a disk in memory");
                file.write_at(0, &new[..new.len() / 2]).expect("a disk in memory");
            },
            &|| {
                let file = disk.create("wallets/w/wallet.dat.tmp").expect("a disk in memory");
                file.write_at(0, &new).expect("a disk in memory");
                file.sync_data().expect("a disk in memory");
                disk.rename("wallets/w/wallet.dat.tmp", "wallets/w/wallet.dat").expect("a disk in memory");
            },
            &|| file::write(&disk, "wallets/w", "wallets/w/wallet.dat", &new).expect("a disk in memory"),
        ];
        let whole = usize::try_from(seed % 3).expect("it is small");
        steps[whole]();
        disk.crash(if seed % 2 == 0 { Crash::LoseAll } else { Crash::Subset(seed) });
        let found = file::read(&disk, "wallets/w/wallet.dat").expect("one of them is there");
        assert!(found == new || (found == old && whole < 2), "step {whole}, seed {seed}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(file::decode(&bytes, "w", Network::Regtest, MAGIC, 3).is_err());
    }

    #[test]
    fn no_body_panics(at in 0_usize..4_000, value: u8) {
        let mut bytes = file::encode(&wallet(), MAGIC);
        let end = bytes.len() - 32;
        let at = at % end;
        bytes[at] = value;
        let sum = bitcoin::hashes::sha256::Hash::hash(&bytes[..end]).to_byte_array();
        bytes[end..].copy_from_slice(&sum);
        // Whatever it says now, it says so or is refused.
        let _ = file::parse(&bytes, "w", Network::Regtest, MAGIC, 3);
    }
}
