//! Proofs that somebody lied, to their decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("pbft_evidence"), |data: &[u8]| verity_fuzz::pbft::evidence(data));
