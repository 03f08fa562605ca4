//! Messages of peers, to a Paxos engine.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("paxos"), |data: &[u8]| verity_fuzz::seeds::run_paxos(data));
