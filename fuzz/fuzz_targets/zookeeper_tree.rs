//! Commands, queries and snapshots, to the tree.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("zookeeper_tree"), |data: &[u8]| verity_fuzz::zookeeper::tree(data));
