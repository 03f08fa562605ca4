//! How long clients are made to wait that do more than their quotas allow (KIP-13, KIP-124, KIP-599).
//!
//! - upon bytes: they count in the sample of the second in which they came; samples of the last [`SAMPLES`] seconds make
//!   the rate, and a client that exceeds it waits until the rate is what the quota says;
//! - upon mutations of topics: they take tokens from a bucket that fills as fast as the quota says and holds what comes in
//!   [`SAMPLES`] seconds. Who finds less than none waits until there are some; new clients are refused until then.
//!
//! Who shares a quota shares its samples: the client ids of a user, the users of a default, as [`QuotaMatch`] says.
//! The client is not held up here: the answer tells it how long to wait.
//!
//! Bounds: [`METERS_MAX`] clients are counted. HAZARD: clients beyond those are not made to wait; a client that nobody
//! has heard of for a while makes room.
//!
//! Deliberately absent: shares of a thread's time (`request_percentage`), and connections a second.

use std::collections::{BTreeMap, VecDeque};

use super::call::Call;
use super::node::State;
use crate::machine::cluster::{CONTROLLER_MUTATION_RATE, QuotaMatch};

/// `quota.window.num`.
const SAMPLES: i64 = 11;
/// `quota.window.size.seconds`.
const WINDOW_MS: i64 = 1_000;
/// Nobody who was silent for so long has anything left that counts.
const SILENT_MS: i64 = SAMPLES * WINDOW_MS;
/// There are never more clients who are counted.
const METERS_MAX: usize = 20_000;

/// Whose: a quota's name, the user and the client id, if each of them has it for itself.
type MeterKey = (String, Option<String>, Option<String>);

/// What a client did.
#[derive(Debug)]
enum Meter {
    /// How much in which second: its beginning and the amount.
    Rate(VecDeque<(i64, f64)>),
    /// How many tokens there were, and when that was.
    Bucket { tokens: f64, at: i64 },
}

/// What clients did.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    /// With the moment in which each was last heard.
    meters: BTreeMap<MeterKey, (i64, Meter)>,
    swept: i64,
}

/// A number of milliseconds as clients are told it.
fn millis(span: f64) -> i32 {
    // A float is cut off at the ends of the integer's range.
    span.round().max(0.0) as i32
}

fn add_sample(samples: &mut VecDeque<(i64, f64)>, now: i64, amount: f64) {
    match samples.back_mut() {
        Some((since, sum)) if now - *since < WINDOW_MS => *sum += amount,
        _ => samples.push_back((now, amount)),
    }
    while samples.front().is_some_and(|(since, _)| now - since >= SILENT_MS) {
        samples.pop_front();
    }
}

/// How long until the rate is the limit: the amount is spread over the time since the oldest sample, or over ten windows
/// if that is more.
fn wait_for_rate(samples: &VecDeque<(i64, f64)>, now: i64, limit: f64) -> i32 {
    let sum: f64 = samples.iter().map(|(_, amount)| amount).sum();
    let elapsed = now - samples.front().map_or(now, |(since, _)| *since);
    let missing = (SAMPLES - 1 - elapsed / WINDOW_MS).max(0);
    let window = (elapsed + missing * WINDOW_MS).max(WINDOW_MS) as f64;
    let rate = sum / window * 1_000.0;
    if rate <= limit { 0 } else { millis((rate - limit) / limit * window) }
}

/// The tokens that there are now.
fn refill(tokens: f64, at: i64, now: i64, limit: f64) -> f64 {
    let most = limit * SAMPLES as f64;
    (tokens + (now - at).max(0) as f64 / 1_000.0 * limit).min(most)
}

impl Quotas {
    /// The meter of a client, if there is room for it.
    fn meter(&mut self, key: MeterKey, now: i64, new: impl FnOnce() -> Meter) -> Option<&mut Meter> {
        if self.meters.len() >= METERS_MAX && !self.meters.contains_key(&key) {
            if now - self.swept < WINDOW_MS {
                return None;
            }
            self.swept = now;
            self.meters.retain(|_, (heard, meter)| match meter {
                Meter::Rate(_) => now - *heard < SILENT_MS,
                // Who owes more than a bucket holds is not forgiven it by silence.
                Meter::Bucket { tokens, .. } => now - *heard < SILENT_MS || *tokens < 0.0,
            });
            if self.meters.len() >= METERS_MAX {
                return None;
            }
        }
        let (heard, meter) = self.meters.entry(key).or_insert_with(|| (now, new()));
        *heard = now;
        Some(meter)
    }

    fn charge(&mut self, key: MeterKey, now: i64, limit: f64, amount: f64) -> i32 {
        let new = || match key.0.as_str() {
            CONTROLLER_MUTATION_RATE => Meter::Bucket { tokens: limit * SAMPLES as f64, at: now },
            _ => Meter::Rate(VecDeque::new()),
        };
        match self.meter(key.clone(), now, new) {
            None => 0,
            Some(Meter::Rate(samples)) => {
                add_sample(samples, now, amount);
                wait_for_rate(samples, now, limit)
            }
            Some(Meter::Bucket { tokens, at }) => {
                *tokens = refill(*tokens, *at, now, limit) - amount;
                *at = now;
                if *tokens < 0.0 { millis(-*tokens / limit * 1_000.0) } else { 0 }
            }
        }
    }
}

fn key_of(found: &QuotaMatch, call: &Call, quota: &str) -> MeterKey {
    let user = found.by_user.then(|| user(call).to_owned());
    let client_id = found.by_client_id.then(|| call.client_id.clone());
    (quota.to_owned(), user, client_id)
}

/// The name of who asks, without what kind of principal it is.
fn user(call: &Call) -> &str {
    call.principal.strip_prefix("User:").unwrap_or(&call.principal)
}

/// A client did so much of what a quota counts (bytes, partitions). For how many milliseconds it is to wait.
pub(super) fn charge(state: &mut State, call: &Call, quota: &str, amount: f64) -> i32 {
    let Some(found) = state.image.quota_of(user(call), &call.client_id, quota) else { return 0 };
    let now = i64::try_from(state.now.mono.0 / 1_000_000).unwrap_or(i64::MAX);
    state.quotas.charge(key_of(&found, call, quota), now, found.limit, amount)
}

/// A client wants to create or delete so many partitions. If it did too much already it may not (`strict`), and is told
/// for how long; else this counts, and it is told how long to wait before the next.
pub(super) fn mutate(state: &mut State, call: &Call, strict: bool, partitions: usize) -> Result<i32, i32> {
    let owed = charge(state, call, CONTROLLER_MUTATION_RATE, 0.0);
    if strict && owed > 0 {
        return Err(owed);
    }
    Ok(charge(state, call, CONTROLLER_MUTATION_RATE, partitions as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cluster::PRODUCER_BYTE_RATE;

    fn key(quota: &str) -> MeterKey {
        (quota.to_owned(), Some("alice".to_owned()), None)
    }

    #[test]
    fn who_exceeds_a_rate_waits_until_the_rate_is_what_it_may_be() {
        let mut quotas = Quotas::default();
        let mut charge = |now: i64, amount: f64| quotas.charge(key(PRODUCER_BYTE_RATE), now, 100.0, amount);
        // Ten windows are taken to have passed: 1000 bytes are as many as may be.
        assert_eq!(charge(5_000, 1_000.0), 0);
        assert_eq!(charge(5_000, 500.0), 5_000);
        assert_eq!(charge(5_500, 0.0), 4_500);
        // Samples count for eleven seconds.
        assert_eq!(charge(15_999, 0.0), 4_001);
        assert_eq!(charge(16_000, 0.0), 0);
    }

    #[test]
    fn a_steady_client_within_its_rate_never_waits() {
        let mut quotas = Quotas::default();
        for second in 0..100 {
            assert_eq!(quotas.charge(key(PRODUCER_BYTE_RATE), second * 1_000, 100.0, 90.0), 0, "{second}");
        }
        let samples: Vec<_> = quotas.meters.values().collect();
        assert!(matches!(samples[..], [(_, Meter::Rate(samples))] if samples.len() as i64 <= SAMPLES));
    }

    #[test]
    fn mutations_take_tokens_that_come_again() {
        let mut quotas = Quotas::default();
        let mut charge = |now: i64, amount: f64| quotas.charge(key(CONTROLLER_MUTATION_RATE), now, 2.0, amount);
        assert_eq!(charge(0, 22.0), 0, "as many as come in eleven seconds");
        assert_eq!(charge(0, 4.0), 2_000);
        assert_eq!(charge(1_000, 0.0), 1_000);
        assert_eq!(charge(2_000, 0.0), 0);
        assert_eq!(charge(100_000, 22.0), 0, "a bucket does not overflow");
        assert_eq!(charge(100_000, 1.0), 500);
    }

    #[test]
    fn clients_who_are_silent_make_room() {
        let mut quotas = Quotas::default();
        let named = |name: usize| (PRODUCER_BYTE_RATE.to_owned(), Some(name.to_string()), None);
        for name in 0..METERS_MAX {
            quotas.charge(named(name), 5_000, 1.0, 100.0);
        }
        assert_eq!(quotas.charge(named(METERS_MAX), 5_000, 1.0, 100.0), 0, "nobody is counted any more");
        assert_eq!(quotas.meters.len(), METERS_MAX);
        assert!(quotas.charge(named(METERS_MAX), 5_000 + SILENT_MS, 1.0, 100.0) > 0);
        assert_eq!(quotas.meters.len(), 1);
    }
}
