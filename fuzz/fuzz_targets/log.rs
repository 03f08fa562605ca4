//! Files of the log, to its reader.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("log"), |data: &[u8]| verity_fuzz::storage::log(data));
