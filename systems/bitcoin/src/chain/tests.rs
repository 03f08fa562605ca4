//! Whole chains: grown at random, reorganised, cut off, and compared with what their blocks say from the beginning.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Block, Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::transaction;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness};
use fastrand::Rng;
use verity_nakamoto::has_work;
use verity_storage::disk::Crash;
use verity_storage::{Disk, MemoryDisk};

use super::*;

const NOW: u32 = 1_700_000_000;

/// Anybody may spend it.
fn anyone() -> ScriptBuf {
    Builder::new().push_int(1).into_script()
}

fn spend(from: &[OutPoint], values: &[u64]) -> Transaction {
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = |value: &u64| TxOut { value: Amount::from_sat(*value), script_pubkey: anyone() };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: from.iter().map(input).collect(),
        output: values.iter().map(output).collect(),
    }
}

/// A block upon another, with its work; `mark` tells those apart that hold the same.
fn mined(params: &Params, prev: &Header, height: u32, mark: u32, txs: &[Transaction]) -> Arc<Block> {
    let coinbase = Transaction {
        input: vec![TxIn {
            script_sig: [height_push(height), mark.to_le_bytes().to_vec()].concat().into(),
            ..spend(&[OutPoint::null()], &[]).input[0].clone()
        }],
        ..spend(&[], &[params.subsidy(height)])
    };
    let txdata: Vec<Transaction> = std::iter::once(coinbase).chain(txs.iter().cloned()).collect();
    remined(
        params,
        Block {
            header: Header {
                version: Version::from_consensus(0x2000_0000),
                prev_blockhash: prev.block_hash(),
                merkle_root: TxMerkleNode::all_zeros(),
                time: prev.time + 1,
                bits: prev.bits,
                nonce: 0,
            },
            txdata,
        },
    )
}

/// The block with the root of what it holds, and work.
fn remined(params: &Params, mut block: Block) -> Arc<Block> {
    let txids = block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array());
    block.header.merkle_root = TxMerkleNode::from_byte_array(merkle::root(txids.collect()).0);
    while !has_work(block.block_hash(), block.header.bits, params.headers.pow.limit) {
        block.header.nonce += 1;
    }
    Arc::new(block)
}

struct World {
    disk: MemoryDisk,
    chain: Chain,
    /// All blocks that were made, with their parents and whether they hold.
    blocks: BTreeMap<BlockHash, (Arc<Block>, u32, bool)>,
    marks: u32,
    rng: Rng,
}

fn open(disk: &MemoryDisk) -> Chain {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut params = Params::regtest();
    params.halving_interval = 1_000;
    let mut chain = Chain::open(&disk, params, ChainConfig::default()).expect("it holds together");
    chain.activate(&mut Vec::new()).expect("a disk in memory");
    chain
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::new();
        let chain = open(&disk);
        let genesis = Arc::new(chain.params().genesis.clone());
        let blocks = BTreeMap::from([(genesis.block_hash(), (genesis, 0, true))]);
        Self { disk, chain, blocks, marks: 0, rng: Rng::with_seed(seed) }
    }

    /// The coins of a block's chain, by what its blocks say.
    fn coins_of(&self, tip: BlockHash) -> BTreeMap<OutPoint, Coin> {
        let mut chain = Vec::new();
        let mut at = tip;
        while let Some((block, height, _)) = self.blocks.get(&at).filter(|(_, height, _)| *height > 0) {
            chain.push((block, *height));
            at = block.header.prev_blockhash;
        }
        let mut coins = BTreeMap::new();
        for (block, height) in chain.into_iter().rev() {
            for (at, tx) in block.txdata.iter().enumerate() {
                tx.input.iter().for_each(|input| {
                    coins.remove(&input.previous_output);
                });
                for (vout, output) in tx.output.iter().enumerate() {
                    let coin = Coin { out: output.clone(), height, coinbase: at == 0 };
                    coins.insert(OutPoint::new(tx.compute_txid(), vout as u32), coin);
                }
            }
        }
        coins
    }

    /// Makes a block upon another, which spends some of what is ripe there. One in sixteen spends too much.
    fn make(&mut self, prev: BlockHash) -> Arc<Block> {
        self.marks += 1;
        let (below, height, holds) = self.blocks[&prev].clone();
        let coins = self.coins_of(prev);
        let ripe: Vec<(OutPoint, u64)> = coins
            .iter()
            .filter(|(_, coin)| !coin.coinbase || height + 1 >= coin.height + 100)
            .map(|(outpoint, coin)| (*outpoint, coin.out.value.to_sat()))
            .collect();
        let (mut txs, mut bad) = (Vec::new(), false);
        if !ripe.is_empty() {
            let (outpoint, value) = ripe[self.rng.usize(..ripe.len())];
            bad = self.rng.u8(..16) == 0;
            let parent = spend(&[outpoint], &[value / 2 + u64::from(bad) * value, value / 3]);
            // And what spends it in the same block.
            if self.rng.bool() {
                txs.push(spend(&[OutPoint::new(parent.compute_txid(), 1)], &[value / 4]));
            }
            txs.insert(0, parent);
        }
        let params = self.chain.params().clone();
        let block = mined(&params, &below.header, height + 1, self.marks, &txs);
        self.blocks.insert(block.block_hash(), (Arc::clone(&block), height + 1, holds && !bad));
        block
    }

    fn check(&mut self) {
        self.chain.invariants();
        let tip = self.chain.entry(self.chain.tip()).hash;
        let (_, height, holds) = self.blocks[&tip];
        assert!(holds, "the chain holds");
        let had =
            |hash: &BlockHash| self.chain.tree().find(hash).is_some_and(|id| self.chain.entry(id).chain_tx_count > 0);
        let best =
            self.blocks.iter().filter(|(hash, (.., holds))| *holds && had(hash)).map(|(_, (_, height, _))| *height);
        assert_eq!(best.max(), Some(height), "it is the best of what was had");
        let mut coins = BTreeMap::new();
        self.chain
            .each_coin(&mut |outpoint, coin| {
                coins.insert(*outpoint, coin.clone());
            })
            .expect("a disk in memory");
        assert_eq!(coins, self.coins_of(tip), "coins are what the blocks left");
    }
}

/// Blocks come in any order, good and bad, upon any of the last; the power fails anywhere. What is left is always a chain that
/// holds, with the coins that it left.
#[test]
fn coins_are_what_the_blocks_left() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        let mut tip = world.chain.params().genesis.block_hash();
        let mut events = Vec::new();
        for _ in 0..101 {
            let block = world.make(tip);
            tip = block.block_hash();
            world.chain.accept_block(&block, NOW, true, &mut events).expect("a disk").expect("it holds");
        }
        world.chain.flush().expect("a disk");
        for step in 0..60 {
            let recent: Vec<BlockHash> = {
                let height = world.chain.height();
                // A crash loses what was not flushed, and then nobody knows it.
                let known = |hash: &BlockHash| world.chain.tree().find(hash).is_some();
                let near = |hash: &BlockHash, at: u32| at + 6 >= height && known(hash);
                let all = world.blocks.iter().filter(|(hash, (_, at, _))| near(hash, *at));
                all.map(|(hash, _)| *hash).collect()
            };
            let prev = recent[world.rng.usize(..recent.len())];
            let block = world.make(prev);
            let result = world.chain.accept_block(&block, NOW, true, &mut events).expect("a disk");
            assert!(result.is_ok() || !world.blocks[&prev].2, "{result:?}");
            match world.rng.u8(..10) {
                0 => world.chain.flush().expect("a disk"),
                1 => {
                    let kinds = [Crash::LoseAll, Crash::KeepAll, Crash::Prefix(seed), Crash::Subset(seed)];
                    world.disk.crash(kinds[step % kinds.len()]);
                    drop(std::mem::replace(&mut world.chain, open(&MemoryDisk::new())));
                    world.chain = open(&world.disk);
                }
                2 => world.check(),
                _ => {}
            }
        }
        world.check();
    }
}

/// The disk is full in the middle of a block: nothing of that reaches it, and with more room the chain goes on from there.
#[test]
fn a_block_that_is_applied_in_part_is_never_kept() {
    let mut broke = 0;
    for room in (0..600).step_by(12) {
        let mut world = World::new(room);
        for _ in 0..4 {
            let block = world.make(world.chain.entry(world.chain.tip()).hash);
            let taken = world.chain.accept_block(&block, NOW, true, &mut Vec::new());
            assert_eq!(taken.expect("there is room"), Ok(true));
        }
        world.chain.flush().expect("there is room");
        let block = world.make(world.chain.entry(world.chain.tip()).hash);
        world.disk.set_size_max(Some(world.disk.used() + room));
        let taken = world.chain.accept_block(&block, NOW, true, &mut Vec::new());
        world.disk.set_size_max(None);
        let flushed = world.chain.flush();
        assert!(taken.is_err() || flushed.is_ok(), "what was taken is kept");
        broke += u32::from(flushed.is_err());
        drop(std::mem::replace(&mut world.chain, open(&MemoryDisk::new())));
        world.chain = open(&world.disk);
        for id in world.chain.tree().ids().skip(1).filter(|id| world.chain.is_active(*id)) {
            let undo = world.chain.undo(id).expect("a disk in memory");
            assert!(undo.is_some(), "what a block spent is known");
        }
        world.check();
    }
    assert!(broke > 0, "some blocks were applied in part");
}

fn pruning(disk: &MemoryDisk, prune: Option<Prune>) -> Result<Chain, ChainError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut chain =
        Chain::open(&disk, Params::regtest(), ChainConfig { prune, small_files: true, ..ChainConfig::default() })?;
    chain.activate(&mut Vec::new())?;
    Ok(chain)
}

/// Blocks go by files, below the last that are kept; the power fails before, in between and after; the chain goes on.
#[test]
fn old_blocks_go_and_the_chain_goes_on() {
    for seed in 0..6u64 {
        let disk = MemoryDisk::new();
        let mut chain = pruning(&disk, Some(Prune::ByHand)).expect("it begins");
        let params = chain.params().clone();
        let mut events = Vec::new();
        let mut grow = |chain: &mut Chain, count: u32| {
            for _ in 0..count {
                let below = chain.entry(chain.tip());
                let block = mined(&params, &below.header, below.height + 1, seed as u32, &[]);
                assert_eq!(chain.accept_block(&block, NOW, true, &mut events).expect("a disk"), Ok(true));
                events.clear();
            }
        };
        grow(&mut chain, 900);
        let first = chain.active(1).expect("it is there");
        chain.prune_up_to(0).expect("a disk");
        chain.hold_pruning_at(Some(20));
        chain.prune_up_to(900).expect("a disk");
        assert_eq!(chain.pruned_height(), None, "an index still needs it");
        chain.hold_pruning_at(None);
        chain.prune_up_to(900).expect("a disk");
        let pruned = chain.pruned_height().expect("whole files are low enough");
        assert!((1..=900 - KEPT).contains(&pruned), "{pruned}");
        assert!(chain.is_pruned(first) && chain.block(first).expect("a disk").is_none());
        assert!(chain.block(BlockId::GENESIS).expect("a disk").is_some());
        grow(&mut chain, 1 + seed as u32);
        let kinds = [Crash::LoseAll, Crash::KeepAll, Crash::Prefix(seed), Crash::Subset(seed)];
        drop(chain);
        disk.crash(kinds[seed as usize % kinds.len()]);
        let words = pruning(&disk, None).expect_err("blocks are missing").to_string();
        assert!(words.starts_with("You need to rebuild the database using -reindex to go back to unpruned mode."));
        let mut chain = pruning(&disk, Some(Prune::ByHand)).expect("it holds together");
        chain.invariants();
        assert!(chain.height() >= 900 && chain.pruned_height() == Some(pruned));
        assert!(
            !disk.exists("blocks/blk00000.dat").expect("a disk")
                && !disk.exists("blocks/rev00000.dat").expect("a disk")
        );
        grow(&mut chain, 5);
        // As many as are kept can be undone.
        let back = chain.active(chain.height() - KEPT + 1).expect("it is there");
        chain.invalidate(back, &mut Vec::new()).expect("a disk");
        chain.reconsider(back, &mut Vec::new()).expect("a disk");
        chain.flush().expect("a disk");
    }
}

/// Blocks of two branches, out of order, are found in their files again; the power fails anywhere in between.
#[test]
fn the_files_alone_make_the_chain_anew() {
    let mut world = World::new(3);
    let (mut tip, mut events, mut blocks) = (world.chain.params().genesis.block_hash(), Vec::new(), Vec::new());
    for _ in 0..130 {
        let block = world.make(tip);
        if world.blocks[&block.block_hash()].2 {
            tip = block.block_hash();
            blocks.push(block);
        }
    }
    for two in blocks.chunks(2) {
        for header in two {
            world.chain.accept_header(&header.header, NOW).expect("it keeps the rules");
        }
        for block in two.iter().rev() {
            world.chain.accept_block(block, NOW, true, &mut events).expect("a disk").expect("it holds");
        }
    }
    let side = world.make(blocks[blocks.len() - 3].block_hash());
    world.chain.accept_block(&side, NOW, true, &mut events).expect("a disk").expect("it is taken");
    world.check();
    world.chain.flush().expect("a disk");
    let params = world.chain.params().clone();
    let anew = |disk: &MemoryDisk, reindex, ends_at: usize| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (params, mut lines) = (params.clone(), Vec::new());
        let chain =
            Chain::open_telling(&disk, params, ChainConfig { reindex, ..ChainConfig::default() }, &mut |line| {
                assert!(lines.len() < ends_at, "the process ends here");
                lines.push(line.to_owned());
            });
        (chain.expect("it holds together"), lines)
    };
    let disk = world.disk.clone();
    drop(std::mem::replace(&mut world.chain, open(&MemoryDisk::new())));
    for ends_at in 0..4 {
        for kind in [Crash::LoseAll, Crash::KeepAll, Crash::Subset(ends_at as u64)] {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                drop(anew(&disk, Some(Reindex::All), ends_at));
            }));
            assert_eq!(ended.is_err(), ends_at < 3);
            disk.crash(kind);
            let (chain, lines) = anew(&disk, None, usize::MAX);
            assert_eq!(lines.is_empty(), ends_at >= 3, "{lines:?}");
            assert_eq!(chain.entry(chain.tip()).hash, tip);
            world.chain = chain;
            world.check();
            drop(std::mem::replace(&mut world.chain, open(&MemoryDisk::new())));
        }
    }
    let (chain, lines) = anew(&disk, Some(Reindex::Coins), usize::MAX);
    assert_eq!(lines.len(), 1, "coins alone are made: {lines:?}");
    world.chain = chain;
    world.check();
    assert_eq!(world.chain.tree().find(&side.block_hash()).map(|id| world.chain.entry(id).has_data), Some(true));
}

#[test]
fn a_block_is_refused_in_the_networks_words() {
    let mut world = World::new(1);
    let params = world.chain.params().clone();
    let mut prev = params.genesis.header;
    let mut events = Vec::new();
    let mut first = None;
    for height in 1..=101 {
        let block = mined(&params, &prev, height, 0, &[]);
        prev = block.header;
        first = first.or(Some(Arc::clone(&block)));
        assert_eq!(world.chain.accept_block(&block, NOW, true, &mut events).expect("a disk"), Ok(true));
    }
    let coin = OutPoint::new(first.expect("it is there").txdata[0].compute_txid(), 0);
    let value = params.subsidy(1);
    let good = mined(&params, &prev, 102, 0, &[spend(&[coin], &[value])]);
    let said = |block: Block, mine: bool, chain: &mut Chain| {
        let block = if mine { remined(&params, block) } else { Arc::new(block) };
        let mut events = Vec::new();
        match chain.accept_block(&block, NOW, true, &mut events).expect("a disk") {
            Err(reject) => reject.reason,
            Ok(_) => events
                .into_iter()
                .find_map(|event| match event {
                    ChainEvent::Invalid { reject, .. } => Some(reject.reason),
                    _ => None,
                })
                .unwrap_or_default(),
        }
    };
    type Change = fn(&mut Block);
    let changes: [(&str, bool, Change); 12] = [
        ("bad-txnmrklroot", false, |block| block.txdata[1].output.clear()),
        ("bad-txns-duplicate", false, |_| {}),
        ("bad-cb-missing", true, |block| {
            block.txdata.remove(0);
        }),
        ("bad-cb-multiple", true, |block| block.txdata.push(block.txdata[0].clone())),
        ("bad-txns-vout-empty", true, |block| block.txdata[1].output.clear()),
        ("bad-cb-height", true, |block| block.txdata[0].input[0].script_sig = vec![1, 7, 1, 1].into()),
        ("bad-cb-amount", true, |block| block.txdata[0].output[0].value += Amount::from_sat(1)),
        ("bad-txns-in-belowout", true, |block| block.txdata[1].output[0].value += Amount::from_sat(1)),
        ("bad-txns-inputs-missingorspent", true, |block| block.txdata[1].input[0].previous_output.vout = 1),
        ("unexpected-witness", true, |block| block.txdata[1].input[0].witness.push([1])),
        ("time-too-old", true, |block| block.header.time -= 10),
        ("bad-blk-sigops", true, |block| block.txdata[0].output[0].script_pubkey = vec![0xac; 20_001].into()),
    ];
    for (reason, mine, change) in changes {
        let mut block = good.as_ref().clone();
        if reason == "bad-txns-duplicate" {
            block.txdata.push(spend(&[OutPoint::new(block.txdata[1].compute_txid(), 0)], &[value]));
            block = remined(&params, block).as_ref().clone();
            block.txdata.push(block.txdata[2].clone());
        }
        change(&mut block);
        assert_eq!(said(block, mine, &mut world.chain), reason);
    }
    let twice = spend(&[coin, coin], &[value]);
    assert_eq!(
        said(mined(&params, &prev, 102, 5, &[twice]).as_ref().clone(), false, &mut world.chain),
        "bad-txns-inputs-duplicate"
    );
    let young =
        OutPoint::new(world.chain.block(world.chain.tip()).expect("a disk").expect("had").txdata[0].compute_txid(), 0);
    let young = mined(&params, &prev, 102, 6, &[spend(&[young], &[1])]).as_ref().clone();
    assert_eq!(said(young, false, &mut world.chain), "bad-txns-premature-spend-of-coinbase");
    assert_eq!(said(good.as_ref().clone(), false, &mut world.chain), "");
    assert_eq!(world.chain.height(), 102);
    let locked = spend(&[OutPoint::new(good.txdata[1].compute_txid(), 0)], &[1]);
    let closed = TxOut { value: Amount::from_sat(1), script_pubkey: vec![0x51, 0x69, 0x00].into() };
    let closes = Transaction { output: vec![closed], ..locked };
    let opens = spend(&[OutPoint::new(closes.compute_txid(), 0)], &[1]);
    let reason = said(mined(&params, &good.header, 103, 7, &[closes, opens]).as_ref().clone(), false, &mut world.chain);
    let words = "Script evaluated without error but finished with a false/empty top stack element";
    assert_eq!(reason, format!("block-script-verify-flag-failed ({words})"));
    assert_eq!(world.chain.height(), 102);
}

#[test]
fn equal_neighbours_and_stray_witnesses_are_mutations() {
    let params = Params::regtest();
    let txs = [1, 2].map(|byte| spend(&[OutPoint::new(bitcoin::Txid::from_byte_array([byte; 32]), 0)], &[1]));
    let good = Block::clone(&mined(&params, &params.genesis.header, 1, 1, &txs));
    assert_eq!(mutation(&good, true), None);
    let mut doubled = good.clone();
    doubled.txdata.push(doubled.txdata[2].clone());
    assert_eq!(doubled.compute_merkle_root(), good.compute_merkle_root());
    assert_eq!(mutation(&doubled, true).as_deref(), Some("bad-txns-duplicate, duplicate transaction"));
    let mut other = good.clone();
    other.txdata.swap(1, 2);
    assert_eq!(mutation(&other, true).as_deref(), Some("bad-txnmrklroot, hashMerkleRoot mismatch"));
    let mut stray = good;
    stray.txdata[1].input[0].witness = Witness::from_slice(&[[1]]);
    let why = "unexpected-witness, CheckWitnessMalleation : unexpected witness data found";
    assert_eq!(mutation(&stray, true).as_deref(), Some(why));
}

#[test]
fn without_its_index_no_block_is_thrown_away() {
    let disk = MemoryDisk::new();
    let mut chain = open(&disk);
    let genesis = chain.entry(chain.tip()).header;
    let block = mined(chain.params(), &genesis, 1, 0, &[]);
    chain.accept_block(&block, NOW, true, &mut Vec::new()).expect("a disk").expect("it holds");
    chain.flush().expect("a disk");
    drop(chain);
    let dynamic: Arc<dyn Disk> = Arc::new(disk);
    dynamic.remove(super::store::INDEX_FILE).expect("it is there");
    let open = |config| Chain::open(&dynamic, Params::regtest(), config);
    let refused = open(ChainConfig::default()).expect_err("blocks without an index");
    assert!(matches!(refused, ChainError::Rebuild(_)), "{refused}");
    assert!(refused.to_string().ends_with("Please restart with -reindex or -reindex-chainstate to recover."));
    let chain = open(ChainConfig { reindex: Some(Reindex::All), ..ChainConfig::default() }).expect("it is made anew");
    assert_eq!(chain.height(), 1);
}
