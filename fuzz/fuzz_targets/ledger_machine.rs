//! Commands, queries and snapshots, to a ledger.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("ledger_machine"), |data: &[u8]| verity_fuzz::ledger::machine(data));
