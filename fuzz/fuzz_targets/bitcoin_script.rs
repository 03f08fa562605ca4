//! Spends, to the interpreter of Bitcoin's scripts.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("bitcoin_script"), |data: &[u8]| verity_fuzz::bitcoin::spend(data));
