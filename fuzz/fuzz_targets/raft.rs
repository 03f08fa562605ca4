//! Messages of peers, to a Raft engine.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("raft"), |data: &[u8]| verity_fuzz::seeds::run_raft(data));
