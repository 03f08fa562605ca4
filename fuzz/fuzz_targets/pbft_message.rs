//! Messages of replicas that may lie, to PBFT's decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("pbft_message"), |data: &[u8]| verity_fuzz::pbft::message(data));
