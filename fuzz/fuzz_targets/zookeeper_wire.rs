//! Requests of ZooKeeper's clients, to the decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("zookeeper_wire"), |data: &[u8]| verity_fuzz::zookeeper::wire(data));
