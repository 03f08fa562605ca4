//! Blocks that come by themselves: now one node finds one, now another, each as often as its share of the hash power says.
//!
//! The time between two blocks is distributed as that of real miners (exponentially); the work is regtest's, which is none.
//! Where the network is cut, each side goes on upon its own chain, and when it heals the side with less work gives way.
//!
//! Deliberately absent: hashing (`verity bitcoin mine`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use fastrand::Rng;
use serde_json::{Value, json};
use verity_bitcoin::mining::{Work, script_of_address};
use verity_sha256d::{Search, Way};
use verity_types::NodeId;

use super::chains::Chains;
use super::rpc::Node as Calls;
use crate::secrets;

/// Blocks come no faster.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Nor slower: an hour.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// Rewards that nobody asks for can be taken by everybody (`OP_TRUE`).
const ANYBODY: &str = "51";

/// More than regtest ever takes.
const NONCES: u64 = 1 << 16;

/// How miners mine.
#[derive(Clone, Debug)]
pub(crate) struct Mining {
    /// The mean time between two blocks of all of them together.
    pub(crate) interval: Duration,
    /// Their shares, of any sum; all nodes alike if there are none.
    pub(crate) shares: BTreeMap<NodeId, f64>,
    /// Whom the rewards are paid to.
    pub(crate) address: Option<String>,
}

impl Mining {
    fn check(&self, chains: &Chains) -> Result<()> {
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&self.interval) {
            bail!("a block comes each {} ms to {} s", INTERVAL_MIN.as_millis(), INTERVAL_MAX.as_secs());
        }
        let known: Vec<NodeId> = chains.all().into_iter().map(|(id, ..)| id).collect();
        if let Some((id, _)) = self.shares.iter().find(|(id, _)| !known.contains(id)) {
            bail!("there is no node {id} that could mine");
        }
        if self.shares.values().any(|share| !share.is_finite() || *share < 0.0)
            || (!self.shares.is_empty() && self.shares.values().sum::<f64>() <= 0.0)
        {
            bail!("shares are numbers above nought");
        }
        if let (Some(address), Some((_, calls, _))) = (&self.address, chains.all().first()) {
            let found = calls.call("validateaddress", &json!([address]))?;
            if found["isvalid"] != true {
                bail!("{address} is no address of regtest");
            }
        }
        Ok(())
    }
}

/// Has a node find a block with whatever waits at it. Unlike blocks of `generatetoaddress`, which two nodes may find alike within
/// a second, no two are the same.
pub(crate) fn mine(calls: &Calls, rng: &mut Rng, address: Option<&str>) -> Result<()> {
    let script = match address {
        Some(address) => script_of_address(address).map_err(|words| anyhow!(words))?,
        None => verity_bitcoin::script_from_hex(ANYBODY).context("it is a script")?,
    };
    let template = calls.call("getblocktemplate", &json!([{ "rules": ["segwit"] }]))?;
    let work = Work::new(&template, &script, rng.u64(..))?;
    let search = Search::new(&work.header_bytes(), Way::best());
    let nonce = search.find(0..NONCES, &work.target).context("regtest's target is met by every second nonce")?;
    match calls.call("submitblock", &json!([work.solved(nonce)]))? {
        // It may have been overtaken, and is a branch then.
        Value::String(reason) if reason != "inconclusive" => bail!("the node refuses its own block: {reason}"),
        _ => Ok(()),
    }
}

/// A time between two events that come by themselves.
pub(crate) fn exponential(rng: &mut Rng, mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - rng.f64()).ln())
}

/// Miners at work, until this is dropped.
pub(crate) struct Miners {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Miners {
    /// Sets them to work.
    ///
    /// # Errors
    /// What they were told cannot be meant.
    pub(crate) fn start(chains: &Arc<Chains>, mining: Mining) -> Result<Self> {
        mining.check(chains)?;
        let (stop, stopped) = channel();
        let (chains, mut rng) = (Arc::downgrade(chains), Rng::with_seed(secrets::seed()?));
        let work = move || {
            while stopped.recv_timeout(exponential(&mut rng, mining.interval)) == Err(RecvTimeoutError::Timeout) {
                let Some(chains) = chains.upgrade() else { return };
                if let Some((id, calls)) = chosen(&chains, &mining.shares, &mut rng)
                    && let Err(error) = mine(&calls, &mut rng, mining.address.as_deref())
                {
                    // It crashed, or stands still; others go on.
                    tracing::debug!(node = %id, %error, "a miner finds nothing");
                }
            }
        };
        let thread = std::thread::Builder::new().name("miners".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Miners {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The thread itself may be the last that holds what it mines for.
        let others = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(others) {
            thread.join().expect("the miners' thread does not panic");
        }
    }
}

/// Who finds the next block. Who is down finds none, and its share is not the others': the block does not come.
fn chosen(chains: &Chains, shares: &BTreeMap<NodeId, f64>, rng: &mut Rng) -> Option<(NodeId, Calls)> {
    let all = chains.all();
    if shares.is_empty() {
        return (!all.is_empty()).then(|| all[rng.usize(..all.len())].clone()).map(|(id, calls, _)| (id, calls));
    }
    let mut at = rng.f64() * shares.values().sum::<f64>();
    let id = shares.iter().find(|(_, share)| {
        at -= **share;
        at < 0.0
    });
    let id = *id.or_else(|| shares.last_key_value())?.0;
    all.into_iter().find(|(other, ..)| *other == id).map(|(id, calls, _)| (id, calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_at_the_mean_that_was_asked_for() {
        let (mut rng, mean) = (Rng::with_seed(7), Duration::from_millis(100));
        let all: Vec<Duration> = (0..10_000).map(|_| exponential(&mut rng, mean)).collect();
        let seen = all.iter().sum::<Duration>().as_secs_f64() / all.len() as f64;
        assert!((seen - 0.1).abs() < 0.004, "{seen}");
        let long = all.iter().filter(|span| **span > 2 * mean).count() as f64 / all.len() as f64;
        assert!((long - (-2.0f64).exp()).abs() < 0.02, "{long}");
    }
}
