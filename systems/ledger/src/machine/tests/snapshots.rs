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
