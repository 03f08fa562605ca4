//! Bitcoin: full blocks of made-up payments, and how long it takes to judge them.
//!
//! - `make` writes a chain of regtest blocks: coinbases, one that splits a coin, then full blocks of payments with two inputs and
//!   two outputs, each of a witness key hash, and at last a block with one transaction of 2,000 inputs;
//! - `connect` lets our chain take them in, on a folder, and tells how long the full ones took;
//! - `signatures` judges the same inputs in one thread, by Core's library alone and by our interpreter;
//! - `calls` asks a node for its height, one call after the other on one connection; `call` calls once, and `submit` gives a node
//!   the blocks.
//!
//! Deliberately absent: other nodes. `cargo xtask bench bitcoin` runs them beside.

mod calls;
mod connect;
mod make;

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// What is known of how it is used.
pub const USAGE: &str = "usage: verity-bench bitcoin make FILE BLOCKS
       verity-bench bitcoin connect FILE FOLDER THREADS
       verity-bench bitcoin signatures FILE SECONDS
       verity-bench bitcoin calls HOST:PORT USER:PASSWORD SECONDS
       verity-bench bitcoin call HOST:PORT USER:PASSWORD METHOD PARAMS
       verity-bench bitcoin submit HOST:PORT USER:PASSWORD FILE";

/// Runs what these words ask for; one line of `name=value` pairs.
///
/// # Errors
/// What is wrong with them, or with what they name.
pub fn run(words: &[&str]) -> Result<String> {
    match words {
        ["make", file, blocks] => make::make(Path::new(file), blocks.parse().context("BLOCKS is not a number")?),
        ["connect", file, folder, threads] => {
            connect::connect(Path::new(file), Path::new(folder), threads.parse().context("THREADS is not a number")?)
        }
        ["signatures", file, seconds] => {
            connect::signatures(Path::new(file), seconds.parse().context("SECONDS is not a number")?)
        }
        ["calls", address, password, seconds] => {
            calls::calls(address, password, seconds.parse().context("SECONDS is not a number")?)
        }
        ["call", address, password, method, params] => {
            let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{params}}}");
            calls::Client::connect(address, password)?.result(&body)
        }
        ["submit", address, password, file] => {
            let mut client = calls::Client::connect(address, password)?;
            for block in make::read(Path::new(file))? {
                let hex = bitcoin::consensus::encode::serialize_hex(&block);
                let body =
                    format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"submitblock\",\"params\":[\"{hex}\"]}}");
                ensure!(client.result(&body)? == "null", "a good block is refused");
            }
            Ok(String::new())
        }
        _ => bail!("{USAGE}"),
    }
}
