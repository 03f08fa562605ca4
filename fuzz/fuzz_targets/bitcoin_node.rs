//! Messages of peers and calls of clients, to a Bitcoin node.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("bitcoin_node"), |data: &[u8]| verity_fuzz::bitcoin_node::node(data));
