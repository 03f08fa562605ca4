//! One transaction after the other.

use verity_storage::MemoryDisk;

use super::*;

#[test]
fn one_comes_in_and_is_told() {
    let mut rig = Rig::new(1);
    let tx = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let accepted = rig.accept(&tx).expect("it is good");
    assert_eq!((accepted.fee.to_sat(), accepted.effective.fee), (1_000, 1_000));
    assert_eq!(accepted.vsize, tx.vsize() as u64);
    assert!(matches!(&rig.events[..], [MempoolEvent::Added { sequence: 1, .. }]));
    assert_eq!(rig.word(&tx), "txn-already-in-mempool");
    assert_eq!(rig.pool.spender(&World::outpoint(0)), Some(tx.compute_txid()));
    assert_eq!(rig.pool.coin(&rig.world, &World::outpoint(0)).expect("in memory"), None);
    let coin = rig.pool.coin(&rig.world, &out(&tx, 0)).expect("in memory").expect("it is there");
    assert_eq!(coin.height, 201);
    assert!(rig.pool.scripts_known_good(tx.compute_wtxid(), MANDATORY_FLAGS));
    assert!(!rig.pool.scripts_known_good(tx.compute_wtxid(), Flags::NONE));
    let mut other = (*tx).clone();
    other.input[0].witness = Witness::new();
    assert_eq!(rig.word(&Arc::new(other)), "txn-same-nonwitness-data-in-mempool");
}

#[test]
fn nothing_is_known_of_what_the_library_did_not_see() {
    let mut rig = Rig::new(11);
    let outpoints: Vec<OutPoint> = (0..11).map(World::outpoint).collect();
    let tx = spend(&outpoints, &[COIN]);
    let options = AcceptOptions { test: true, ..AcceptOptions::default() };
    rig.pool.accept(&rig.world, tx.clone(), NOW, options, &mut rig.events).expect("in memory").expect("it is good");
    assert!(!rig.pool.scripts_known_good(tx.compute_wtxid(), MANDATORY_FLAGS));
    let tx = spend(&outpoints[1..], &[COIN]);
    rig.pool.accept(&rig.world, tx.clone(), NOW, options, &mut rig.events).expect("in memory").expect("it is good");
    assert!(rig.pool.scripts_known_good(tx.compute_wtxid(), MANDATORY_FLAGS));
}

#[test]
fn refusals_have_the_network_s_words() {
    let mut rig = Rig::new(2);
    let good = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let changed = |change: &dyn Fn(&mut Transaction)| {
        let mut tx = (*good).clone();
        change(&mut tx);
        Arc::new(tx)
    };
    assert_eq!(rig.word(&spend(&[World::outpoint(9)], &[1_000])), "bad-txns-inputs-missingorspent");
    assert_eq!(rig.word(&spend(&[World::outpoint(0)], &[COIN + 1])), "bad-txns-in-belowout");
    assert_eq!(rig.word(&spend(&[World::outpoint(0)], &[COIN])), "min relay fee not met");
    assert_eq!(rig.word(&spend(&[World::outpoint(0)], &[COIN - 600, 100])), "dust");
    assert_eq!(rig.word(&changed(&|tx| tx.version = Version(0))), "version");
    assert_eq!(rig.word(&changed(&|tx| tx.lock_time = LockTime::from_consensus(201))), "non-final");
    assert_eq!(rig.word(&changed(&|tx| tx.input[0].sequence = Sequence(200))), "non-BIP68-final");
    let small = changed(&|tx| tx.output[0].script_pubkey = ScriptBuf::from(vec![0x6a]));
    assert_eq!(rig.word(&small), "tx-size-small");
    let stripped = rig.accept(&changed(&|tx| tx.input[0].witness = Witness::new())).expect_err("no witness");
    assert_eq!(stripped.kind, TxRejectKind::WitnessStripped);
    assert_eq!(stripped.reason, "mempool-script-verify-flag-failed (Witness program was passed an empty witness)");
    let wrong = rig.accept(&changed(&|tx| tx.input[0].witness = Witness::from_slice(&[[0x52]]))).expect_err("wrong");
    assert_eq!(wrong.kind, TxRejectKind::NotStandard);
    let debug = format!(" spending {}:0", World::outpoint(0).txid);
    assert!(wrong.debug.starts_with("input 0 of ") && wrong.debug.ends_with(&debug));
    rig.world.coins.get_mut(&World::outpoint(0)).expect("it is there").coinbase = true;
    rig.world.coins.get_mut(&World::outpoint(0)).expect("it is there").height = 102;
    assert_eq!(rig.word(&good), "bad-txns-premature-spend-of-coinbase");
    assert!(rig.pool.is_empty() && rig.events.is_empty());
}

#[test]
fn an_operator_s_bound_on_fees_holds() {
    let mut rig = Rig::new(1);
    let tx = spend(&[World::outpoint(0)], &[COIN - 100_000]);
    let mut accept = |rate: u64, test| {
        let options = AcceptOptions { test, fee_rate_max: Some(rate * 1_000) };
        let result = rig.pool.accept(&rig.world, tx.clone(), NOW, options, &mut rig.events);
        result.expect("in memory").map_err(|reject| reject.reason)
    };
    assert_eq!(accept(100, true).map(|_| ()), Err("max-fee-exceeded".to_string()));
    assert!(accept(2_000, true).is_ok());
    assert!(rig.pool.is_empty() && rig.events.is_empty());
}

#[test]
fn a_better_one_takes_the_place_of_another() {
    let mut rig = Rig::new(2);
    let old = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let child = spend(&[out(&old, 0)], &[COIN - 3_000]);
    let (old, child) = (rig.take(&old), rig.take(&child));
    let reject = rig.accept(&spend(&[World::outpoint(0)], &[COIN - 2_999])).expect_err("too little");
    assert_eq!((&*reject.reason, reject.kind), ("insufficient fee", TxRejectKind::Reconsiderable));
    assert!(reject.debug.contains("less fees than conflicting txs; 0.00002999 < 0.00003"));
    let reject = rig.accept(&spend(&[World::outpoint(0)], &[COIN - 3_000])).expect_err("nothing for relaying");
    assert!(reject.debug.contains("not enough additional fees to relay; 0.00 < 0.0000001"), "{}", reject.debug);
    let new = spend(&[World::outpoint(0)], &[COIN - 4_000]);
    let accepted = rig.accept(&new).expect("it is better");
    assert_eq!(accepted.replaced.len(), 2);
    assert!(!rig.has(&old) && !rig.has(&child));
    assert_eq!(rig.reasons(), ["replaced", "replaced"]);
    let wide: Vec<u64> = vec![(COIN - 6_000) / 100; 100];
    let reject = rig.accept(&spend(&[World::outpoint(0)], &wide)).expect_err("a lower rate");
    assert_eq!(
        (&*reject.reason, &*reject.debug),
        ("replacement-failed", "insufficient feerate: does not improve feerate diagram",)
    );
    let both = spend(&[World::outpoint(0), out(&new, 0)], &[COIN]);
    assert_eq!(rig.word(&both), "bad-txns-spends-conflicting-tx");
}

#[test]
fn clusters_are_bounded() {
    let mut rig = Rig::with(1, MempoolOptions { cluster_count_max: 3, ..MempoolOptions::default() });
    let mut last = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    for depth in 2..=3 {
        rig.take(&last);
        last = spend(&[out(&last, 0)], &[COIN - depth * 1_000]);
    }
    let third = rig.take(&last);
    let fourth = spend(&[out(&last, 0)], &[COIN - 9_000]);
    assert_eq!(rig.word(&fourth), "too-large-cluster");
    assert!(!rig.pool.fits(&fourth) && rig.pool.fits(&last) && rig.pool.cluster_count(&third) == 3);
    let relatives = rig.pool.with_ancestors(&third).expect("it is there");
    assert_eq!((relatives.count, relatives.fees), (3, 3_000));
    assert_eq!(rig.pool.cluster(&third).expect("it is there").iter().map(|chunk| chunk.txids.len()).sum::<usize>(), 3);
}

#[test]
fn blocks_take_theirs_and_what_conflicts_with_them() {
    let mut rig = Rig::new(3);
    let mined = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let child = spend(&[out(&mined, 0)], &[COIN - 2_000]);
    let rival = spend(&[World::outpoint(1)], &[COIN - 1_000]);
    let rests = spend(&[out(&rival, 0)], &[COIN - 2_000]);
    let [mined_id, child_id, rival_id, rests_id] = [&mined, &child, &rival, &rests].map(|tx| rig.take(tx));
    rig.pool.prioritise(mined_id, 5);
    rig.connect(&block_of(&[mined, spend(&[World::outpoint(1)], &[COIN])]));
    assert!(rig.has(&child_id) && ![mined_id, rival_id, rests_id].iter().any(|txid| rig.has(txid)));
    assert_eq!(rig.reasons(), ["conflict", "conflict"]);
    assert_eq!(rig.pool.prioritised().count(), 0);
}

#[test]
fn what_a_lost_block_had_comes_back() {
    let mut rig = Rig::new(3);
    let mined = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let stays = spend(&[World::outpoint(1)], &[COIN - 1_000]);
    let lost = block_of(&[mined.clone(), stays.clone()]);
    let spent = rig.connect(&lost);
    let child = spend(&[out(&mined, 0)], &[COIN - 9_000]);
    let other = spend(&[out(&stays, 0)], &[COIN - 9_000]);
    let coinbase_child = {
        let out = OutPoint::new(lost.txdata[0].compute_txid(), 0);
        rig.world.coins.get_mut(&out).expect("it is there").height = 1;
        rig.world.coins.get_mut(&out).expect("it is there").out.value = Amount::from_sat(COIN);
        spend(&[out], &[COIN - 1_000])
    };
    let [child, other, orphaned] = [&child, &other, &coinbase_child].map(|tx| rig.take(tx));
    rig.world.disconnect(&lost, spent);
    // The other chain has one of them, too.
    rig.connect(&block_of(std::slice::from_ref(&stays)));
    rig.reorganised(&[lost]);
    let back = mined.compute_txid();
    assert!(rig.has(&back) && rig.has(&child) && rig.has(&other) && !rig.has(&orphaned));
    assert_eq!(rig.pool.ancestors(&child), BTreeSet::from([back]));
    assert_eq!(rig.pool.get(&back).expect("it is there").sequence, 0);
    assert_eq!(rig.reasons(), ["reorg"]);
}

#[test]
fn of_long_lost_blocks_the_oldest_come_back_as_far_as_memory_goes() {
    let mut rig = Rig::new(220);
    let large = |at: u8| {
        let mut tx = (*spend(&[World::outpoint(at)], &[COIN - 200_000, 0])).clone();
        let data = bitcoin::script::PushBytesBuf::try_from(vec![0; 99_000]).expect("it is short enough");
        tx.output[1].script_pubkey = ScriptBuf::new_op_return(data);
        Arc::new(tx)
    };
    let mined: Vec<Arc<Transaction>> = (0..220).map(large).collect();
    let lost = block_of(&mined);
    let spent = rig.connect(&lost);
    let first = rig.take(&spend(&[out(&mined[0], 0)], &[COIN - 900_000]));
    let last = rig.take(&spend(&[out(&mined[219], 0)], &[COIN - 900_000]));
    rig.world.disconnect(&lost, spent);
    rig.reorganised(&[lost]);
    let back = mined.iter().take_while(|tx| rig.has(&tx.compute_txid())).count();
    assert!((195..=202).contains(&back), "{back}");
    assert!(mined[back..].iter().all(|tx| !rig.has(&tx.compute_txid())));
    assert!(rig.has(&first) && !rig.has(&last));
}

#[test]
fn a_cluster_that_grows_too_large_by_a_reorganisation_loses_its_worst() {
    let mut rig = Rig::with(1, MempoolOptions { cluster_count_max: 4, ..MempoolOptions::default() });
    let parent = spend(&[World::outpoint(0)], &[COIN / 6; 5]);
    let lost = block_of(std::slice::from_ref(&parent));
    let spent = rig.connect(&lost);
    let fees = [5_000, 1_000, 4_000, 3_000, 2_000];
    let children: Vec<Txid> =
        (0..5u32).map(|at| rig.take(&spend(&[out(&parent, at)], &[COIN / 6 - fees[at as usize]]))).collect();
    rig.world.disconnect(&lost, spent);
    rig.reorganised(&[lost]);
    let left: Vec<bool> = children.iter().map(|child| rig.has(child)).collect();
    assert_eq!(left, [true, false, true, true, false]);
    assert_eq!(rig.reasons(), ["sizelimit", "sizelimit"]);
}

#[test]
fn what_is_not_final_any_more_goes() {
    let mut rig = Rig::new(2);
    let mut tx = (*spend(&[World::outpoint(0)], &[COIN - 1_000])).clone();
    tx.lock_time = LockTime::from_consensus(200);
    let txid = rig.take(&Arc::new(tx));
    rig.world.height -= 1;
    rig.reorganised(&[]);
    assert!(!rig.has(&txid));
    assert_eq!(rig.reasons(), ["reorg"]);
}

#[test]
fn the_worst_goes_for_want_of_room_and_the_price_of_coming_in_rises() {
    let mut rig = Rig::with(40, MempoolOptions { size_max: 20_000, ..MempoolOptions::default() });
    for at in 0..40 {
        let tx = spend(&[World::outpoint(at)], &[COIN - 1_000 - 100 * u64::from(at)]);
        let _ = rig.accept(&tx);
    }
    assert!(rig.pool.usage() <= 20_000 && rig.pool.len() > 10);
    assert!(rig.reasons().iter().all(|reason| *reason == "sizelimit"));
    let (now, rate) = (rig.now, rig.pool.fee_rate_min(rig.now));
    assert!(rate > 9_000, "{rate}");
    let cheap = rig.accept(&spend(&[World::outpoint(0)], &[COIN - 900])).expect_err("too cheap");
    assert_eq!(&*cheap.reason, "mempool min fee not met");
    // It does not fall before a block came.
    assert_eq!(rig.pool.fee_rate_min(now + 86_400), rate);
    rig.connect(&block_of(&[]));
    let later = rig.pool.fee_rate_min(now + 12 * 3_600);
    assert!(later <= rate / 2 + 1 && later > 100, "{later}");
    assert_eq!(rig.pool.rolling_rate(now + 10 * 86_400), 0);
}

#[test]
fn the_oldest_goes_after_two_weeks() {
    let mut rig = Rig::new(3);
    let old = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let (old_id, child) = (rig.take(&old), spend(&[out(&old, 0)], &[COIN - 2_000]));
    rig.now += 10;
    let child = rig.take(&child);
    rig.now = NOW + 336 * 3_600;
    rig.take(&spend(&[World::outpoint(1)], &[COIN - 1_000]));
    assert!(rig.has(&old_id) && rig.has(&child));
    rig.now += 1;
    rig.take(&spend(&[World::outpoint(2)], &[COIN - 1_000]));
    assert!(!rig.has(&old_id) && !rig.has(&child));
    assert_eq!(rig.reasons(), ["expiry", "expiry"]);
}

#[test]
fn whoever_spends_what_pays_too_little_pays_for_it() {
    let mut rig = Rig::new(3);
    let grandparent = spend(&[World::outpoint(0)], &[COIN / 2, COIN / 2 - 100]);
    let low = spend(&[out(&grandparent, 0)], &[COIN / 2 - 200]);
    let high = spend(&[World::outpoint(1)], &[COIN - 90_000]);
    for tx in [&grandparent, &low, &high] {
        rig.take(tx);
    }
    let size = |tx: &Transaction| tx.vsize() as i64;
    let (own, all) = (size(&grandparent), size(&grandparent) + size(&low));
    let outpoints = [out(&low, 0), out(&grandparent, 1), out(&high, 0), World::outpoint(2)];
    let fees = rig.pool.bump_fees(&outpoints, 10_000).expect("it is little");
    assert_eq!(outpoints.map(|outpoint| fees[&outpoint]), [all * 10 - 300, own * 10 - 100, 0, 0]);
    assert_eq!(rig.pool.bump_fee_total(&outpoints, 10_000), Some(all * 10 - 300));
    // Who replaces the child does not pay for it.
    let fees = rig.pool.bump_fees(&[out(&grandparent, 0)], 10_000).expect("it is little");
    assert_eq!(fees[&out(&grandparent, 0)], own * 10 - 100);
    assert_eq!(rig.pool.bump_fee_total(&outpoints, 100), Some(0));
}

#[test]
fn an_operator_s_word_counts_as_a_fee() {
    let mut rig = Rig::new(2);
    let tx = spend(&[World::outpoint(0)], &[COIN]);
    rig.pool.prioritise(tx.compute_txid(), 1_000);
    let txid = rig.take(&tx);
    let entry = rig.pool.get(&txid).expect("it is there");
    assert_eq!((entry.fee.to_sat(), entry.modified_fee()), (0, 1_000));
    let other = rig.take(&spend(&[World::outpoint(1)], &[COIN - 500]));
    assert_eq!(rig.pool.best_first().map(|(txid, _)| txid).collect::<Vec<_>>(), [txid, other]);
    rig.pool.prioritise(txid, -1_000);
    rig.pool.invariants();
    assert_eq!(rig.pool.best_first().map(|(txid, _)| txid).collect::<Vec<_>>(), [other, txid]);
    assert_eq!(rig.pool.prioritised().count(), 0);
}

#[test]
fn dust_is_borne_with_for_nothing_and_spent_by_the_child() {
    let mut rig = Rig::with(1, MempoolOptions { relay_rate_min: 0, ..MempoolOptions::default() });
    let parent = spend(&[World::outpoint(0)], &[COIN - 100, 100]);
    rig.take(&parent);
    let careless = rig.accept(&spend(&[out(&parent, 0)], &[COIN - 1_000])).expect_err("dust is left");
    assert_eq!(&*careless.reason, "missing-ephemeral-spends");
    rig.take(&spend(&[out(&parent, 0), out(&parent, 1)], &[COIN - 1_000]));
}

#[test]
fn a_second_child_of_version_3_takes_the_first_one_s_place() {
    let mut rig = Rig::new(2);
    let parent = truc(&spend(&[World::outpoint(0)], &[COIN / 2, COIN / 2 - 1_000]));
    rig.take(&parent);
    let mixed = rig.accept(&spend(&[out(&parent, 0)], &[COIN / 2 - 1_000])).expect_err("version 2");
    assert_eq!(&*mixed.reason, "TRUC-violation");
    assert!(mixed.debug.starts_with("non-version=3 tx ") && mixed.debug.contains("cannot spend from version=3 tx"));
    let first = truc(&spend(&[out(&parent, 0)], &[COIN / 2 - 1_000]));
    let first_id = rig.take(&first);
    let grandchild = rig.accept(&truc(&spend(&[out(&first, 0)], &[COIN / 2 - 5_000]))).expect_err("too deep");
    assert!(grandchild.debug.ends_with("would have too many ancestors"));
    let poor = rig.accept(&truc(&spend(&[out(&parent, 1)], &[COIN / 2 - 2_001]))).expect_err("pays no more");
    assert_eq!(&*poor.reason, "insufficient fee (including sibling eviction)");
    let second = rig.take(&truc(&spend(&[out(&parent, 1)], &[COIN / 2 - 9_000])));
    assert!(rig.has(&second) && !rig.has(&first_id));
}

#[test]
fn a_file_keeps_what_waits() {
    let (mut rig, disk) = (Rig::new(3), MemoryDisk::new());
    let parent = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let child = spend(&[out(&parent, 0)], &[COIN - 9_000]);
    let txids = [&parent, &child].map(|tx| rig.take(tx));
    let elsewhere = World::outpoint(7).txid;
    rig.pool.prioritise(txids[1], 77);
    rig.pool.prioritise(elsewhere, -5);
    rig.pool.add_unbroadcast(txids[0]);
    rig.pool.dump(&disk, "mempool.dat", *b"whatever").expect("the disk is good");
    let mut other = Rig::new(3);
    let mut load = |now| {
        let file = (&disk as &dyn verity_storage::Disk, "mempool.dat");
        let loaded = other.pool.load(&other.world, file, now, LoadOptions::default(), &mut other.events);
        other.pool.invariants();
        loaded.expect("coins are in memory").expect("it is whole")
    };
    let loaded = Loaded { accepted: 2, unbroadcast: 1, ..Loaded::default() };
    assert_eq!(load(NOW + 5), loaded);
    assert_eq!(load(NOW + 6), Loaded { accepted: 0, already_there: 2, ..loaded });
    let entry = other.pool.get(&txids[1]).expect("it is there");
    assert_eq!((entry.time, entry.fee_delta), (NOW, 154));
    assert_eq!(other.pool.unbroadcast(), &BTreeSet::from([txids[0]]));
    assert_eq!(other.pool.prioritised().find(|word| word.txid == elsewhere).map(|word| word.delta), Some(-10));
    let mut expired = Rig::new(3);
    let file = (&disk as &dyn verity_storage::Disk, "mempool.dat");
    let now = NOW + 336 * 3_600;
    let loaded = expired.pool.load(&expired.world, file, now, LoadOptions::default(), &mut expired.events);
    assert_eq!(loaded.expect("in memory").expect("it is whole").expired, 2);
}

#[test]
fn the_file_has_the_network_s_form() {
    let (mut rig, disk) = (Rig::new(1), MemoryDisk::new());
    let tx = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    rig.take(&tx);
    let key = *b"\x01\x02\x03\x04\x05\x06\x07\x08";
    rig.pool.dump(&disk, "mempool.dat", key).expect("the disk is good");
    let bytes = {
        use verity_storage::Disk;
        let file = disk.open("mempool.dat").expect("it is there");
        let mut bytes = vec![0; file.size().expect("it is there") as usize];
        assert_eq!(file.read_at(0, &mut bytes).expect("it is there"), bytes.len());
        bytes
    };
    assert_eq!(bytes[..17], [&[2, 0, 0, 0, 0, 0, 0, 0, 8][..], &key].concat());
    let clear: Vec<u8> = (17..bytes.len()).map(|at| bytes[at] ^ key[at % 8]).collect();
    let expected = [
        &1u64.to_le_bytes()[..],
        &bitcoin::consensus::serialize(&*tx),
        &NOW.to_le_bytes(),
        &0u64.to_le_bytes(),
        &[0, 0],
    ];
    assert_eq!(clear, expected.concat());
}
