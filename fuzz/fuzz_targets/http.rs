//! What clients of HTTP and WebSocket send, to a connection.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("http"), |data: &[u8]| verity_fuzz::http::connection(data));
