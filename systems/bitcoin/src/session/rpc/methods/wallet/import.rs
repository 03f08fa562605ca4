//! Descriptors that come from outside.

use super::super::scan::range;
use super::{Here, bool_of, given, here, label, save};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::{self, Descriptor};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::methods::wallet::failed;
use crate::wallet::{Named, Source, rescan};

/// A block may be so many seconds older than what is in it.
const TIMESTAMP_WINDOW: u64 = 2 * 60 * 60;

struct Request {
    descriptors: Vec<Descriptor>,
    active: bool,
    internal: Option<bool>,
    label: String,
    range: Option<(u32, u32)>,
    next: Option<u32>,
    timestamp: u64,
}

fn timestamp(value: &Json, now: u64) -> Result<u64, RpcError> {
    match value {
        Json::Null => Err(RpcError::kind("Missing required timestamp field for key")),
        Json::Num(_) => Ok(value.int::<i64>()?.max(1).unsigned_abs()),
        Json::Str(text) if text == "now" => Ok(now),
        other => {
            let words = "Expected number or \"now\" timestamp value for key. got type ";
            Err(RpcError::kind(format!("{words}{}", other.type_name())))
        }
    }
}

fn read(here: &Here<'_>, value: &Json, now: u64, warnings: &mut Vec<&'static str>) -> Result<Request, RpcError> {
    let Some(text) = given(value, "desc") else { return Err(RpcError::param("Descriptor not found.")) };
    let active = bool_of(value, "active", false)?;
    let label = label(value.get("label"))?;
    let descriptors = descriptor::parse(text.text()?, here.network(), true).map_err(RpcError::key)?;
    let internal = given(value, "internal").map(Json::bool).transpose()?;
    if descriptors.len() > 1 && internal.is_some() {
        return Err(RpcError::param("Cannot have multipath descriptor while also specifying 'internal'"));
    }
    let ranged = descriptors.iter().any(Descriptor::is_range);
    let mut bounds = None;
    let mut next = None;
    if !ranged && given(value, "range").is_some() {
        return Err(RpcError::param("Range should not be specified for an un-ranged descriptor"));
    }
    if ranged {
        if let Some(value) = given(value, "range") {
            let (low, high) = range(value)?;
            let narrow = |value: i64| u32::try_from(value).map_err(|_| RpcError::param("End of range is too high"));
            bounds = Some((narrow(low)?, narrow(high)? + 1));
        } else {
            warnings.push("Range not given, using default keypool range");
        }
        if let Some(value) = given(value, "next_index") {
            let (low, end) = bounds.unwrap_or((0, here.wallet.ahead));
            let index: i64 = value.int()?;
            let index = u32::try_from(index).ok().filter(|index| (low..end).contains(index));
            next = Some(index.ok_or_else(|| RpcError::param("next_index is out of range"))?);
        }
    }
    if active && !ranged {
        return Err(RpcError::param("Active descriptors must be ranged"));
    }
    if descriptors.len() > 1 && !label.is_empty() {
        return Err(RpcError::param("Multipath descriptors should not have a label"));
    }
    if ranged && !label.is_empty() {
        return Err(RpcError::param("Ranged descriptors should not have a label"));
    }
    if internal == Some(true) && !label.is_empty() {
        return Err(RpcError::param("Internal addresses should not have a label"));
    }
    if active && descriptors.iter().any(Descriptor::is_combo) {
        return Err(failed("Combo descriptors cannot be set to active"));
    }
    let timestamp = timestamp(value.get("timestamp"), now)?;
    Ok(Request { descriptors, active, internal, label, range: bounds, next, timestamp })
}

/// Does the wallet take private keys, and does the descriptor have them?
fn keys_fit(here: &Here<'_>, one: &Descriptor, warnings: &mut Vec<&'static str>) -> Result<(), RpcError> {
    let (private, all) = one.private_count();
    if here.wallet.flags.watch_only && private > 0 {
        return Err(failed("Cannot import private keys to a wallet with private keys disabled"));
    }
    if !here.wallet.flags.watch_only {
        if private == 0 {
            return Err(failed("Cannot import descriptor without private keys to a wallet with private keys enabled"));
        }
        if private < all {
            warnings.push("Not all private keys provided. Some wallet functionality may return unexpected errors");
        }
    }
    Ok(())
}

fn import(here: &mut Here<'_>, value: &Json, now: u64, warnings: &mut Vec<&'static str>) -> Result<u64, RpcError> {
    let request = read(here, value, now, warnings)?;
    for (at, one) in request.descriptors.iter().enumerate() {
        keys_fit(here, one, warnings)?;
        let internal = request.internal.unwrap_or(request.descriptors.len() > 1 && at == 1);
        if one.expand(0, &mut descriptor::Known::default()).is_none() {
            return Err(failed(
                "Cannot expand descriptor. Probably because of hardened derivations without private keys provided",
            ));
        }
        let mut source = Source::new(one.clone(), here.network(), request.timestamp).map_err(RpcError::key)?;
        let (begin, end) = match request.range {
            Some(bounds) if source.is_range() => bounds,
            _ if source.is_range() => (0, here.wallet.ahead),
            _ => (0, 1),
        };
        (source.begin, source.end, source.next) = (begin, end, request.next.unwrap_or(begin));
        if !source.is_range() {
            source.next = 0;
        }
        (source.active, source.internal) = (request.active, internal);
        if request.active && source.kind().is_none() {
            warnings.push("Unknown output type, cannot set descriptor to active.");
            source.active = false;
        }
        put(here, source, value.get("desc").text()?)?;
        if !source_is_ranged(one) {
            label_scripts(here, one, &request.label, internal);
        }
    }
    Ok(request.timestamp)
}

fn source_is_ranged(one: &Descriptor) -> bool {
    one.is_range()
}

/// Addresses of a descriptor without a range are given out as they come.
fn label_scripts(here: &mut Here<'_>, one: &Descriptor, label: &str, internal: bool) {
    if internal {
        return;
    }
    for script in one.expand(0, &mut descriptor::Known::default()).unwrap_or_default() {
        if super::address(&script, here.wallet.network).is_some() {
            here.wallet.book.insert(script, Named { label: label.to_owned(), receive: true });
        }
    }
}

/// Adds a source, or widens the one that is there.
fn put(here: &mut Here<'_>, source: Source, text: &str) -> Result<(), RpcError> {
    let Some(at) = here.wallet.sources.iter().position(|own| own.text == source.text) else {
        here.wallet.add_source(source, here.entropy);
        here.wallet.derive();
        return Ok(());
    };
    let own = here.wallet.sources[at].clone();
    if source.is_range() && own.is_range() && (source.begin > own.begin || source.end < own.end) {
        let (low, high) = (own.begin, own.end.saturating_sub(1));
        let words = format!("new range must include current range = [{low},{high}]");
        return Err(failed(format!("Could not add descriptor '{text}': {words}")));
    }
    let mut merged = own.clone();
    merged.timestamp = own.timestamp.min(source.timestamp);
    (merged.begin, merged.end) = (source.begin, source.end.max(own.end));
    // Whoever imports a descriptor says where to go on: at the range's begin, if not elsewhere.
    merged.next = source.next;
    (merged.active, merged.internal) = (source.active, source.internal);
    if merged.private().is_none() && merged.sealed.is_none() {
        merged.set_private(source.private().cloned());
    }
    if merged.active {
        let kind = merged.kind();
        for other in &mut here.wallet.sources {
            if other.active && other.internal == merged.internal && other.kind() == kind {
                other.active = false;
            }
        }
    }
    merged.reach(here.wallet.ahead);
    here.wallet.sources[at] = merged;
    here.wallet.dirty = true;
    here.wallet.derive_all();
    Ok(())
}

pub(super) fn importdescriptors(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let requests = args.at(0).items()?;
    let mut here = here(call)?;
    here.unlocked()?;
    let chain = here.node.chain();
    let tip_time = u64::from(chain.tree().median_time_past(chain.tip()));
    let (mut rows, mut oldest, mut any) = (Vec::new(), u64::MAX, false);
    for request in requests {
        let mut warnings = Vec::new();
        let outcome = import(&mut here, request, tip_time.max(1), &mut warnings);
        let mut row = Json::obj().with("success", outcome.is_ok());
        match outcome {
            Ok(timestamp) => {
                oldest = oldest.min(timestamp);
                any = true;
            }
            Err(error) => row.put("error", Json::obj().with("code", error.code).with("message", error.message)),
        }
        if !warnings.is_empty() {
            row.put("warnings", Json::arr(warnings));
        }
        rows.push(row);
    }
    if any {
        let from = first_block_since(&here, oldest.saturating_sub(TIMESTAMP_WINDOW));
        let tip = here.node.chain().height();
        let pruned = here.node.chain().prune().and_then(|_| here.node.chain().pruned_height());
        if let Some(from) = from {
            rescan(here.wallet, here.node, from, tip)?;
            if pruned.is_some_and(|pruned| from <= pruned) {
                rows = rows.into_iter().map(incomplete).collect();
            }
        }
        here.wallet.dirty = true;
        save(call)?;
    }
    Ok(Json::Arr(rows))
}

/// The row of a descriptor that was taken, whose past was thrown away in part.
fn incomplete(row: Json) -> Json {
    if row.get("success").bool() != Ok(true) {
        return row;
    }
    let words =
        "Rescan failed: blocks of that time are pruned, so that what the descriptor had may not appear in the wallet";
    Json::obj().with("success", false).with("error", Json::obj().with("code", -1).with("message", words))
}

/// The first block of the chain that is not older.
fn first_block_since(here: &Here<'_>, time: u64) -> Option<u32> {
    let chain = here.node.chain();
    let mut newest = 0;
    (0..=chain.height()).find(|height| {
        let time_of = chain.active(*height).map_or(0, |id| u64::from(chain.entry(id).header.time));
        newest = newest.max(time_of);
        newest >= time
    })
}
