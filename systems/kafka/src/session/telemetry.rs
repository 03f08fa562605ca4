//! What clients say about themselves (KIP-714).
//!
//! - upon GetTelemetrySubscriptions: the client learns which metrics are wanted of it and how often, by all subscriptions
//!   that match it, and gets an id if it has none;
//! - upon PushTelemetry: what it pushes must belong to that answer, come no more often than asked for, be no larger than
//!   `telemetry.max.bytes`, and decompress; then it is counted, and goes no further.
//!
//! Bounds: [`CLIENTS_MAX`] clients are known; the one that was silent for longest is forgotten.
//!
//! Deliberately absent: what the metrics say. Nobody here reads OpenTelemetry's encoding.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use regex::RegexBuilder;

use super::call::Call;
use super::node::{Node, State};
use crate::wire::message::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, PushTelemetryRequest, PushTelemetryResponse,
};
use crate::wire::{Codec, ErrorCode, Uuid};

/// There are never more clients that are known.
const CLIENTS_MAX: usize = 16_384;
/// How often clients push that no subscription says it to.
const INTERVAL_MS: i32 = 300_000;
/// `telemetry.max.bytes`.
const SIZE_MAX: usize = 1_048_576;
/// Pushed metrics have no more bytes when they are decompressed.
const DECOMPRESSED_SIZE_MAX: usize = 16 << 20;
/// A pattern becomes no larger than this, compiled.
const PATTERN_SIZE_MAX: usize = 64 << 10;
/// What stands for all metrics.
const ALL_METRICS: &str = "*";

/// A client that was heard.
#[derive(Debug, Default)]
struct Client {
    asked_at: Option<i64>,
    pushed_at: Option<i64>,
    /// It has pushed for the last time.
    terminated: bool,
    /// It was told to ask again.
    outdated: bool,
}

/// What clients said.
#[derive(Debug, Default)]
pub(super) struct Telemetry {
    clients: BTreeMap<Uuid, Client>,
    /// How many pushes were taken.
    pub(super) pushes: u64,
    /// How many bytes these had, decompressed.
    pub(super) pushed_bytes: u64,
    /// How many pushes were refused.
    pub(super) refused: u64,
}

/// What is wanted of a client.
#[derive(Debug, PartialEq, Eq)]
struct Subscription {
    id: i32,
    interval_ms: i32,
    metrics: Vec<String>,
}

impl Telemetry {
    fn client(&mut self, id: Uuid) -> &mut Client {
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&id) {
            let silent = self.clients.iter().min_by_key(|(_, client)| client.asked_at.max(client.pushed_at));
            if let Some(silent) = silent.map(|(id, _)| *id) {
                self.clients.remove(&silent);
            }
        }
        self.clients.entry(id).or_default()
    }
}

/// Now, in milliseconds that never go back.
fn now_ms(state: &State) -> i64 {
    i64::try_from(state.now.mono.0 / 1_000_000).unwrap_or(i64::MAX)
}

/// Does a whole text match a pattern? One that does not compile matches nothing.
fn matches(pattern: &str, text: &str) -> bool {
    let whole = format!("^(?:{pattern})$");
    RegexBuilder::new(&whole).size_limit(PATTERN_SIZE_MAX).build().is_ok_and(|pattern| pattern.is_match(text))
}

/// Does a subscription match a client? Only if each of its patterns does.
fn applies(values: &BTreeMap<String, String>, properties: &BTreeMap<&str, String>) -> bool {
    let Some(patterns) = values.get("match").filter(|patterns| !patterns.trim().is_empty()) else { return true };
    patterns.split(',').all(|pair| {
        let Some((property, pattern)) = pair.split_once('=') else { return false };
        properties.get(property.trim()).is_some_and(|value| matches(pattern.trim(), value))
    })
}

/// What is wanted of a client, by all subscriptions together.
fn subscription(state: &State, call: &Call, client: Uuid) -> Subscription {
    let connection = state.connections.get(&call.conn);
    let (software, port) = connection.map_or_else(Default::default, |connection| {
        (connection.software.clone(), connection.peer.addr.port().to_string())
    });
    let properties = BTreeMap::from([
        ("client_instance_id", client.to_string()),
        ("client_id", call.client_id.clone()),
        ("client_software_name", software.0),
        ("client_software_version", software.1),
        ("client_source_address", call.host.clone()),
        ("client_source_port", port),
    ]);
    let mut metrics: BTreeSet<String> = BTreeSet::new();
    let mut interval_ms = None;
    for (_, values) in state.image.client_metrics().filter(|(_, values)| applies(values, &properties)) {
        let wanted = values.get("metrics").map(String::as_str).unwrap_or_default();
        metrics.extend(wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        let interval = values.get("interval.ms").and_then(|text| text.trim().parse().ok()).unwrap_or(INTERVAL_MS);
        interval_ms = Some(interval_ms.map_or(interval, |least: i32| least.min(interval)));
    }
    if metrics.contains(ALL_METRICS) {
        metrics = BTreeSet::from([ALL_METRICS.to_owned()]);
    }
    let (interval_ms, metrics) = (interval_ms.unwrap_or(INTERVAL_MS), metrics.into_iter().collect::<Vec<String>>());
    let text = format!("{metrics:?}{interval_ms}{client}");
    let id = crc32c::crc32c(text.as_bytes()).cast_signed();
    Subscription { id, interval_ms, metrics }
}

/// May a client ask again?
fn may_ask(client: &Client, now: i64, interval_ms: i32) -> bool {
    let early = client.asked_at.is_some_and(|at| now - at < i64::from(interval_ms));
    // Who was told to ask may, and who pushed since it asked.
    !early || client.outdated || client.pushed_at > client.asked_at
}

pub(super) fn subscriptions(
    node: &Node,
    call: &Call,
    request: &GetTelemetrySubscriptionsRequest,
) -> GetTelemetrySubscriptionsResponse {
    let mut state = node.state();
    let id = if request.client_instance_id.is_zero() { state.draw() } else { request.client_instance_id };
    let wanted = subscription(&state, call, id);
    let now = now_ms(&state);
    let client = state.telemetry.client(id);
    if !may_ask(client, now, wanted.interval_ms) {
        let error_code = ErrorCode::THROTTLING_QUOTA_EXCEEDED.0;
        return GetTelemetrySubscriptionsResponse { error_code, client_instance_id: id, ..Default::default() };
    }
    (client.asked_at, client.outdated) = (Some(now), false);
    GetTelemetrySubscriptionsResponse {
        throttle_time_ms: 0,
        error_code: super::NO_ERROR,
        client_instance_id: id,
        subscription_id: wanted.id,
        // The best come first.
        accepted_compression_types: [Codec::Zstd, Codec::Lz4, Codec::Gzip, Codec::Snappy]
            .map(|codec| codec.number().cast_signed())
            .to_vec(),
        push_interval_ms: wanted.interval_ms,
        telemetry_max_bytes: i32::try_from(SIZE_MAX).unwrap_or(i32::MAX),
        delta_temporality: true,
        requested_metrics: wanted.metrics,
    }
}

/// May a client push this? If so, with what it was compressed.
fn admit(state: &mut State, call: &Call, request: &PushTelemetryRequest) -> Result<Codec, ErrorCode> {
    if request.client_instance_id.is_zero() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let wanted = subscription(state, call, request.client_instance_id);
    let now = now_ms(state);
    let client = state.telemetry.client(request.client_instance_id);
    if client.terminated {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let early = client.pushed_at.is_some_and(|at| now - at < i64::from(wanted.interval_ms));
    if early && !request.terminating && !client.outdated {
        return Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    }
    client.terminated = request.terminating;
    client.pushed_at = Some(now);
    if request.subscription_id != wanted.id {
        client.outdated = true;
        return Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID);
    }
    let Some(codec) = u8::try_from(request.compression_type).ok().and_then(Codec::from_number) else {
        client.outdated = true;
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    };
    if request.metrics.len() > SIZE_MAX {
        return Err(ErrorCode::TELEMETRY_TOO_LARGE);
    }
    Ok(codec)
}

fn take(state: &mut State, call: &Call, request: &PushTelemetryRequest) -> Result<(), ErrorCode> {
    let codec = admit(state, call, request)?;
    let metrics = match request.metrics.is_empty() {
        true => Bytes::new(),
        false => {
            let plain = codec.decompress(&request.metrics, DECOMPRESSED_SIZE_MAX);
            plain.map_err(|_| ErrorCode::INVALID_RECORD)?
        }
    };
    state.telemetry.pushes += 1;
    state.telemetry.pushed_bytes += metrics.len() as u64;
    Ok(())
}

pub(super) fn push(node: &Node, call: &Call, request: &PushTelemetryRequest) -> PushTelemetryResponse {
    let mut state = node.state();
    let error = take(&mut state, call, request).err().unwrap_or_default();
    state.telemetry.refused += u64::from(error != ErrorCode::NONE);
    PushTelemetryResponse { throttle_time_ms: 0, error_code: error.0 }
}
