//! Beside Bitcoin Core's own library: on made-up transactions the two must say the same.
//!
//! The library knows only the rules of blocks, and says only yes or no.

mod made;

use bitcoin::consensus;
use bitcoinconsensus::{Utxo, verify_with_flags};
use made::Case;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use verity_bitcoin::script::{Flags, SharedHashes};

/// The rules that the library knows.
const KNOWN: u32 = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT;

/// What the library says of a case.
fn theirs(case: &Case, flags: Flags) -> bool {
    let utxos: Vec<Utxo> = case
        .spent
        .iter()
        .map(|output| Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(output.script_pubkey.len()).expect("a script is short"),
            value: i64::try_from(output.value.to_sat()).expect("an amount is small"),
        })
        .collect();
    let (spent, tx) = (&case.spent[case.input], consensus::serialize(&case.tx));
    let script = spent.script_pubkey.as_bytes();
    verify_with_flags(script, spent.value.to_sat(), &tx, Some(&utxos), case.input, flags.bits()).is_ok()
}

/// What we say.
fn ours(case: &Case, flags: Flags) -> bool {
    let shared = SharedHashes::new(&case.tx, &case.spent).expect("an output for each input");
    shared.spend(case.input).expect("the input is there").verify(flags).is_ok()
}

/// True if both pass it.
fn agree(bytes: &[u8]) -> bool {
    let case = Case::of(bytes);
    let flags = Flags::from_bits(case.flags.bits() & KNOWN).supported();
    let (ours_say, theirs_say) = (ours(&case, flags), theirs(&case, flags));
    assert_eq!(ours_say, theirs_say, "ours, and theirs: {case:?}");
    // Policy only ever forbids.
    assert!(ours_say || !ours(&case, case.flags), "{case:?}");
    ours_say
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_say_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        agree(&bytes);
    }
}

/// Else agreement would say little. `BITCOIN_CASES` asks for more of them, from elsewhere.
#[test]
fn what_is_made_up_passes_and_fails() {
    let cases = std::env::var("BITCOIN_CASES").map_or(2_000u64, |cases| cases.parse().expect("a number"));
    let mut passed = [0u32; 9];
    let (mut state, mut bytes) = (cases, vec![0; 400]);
    for case in 0..cases {
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        let kind = (case % 9) as u8;
        bytes[0] = kind;
        passed[usize::from(kind)] += u32::from(agree(&bytes));
    }
    println!("of {cases}, passed by kind: {passed:?}");
    assert!(passed.iter().all(|passed| *passed > 0 && u64::from(*passed) < cases / 9), "{passed:?}");
}
