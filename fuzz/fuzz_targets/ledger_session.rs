//! What clients of a ledger send, to a node's service.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("ledger_session"), |data: &[u8]| verity_fuzz::ledger::session(data));
