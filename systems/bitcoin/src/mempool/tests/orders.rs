//! Whatever comes in whatever order, what is kept is what would be found anew.

use proptest::prelude::*;

use super::*;
use crate::mempool::feerate::improves;

#[derive(Clone, Debug)]
enum Deed {
    /// Spends one or two of what is there, by their places.
    Spend {
        from: Vec<u16>,
        outputs: u8,
        fee: u64,
        version_3: bool,
    },
    Prioritise {
        which: u16,
        delta: i64,
    },
    /// A block with the best of what waits, or with others.
    Block {
        count: u8,
        rival: Option<u16>,
    },
    /// The last blocks are lost.
    Lose {
        count: u8,
    },
    Wait {
        seconds: u64,
    },
}

fn deed() -> impl Strategy<Value = Deed> {
    let spend = (proptest::collection::vec(any::<u16>(), 1..3), 1u8..4, 0u64..20_000, proptest::bool::weighted(0.1))
        .prop_map(|(from, outputs, fee, version_3)| Deed::Spend { from, outputs, fee, version_3 });
    prop_oneof![
        12 => spend,
        1 => (any::<u16>(), -5_000i64..5_000).prop_map(|(which, delta)| Deed::Prioritise { which, delta }),
        2 => (0u8..6, proptest::option::of(any::<u16>())).prop_map(|(count, rival)| Deed::Block { count, rival }),
        2 => (1u8..4).prop_map(|count| Deed::Lose { count }),
        1 => (0u64..400_000).prop_map(|seconds| Deed::Wait { seconds }),
    ]
}

/// All outputs that are known, and what each is worth.
fn outputs(rig: &Rig) -> Vec<(OutPoint, u64)> {
    let chain = rig.world.coins.iter().map(|(outpoint, coin)| (*outpoint, coin.out.value.to_sat()));
    let waiting = rig.pool.entries().flat_map(|entry| {
        (0..).zip(&entry.tx.output).map(|(vout, output)| (out(&entry.tx, vout), output.value.to_sat()))
    });
    chain.chain(waiting).filter(|(_, value)| *value > 30_000).collect()
}

/// The rates of all chunks, the best first; what costs a miner something is left out, since he would leave it, too.
fn rates(rig: &Rig) -> Vec<FeeFraction> {
    rig.pool.chunks().map(|(_, rate, _)| rate).filter(|rate| rate.fee > 0).collect()
}

fn choose<T: Copy>(all: &[T], at: u16) -> Option<T> {
    (!all.is_empty()).then(|| all[usize::from(at) % all.len()])
}

type Blocks = Vec<(Block, BTreeMap<OutPoint, Coin>)>;

fn act(rig: &mut Rig, blocks: &mut Blocks, deed: Deed) {
    match deed {
        Deed::Spend { from, outputs: count, fee, version_3 } => {
            let known = outputs(rig);
            let mut chosen: Vec<_> = from.iter().filter_map(|at| choose(&known, *at)).collect();
            chosen.sort_unstable();
            chosen.dedup();
            let value: u64 = chosen.iter().map(|(_, value)| *value).sum();
            let each = value.saturating_sub(fee) / u64::from(count);
            let outpoints: Vec<OutPoint> = chosen.iter().map(|(outpoint, _)| *outpoint).collect();
            let tx = spend(&outpoints, &vec![each; usize::from(count)]);
            let (before, known) = (rates(rig), rig.events.len());
            let accepted = rig.accept(&if version_3 { truc(&tx) } else { tx });
            let went = rig.events[known..].iter().filter(|event| matches!(event, MempoolEvent::Removed { .. })).count();
            if let Ok(Accepted { replaced, .. }) = accepted
                && !replaced.is_empty()
                && went == replaced.len()
            {
                assert!(improves(&before, &rates(rig)), "a replacement made it worth less");
            }
        }
        Deed::Prioritise { which, delta } => {
            let txids: Vec<Txid> = rig.pool.best_first().map(|(txid, _)| txid).collect();
            if let Some(txid) = choose(&txids, which) {
                rig.pool.prioritise(txid, delta);
                rig.pool.invariants();
            }
        }
        Deed::Block { count, rival } => {
            let best = rig.pool.best_first().take(usize::from(count)).map(|(_, entry)| entry.tx.clone());
            let mut txs: Vec<Arc<Transaction>> = best.collect();
            let spent: Vec<OutPoint> = txs.iter().flat_map(|tx| &tx.input).map(|input| input.previous_output).collect();
            let coins: Vec<OutPoint> =
                rig.world.coins.keys().filter(|outpoint| !spent.contains(outpoint)).copied().collect();
            txs.extend(rival.and_then(|at| choose(&coins, at)).map(|outpoint| spend(&[outpoint], &[40_000])));
            let mut block = block_of(&txs);
            // No two blocks have the same coinbase.
            block.txdata[0].lock_time = LockTime::from_consensus(rig.world.height);
            let undo = rig.connect(&block);
            blocks.push((block, undo));
        }
        Deed::Lose { count } => {
            let mut lost = Vec::new();
            for (block, undo) in (0..count).map_while(|_| blocks.pop()) {
                rig.world.disconnect(&block, undo);
                lost.push(block);
            }
            rig.reorganised(&lost);
        }
        Deed::Wait { seconds } => rig.now += seconds,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_kept_is_what_would_be_found_anew(
        deeds in proptest::collection::vec(deed(), 1..80),
        small in any::<bool>(),
    ) {
        let options = MempoolOptions {
            cluster_count_max: if small { 5 } else { 64 },
            size_max: if small { 30_000 } else { 300_000_000 },
            ..MempoolOptions::default()
        };
        let mut rig = Rig::with(6, options);
        let mut blocks = Blocks::new();
        for deed in deeds {
            act(&mut rig, &mut blocks, deed);
        }
        // Whatever waits could be mined in the order that is kept.
        let mut world = rig.world.clone();
        for (_, entry) in rig.pool.best_first() {
            prop_assert!(entry.tx.input.iter().all(|input| world.coins.contains_key(&input.previous_output)));
            world.connect(&block_of(std::slice::from_ref(&entry.tx)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_a_file_has_it_ends(
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        length in proptest::option::of(any::<u16>()),
    ) {
        use verity_storage::{Disk, MemoryDisk};

        let (mut rig, disk) = (Rig::new(3), MemoryDisk::new());
        let parent = spend(&[World::outpoint(0)], &[COIN - 1_000]);
        rig.take(&parent);
        rig.take(&spend(&[out(&parent, 0)], &[COIN - 9_000]));
        rig.pool.prioritise(World::outpoint(9).txid, 1);
        rig.pool.add_unbroadcast(parent.compute_txid());
        rig.pool.dump(&disk, "mempool.dat", [0; 8]).expect("the disk is good");
        let file = disk.open("mempool.dat").expect("it is there");
        let size = file.size().expect("it is there");
        for (at, byte) in changes {
            file.write_at(u64::from(at) % size, &[byte]).expect("the disk is good");
        }
        if let Some(length) = length {
            file.set_size(u64::from(length) % size).expect("the disk is good");
        }
        let mut other = Rig::new(3);
        let file = (&disk as &dyn Disk, "mempool.dat");
        let loaded = other.pool.load(&other.world, file, NOW, LoadOptions::default(), &mut other.events);
        prop_assert!(loaded.is_ok());
        other.pool.invariants();
    }
}
