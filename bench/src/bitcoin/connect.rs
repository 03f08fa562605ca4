//! Judges the blocks.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bitcoin::block::Block;
use bitcoin::consensus::encode::serialize;
use bitcoin::{Transaction, TxOut};
use bitcoinconsensus::Utxo;
use verity_bitcoin::Params;
use verity_bitcoin::chain::{Chain, ChainConfig, Workers};
use verity_bitcoin::script::{Flags, SharedHashes};
use verity_storage::{Disk, RealDisk};

use super::make::{PAYMENTS, read};

/// Later than any block of the file.
const NOW: u32 = 1_900_000_000;

#[derive(Debug)]
struct Threads(usize);

impl Workers for Threads {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        verity_node::parallel(self.0, tasks, task);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn median(mut all: Vec<f64>) -> Result<f64> {
    ensure!(!all.is_empty(), "there is no full block in the file");
    all.sort_by(f64::total_cmp);
    Ok(all[all.len() / 2])
}

/// Takes all blocks in.
pub(super) fn connect(file: &Path, folder: &Path, threads: usize) -> Result<String> {
    let blocks: Vec<Arc<Block>> = read(file)?.into_iter().map(Arc::new).collect();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(folder)?);
    let config =
        ChainConfig { coins_bytes: 450 << 20, salt: 7, workers: Arc::new(Threads(threads)), ..ChainConfig::default() };
    let mut chain = Chain::open(&disk, Params::regtest(), config)?;
    let (mut full, mut wide, begin) = (Vec::new(), 0.0, now());
    for block in &blocks {
        let (start, mut events) = (now(), Vec::new());
        let taken = chain.accept_block(block, NOW, true, &mut events)?;
        let took = start.elapsed().as_secs_f64() * 1e3;
        taken.map_err(|refused| anyhow!("block {} is refused: {refused}", block.block_hash()))?;
        if block.txdata.len() > PAYMENTS {
            full.push(took);
        } else if block.txdata.get(1).is_some_and(|tx| tx.input.len() > 1) {
            wide = took;
        }
    }
    let last = blocks.last().context("there are blocks")?.block_hash();
    ensure!(chain.entry(chain.tip()).hash == last, "the chain ends at {}", chain.height());
    let start = now();
    chain.flush()?;
    let (flush, all) = (start.elapsed().as_secs_f64() * 1e3, begin.elapsed().as_secs_f64());
    Ok(format!("full_ms={:.1} wide_ms={wide:.1} flush_ms={flush:.1} all_s={all:.2}", median(full)?))
}

/// A transaction, and what it spends.
struct Spend {
    tx: Transaction,
    bytes: Vec<u8>,
    spent: Vec<TxOut>,
}

/// Judges inputs in one thread, for so long by each way.
pub(super) fn signatures(file: &Path, seconds: f64) -> Result<String> {
    let blocks = read(file)?;
    let full: Vec<&Block> = blocks.iter().filter(|block| block.txdata.len() > PAYMENTS).take(2).collect();
    ensure!(full.len() == 2, "two full blocks are needed");
    let made: std::collections::BTreeMap<_, _> = full[0].txdata.iter().map(|tx| (tx.compute_txid(), tx)).collect();
    let mut spends = Vec::new();
    for tx in &full[1].txdata[1..] {
        let spent = tx.input.iter().map(|input| {
            let output = &made[&input.previous_output.txid].output[input.previous_output.vout as usize];
            output.clone()
        });
        spends.push(Spend { tx: tx.clone(), bytes: serialize(tx), spent: spent.collect() });
    }
    let flags = Flags::P2SH | Flags::DERSIG | Flags::NULLDUMMY | Flags::CHECKLOCKTIMEVERIFY;
    let flags = flags | Flags::CHECKSEQUENCEVERIFY | Flags::WITNESS | Flags::TAPROOT;
    let library = rate(seconds, &spends, |spend| {
        let utxo = |output: &TxOut| Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: output.script_pubkey.len() as u32,
            value: output.value.to_sat().cast_signed(),
        };
        let utxos: Vec<Utxo> = spend.spent.iter().map(utxo).collect();
        (0..spend.spent.len()).all(|input| {
            let (script, amount) = (spend.spent[input].script_pubkey.as_bytes(), spend.spent[input].value.to_sat());
            let verdict =
                bitcoinconsensus::verify_with_flags(script, amount, &spend.bytes, Some(&utxos), input, flags.bits());
            verdict.is_ok()
        })
    })?;
    let own = rate(seconds, &spends, |spend| {
        let hashes = SharedHashes::new(&spend.tx, &spend.spent).expect("there is an output for each input");
        (0..spend.spent.len()).all(|input| hashes.spend(input).is_some_and(|spend| spend.verify(flags).is_ok()))
    })?;
    Ok(format!("library={library:.0} own={own:.0}"))
}

/// Inputs a second.
fn rate(seconds: f64, spends: &[Spend], judge: impl Fn(&Spend) -> bool) -> Result<f64> {
    let (begin, mut inputs) = (now(), 0);
    for spend in spends.iter().cycle() {
        ensure!(judge(spend), "a good input is refused");
        inputs += spend.spent.len();
        if begin.elapsed() > Duration::from_secs_f64(seconds) {
            break;
        }
    }
    Ok(inputs as f64 / begin.elapsed().as_secs_f64())
}
