//! What peers write, to the decoder of frames.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("frames"), |data: &[u8]| verity_fuzz::replica::frames(data));
