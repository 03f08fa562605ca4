//! Beside Bitcoin Core's own library: on made-up transactions the two must say the same.
//!
//! The library knows only the rules of blocks, and says only yes or no.

mod made;

use made::Case;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// True if both pass it.
fn agree(bytes: &[u8]) -> bool {
    Case::of(bytes).agreed().is_ok()
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
