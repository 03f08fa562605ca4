use bytes::Bytes;
use proptest::prelude::*;
use verity_contract::StateMachine as _;

use super::rig::Rig;

fn drawn(rig: &mut Rig, size: usize) -> Vec<Bytes> {
    std::iter::from_fn(|| rig.ledger.snapshot_next(size)).collect()
}

#[test]
fn a_snapshot_shows_its_beginning_and_nothing_later() {
    let mut rig = Rig::new();
    for number in 0..20 {
        rig.tx(&format!("k{number}=v{number}"));
        rig.settle();
    }
    rig.tx("under=way");
    rig.vote(0, 3);
    let digest = rig.ledger.digest();
    rig.ledger.snapshot_begin();
    let mut chunks = vec![rig.ledger.snapshot_next(64).expect("a first chunk")];
    rig.settle();
    rig.tx("k3=changed");
    rig.settle();
    assert_ne!(rig.ledger.digest(), digest);
    chunks.extend(drawn(&mut rig, 64));
    let mut other = Rig::new();
    other.tx("gone=1");
    other.ledger.restore(&mut chunks.iter().cloned().map(Ok)).expect("it is whole");
    other.ledger.invariants();
    assert_eq!(other.ledger.digest(), digest);
    let cut = chunks.len() - 1;
    assert!(Rig::new().ledger.restore(&mut chunks[..cut].iter().cloned().map(Ok)).is_err(), "an end is missing");
}

/// The records of a snapshot, its end left out.
fn records(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some(([kind, size @ ..], behind)) = rest.split_first_chunk::<5>() {
        let (payload, behind) = behind.split_at(u32::from_be_bytes(*size) as usize);
        all.push((*kind, payload.to_vec()));
        rest = behind;
    }
    all.pop();
    all
}

/// Whoever changes a snapshot and hashes it anew shows another state, whose digest is another.
#[test]
fn a_snapshot_that_a_liar_changes_is_another_state() {
    use crate::machine::draw::{kind, record};
    use sha2::Digest as _;
    let mut rig = Rig::new();
    rig.tx("a=1");
    rig.settle();
    rig.tx("b=2");
    rig.tx("c=3");
    let digest = rig.ledger.digest();
    rig.ledger.snapshot_begin();
    let records = records(&drawn(&mut rig, 1 << 20).concat());
    let restore = |records: &[(u8, Vec<u8>)]| {
        let mut bytes = Vec::new();
        records.iter().for_each(|(kind, payload)| record(&mut bytes, *kind, payload));
        let sum = sha2::Sha256::digest(&bytes);
        record(&mut bytes, kind::END, &[&digest.0[..], &sum].concat());
        Rig::new().ledger.restore(&mut std::iter::once(Ok(Bytes::from(bytes))))
    };
    restore(&records).expect("as it was");
    let at = |kind| records.iter().position(|(of, _)| *of == kind).expect("it is there");
    let change = |at: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = records.clone();
        change(&mut changed[at].1);
        restore(&changed)
    };
    change(at(kind::WAITING), &|tx| *tx = b"x=2".to_vec()).expect_err("another transaction waits");
    change(at(kind::SEEN), &|seen| seen[0] ^= 1).expect_err("another transaction was seen");
    change(at(kind::APP), &|app| app[7] ^= 1).expect_err("it ran another number of transactions");
    change(at(kind::TRAILS), &|trails| trails[70] ^= 1).expect_err("other blocks were before");
    let log = |block: &mut Vec<u8>| {
        let stored = crate::machine::store::Stored::decode(block.clone().into()).expect("a block");
        let mut results = stored.decoded();
        results[0].log = "all is well".to_owned();
        let mut out = crate::wire::Writer::new();
        out.bytes(1, &stored.encoded).bytes(3, &stored.app_hash).item(2, &results[0].encode());
        *block = out.out;
    };
    let with_results = records.iter().position(|(of, bytes)| {
        *of == kind::BLOCK
            && !crate::machine::store::Stored::decode(bytes.clone().into()).expect("a block").results.is_empty()
    });
    change(with_results.expect("a=1 is in a block"), &log).expect_err("a result's text is another");
    let mut shorter = records.clone();
    shorter.remove(at(kind::BLOCK));
    restore(&shorter).expect_err("the first block is gone");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_flipped_bit_of_a_snapshot_passes(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut rig = Rig::new();
        rig.tx("a=1");
        rig.settle();
        rig.tx("b=2");
        rig.ledger.snapshot_begin();
        let mut bytes = drawn(&mut rig, 1 << 20).concat();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let restored = Rig::new().ledger.restore(&mut std::iter::once(Ok(Bytes::from(bytes))));
        prop_assert!(restored.is_err(), "byte {at}");
    }

    #[test]
    fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = crate::machine::Command::decode(&bytes);
        let _ = crate::machine::Query::decode(&bytes);
        let _ = crate::wire::Block::decode(bytes.clone());
        let _ = crate::wire::ExecTxResult::decode(bytes.clone());
        let _ = crate::wire::Query::parse(&String::from_utf8_lossy(&bytes));
        let _ = crate::wire::Request::parse(&bytes);
        let _ = crate::wire::Time::parse(&String::from_utf8_lossy(&bytes));
    }
}
