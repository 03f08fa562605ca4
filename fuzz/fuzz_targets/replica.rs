//! What peers write, to a whole node.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("replica"), |data: &[u8]| verity_fuzz::replica::node(data));
