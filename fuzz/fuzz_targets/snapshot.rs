//! Snapshots, to their reader and the tree.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("snapshot"), |data: &[u8]| verity_fuzz::storage::snapshot(data));
