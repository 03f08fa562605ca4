//! Commands, queries and snapshots, to Kafka's machines.
#![no_main]

libfuzzer_sys::fuzz_target!(init: verity_fuzz::begin("kafka_machines"), |data: &[u8]| verity_fuzz::kafka::machines(data));
