//! What the fuzz targets do with the bytes that libFuzzer makes up.
//!
//! A target takes its bytes apart with a [`Script`] and hands them to the code that ships, as the file of the target's
//! room says: [`http`], [`zookeeper`], [`kafka`], [`ledger`], [`bitcoin`] and [`bitcoin_node`] for what clients send, [`storage`] for what a
//! disk gives back, [`engine`], [`pbft`] and [`replica`] for what peers send. Nothing may panic, and what each file promises
//! beyond that must hold.
//!
//! Each target has a canary: a state that its seeds do not reach. With `FUZZ_CANARY` set, to reach it is a panic, so that
//! a run can show that the target finds what there is to find.
//!
//! Deliberately absent: libFuzzer (the targets link it), and inputs that are kept (they are in `corpus/`, the seeds among
//! them as `seed-*`).

#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::OnceLock;

pub mod bitcoin;
pub mod bitcoin_node;
pub mod engine;
pub mod http;
pub mod kafka;
pub mod ledger;
pub mod pbft;
pub mod replica;
pub mod script;
pub mod seeds;
pub mod storage;
pub mod zookeeper;

pub use script::{Lines, Script};

/// Names a state that no seed reaches. A panic if canaries are asked for.
///
/// # Panics
/// If `FUZZ_CANARY` is set in the environment.
pub fn canary(state: &str) {
    static ASKED: OnceLock<bool> = OnceLock::new();
    assert!(!ASKED.get_or_init(|| std::env::var_os("FUZZ_CANARY").is_some()), "the canary is found: {state}");
}

/// Begins a target. With `FUZZ_SEEDS` set, its seeds are written into the folder of that name, and that is all.
///
/// # Panics
/// If the folder cannot be written to.
pub fn begin(target: &str) {
    let Some(dir) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (number, seed) in seeds::of(target).iter().enumerate() {
        let path = Path::new(&dir).join(format!("seed-{number:02}"));
        std::fs::write(&path, seed).expect("FUZZ_SEEDS names a folder");
    }
    std::process::exit(0);
}
