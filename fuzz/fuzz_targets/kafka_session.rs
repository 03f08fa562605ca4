//! Streams of Kafka's clients, to a node's sessions.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("kafka_session"), |data: &[u8]| verity_fuzz::kafka::session(data));
