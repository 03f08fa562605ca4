//! Several at once.

use super::*;

fn reason(outcome: &PackageOutcome) -> &str {
    outcome.reject.as_ref().map_or("", |reject| &reject.reason)
}

#[test]
fn a_child_pays_for_its_parent() {
    let mut rig = Rig::new(2);
    let parent = spend(&[World::outpoint(0)], &[COIN]);
    let child = spend(&[out(&parent, 0)], &[COIN - 5_000]);
    assert_eq!(rig.word(&parent), "min relay fee not met");
    let outcome = rig.package(&[parent.clone(), child.clone()], false);
    assert_eq!(outcome.reject, None);
    for tx in [&parent, &child] {
        let Some(PackageTx::Accepted(accepted)) = outcome.txs.get(&tx.compute_wtxid()) else { panic!("it is in") };
        assert_eq!((accepted.effective.fee, accepted.effective_includes.len()), (5_000, 2));
        assert!(rig.has(&tx.compute_txid()));
    }
    assert_eq!(rig.pool.chunk_rate(&parent.compute_txid()).map(|rate| rate.fee), Some(5_000));
    let again = rig.package(&[parent, child], false);
    assert!(again.txs.values().all(|tx| matches!(tx, PackageTx::AlreadyThere { .. })));
}

#[test]
fn one_that_pays_for_itself_pays_for_nobody_else() {
    let mut rig = Rig::new(2);
    let rich = spend(&[World::outpoint(0)], &[COIN - 50_000]);
    let poor = spend(&[out(&rich, 0)], &[COIN - 50_000]);
    let outcome = rig.package(&[rich.clone(), poor.clone()], false);
    assert_eq!(reason(&outcome), "transaction failed");
    assert!(rig.has(&rich.compute_txid()) && !rig.has(&poor.compute_txid()));
    let Some(PackageTx::Rejected(reject)) = outcome.txs.get(&poor.compute_wtxid()) else { panic!("it is not in") };
    assert_eq!(reject.reason, "min relay fee not met");
}

#[test]
fn packages_have_a_shape() {
    let mut rig = Rig::new(3);
    let parent = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let child = spend(&[out(&parent, 0)], &[COIN - 5_000]);
    let other = spend(&[World::outpoint(1)], &[COIN - 1_000]);
    let rival = spend(&[World::outpoint(0)], &[COIN - 2_000]);
    let mut words = |txs: &[&Arc<Transaction>], test| {
        reason(&rig.package(&txs.iter().map(|tx| (*tx).clone()).collect::<Vec<_>>(), test)).to_string()
    };
    assert_eq!(words(&[&child, &parent], false), "package-not-sorted");
    assert_eq!(words(&[&parent, &parent], false), "package-contains-duplicates");
    assert_eq!(words(&[&parent, &rival], true), "conflict-in-package");
    assert_eq!(words(&[&parent, &other], false), "package-not-child-with-parents");
    assert_eq!(words(&[&parent; 26], false), "package-too-many-transactions");
    assert_eq!(words(&[&parent, &child, &other], true), "");
    assert!(rig.pool.is_empty() && rig.events.is_empty());
}

#[test]
fn a_parent_with_its_child_takes_the_place_of_another() {
    let mut rig = Rig::new(2);
    let old = rig.take(&spend(&[World::outpoint(0)], &[COIN - 1_000]));
    let parent = spend(&[World::outpoint(0)], &[COIN - 100]);
    let cheap = spend(&[out(&parent, 0)], &[COIN - 1_000]);
    let outcome = rig.package(&[parent.clone(), cheap], false);
    assert_eq!(reason(&outcome), "package RBF failed: insufficient anti-DoS fees");
    let child = spend(&[out(&parent, 0)], &[COIN - 9_000]);
    let outcome = rig.package(&[parent.clone(), child.clone()], false);
    assert_eq!(outcome.reject, None);
    assert!(!rig.has(&old) && rig.has(&parent.compute_txid()) && rig.has(&child.compute_txid()));
    let Some(PackageTx::Accepted(first)) = outcome.txs.get(&parent.compute_wtxid()) else { panic!("it is in") };
    assert_eq!(first.replaced.len(), 1);
    let tested = rig.package(&[spend(&[World::outpoint(0)], &[COIN / 2])], true);
    let Some(PackageTx::Rejected(reject)) = tested.txs.values().next() else { panic!("it is not good") };
    assert_eq!(reject.reason, "bip125-replacement-disallowed");
}

#[test]
fn dust_of_a_package_is_spent_in_it() {
    let mut rig = Rig::new(1);
    let parent = spend(&[World::outpoint(0)], &[COIN - 100, 100]);
    let careless = spend(&[out(&parent, 0)], &[COIN - 9_000]);
    let outcome = rig.package(&[parent.clone(), careless.clone()], false);
    assert_eq!(reason(&outcome), "unspent-dust");
    let Some(PackageTx::Rejected(reject)) = outcome.txs.get(&careless.compute_wtxid()) else { panic!("not in") };
    assert_eq!(reject.reason, "missing-ephemeral-spends");
    let child = spend(&[out(&parent, 0), out(&parent, 1)], &[COIN - 9_000]);
    assert_eq!(rig.package(&[parent, child], false).reject, None);
}

#[test]
fn version_3_has_its_rules_in_packages_too() {
    let mut rig = Rig::new(1);
    let parent = truc(&spend(&[World::outpoint(0)], &[COIN]));
    let mixed = spend(&[out(&parent, 0)], &[COIN - 9_000]);
    let outcome = rig.package(&[parent.clone(), mixed], false);
    assert_eq!(reason(&outcome), "TRUC-violation");
    let large = truc(&spend(&[out(&parent, 0)], &[(COIN - 9_000) / 30; 30]));
    let outcome = rig.package(&[parent.clone(), large], false);
    assert!(outcome.reject.expect("too big").debug.contains("virtual bytes"));
    let child = truc(&spend(&[out(&parent, 0)], &[COIN - 9_000]));
    assert_eq!(rig.package(&[parent, child], false).reject, None);
}

#[test]
fn what_was_judged_before_the_bad_one_is_told_of_a_package_that_is_tested() {
    let mut rig = Rig::new(3);
    let good = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    let mut bad = (*spend(&[World::outpoint(1)], &[COIN - 1_000])).clone();
    // Another script than the one that is asked for.
    bad.input[0].witness = Witness::from_slice(&[&[0x52]]);
    let bad = Arc::new(bad);
    let last = spend(&[World::outpoint(2)], &[COIN - 1_000]);
    let outcome = rig.package(&[good.clone(), bad.clone(), last.clone()], true);
    assert_eq!(reason(&outcome), "transaction failed");
    assert!(matches!(outcome.txs.get(&good.compute_wtxid()), Some(PackageTx::Accepted(_))), "{:?}", outcome.txs);
    assert!(matches!(outcome.txs.get(&bad.compute_wtxid()), Some(PackageTx::Rejected(_))));
    assert!(!outcome.txs.contains_key(&last.compute_wtxid()));
    assert!(rig.pool.is_empty());
}

#[test]
fn what_goes_before_a_peer_fetched_it_is_told() {
    let mut rig = Rig::new(2);
    let first = spend(&[World::outpoint(0)], &[COIN - 1_000]);
    rig.accept(&first).expect("it is good");
    rig.pool.add_unbroadcast(first.compute_txid());
    let rival = spend(&[World::outpoint(0)], &[COIN - 50_000]);
    rig.accept(&rival).expect("it pays more");
    let unsent = |event: &MempoolEvent| matches!(event, MempoolEvent::Unsent { txid } if *txid == first.compute_txid());
    assert_eq!(rig.events.iter().filter(|event| unsent(event)).count(), 1);
}

#[test]
fn an_operator_s_bound_is_not_rounded() {
    let mut rig = Rig::new(2);
    let vsize = spend(&[World::outpoint(0)], &[COIN]).vsize() as u64;
    // One above a bound that is no multiple of four, as weights would have it.
    let fee = (10_000..).find(|fee| fee * 1_000 % vsize != 0 && fee * 1_000 / vsize % 4 == 1).expect("there is one");
    let parent = spend(&[World::outpoint(0)], &[COIN - fee]);
    let child = spend(&[out(&parent, 0)], &[COIN - 2 * fee]);
    let bound = |bound| AcceptOptions { test: false, fee_rate_max: Some(bound) };
    let both = [parent.clone(), child];
    let mut take = |rate| {
        let outcome = rig.pool.accept_package(&rig.world, &both, NOW, bound(rate), &mut rig.events);
        outcome.expect("coins are in memory")
    };
    let outcome = take(fee * 1_000 / vsize);
    let Some(PackageTx::Rejected(reject)) = outcome.txs.get(&parent.compute_wtxid()) else { panic!("it is not in") };
    assert_eq!(reject.reason, "max feerate exceeded");
    assert_eq!(take(fee * 1_000 / vsize + 1).reject, None);
}
