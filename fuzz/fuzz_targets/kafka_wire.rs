//! Requests, responses and batches of Kafka's, to the decoders.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("kafka_wire"), |data: &[u8]| verity_fuzz::kafka::wire(data));
