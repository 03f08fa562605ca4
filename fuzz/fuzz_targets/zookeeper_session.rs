//! Streams of ZooKeeper's clients, to a node's sessions.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("zookeeper_session"), |data: &[u8]| verity_fuzz::zookeeper::session(data));
