//! What transactions should pay.

use crate::mempool::{Bucket, Horizon};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;

fn target(call: &Call<'_, '_>, args: &Args) -> Result<u32, RpcError> {
    let most = call.mempool().estimator().target_max(Horizon::Long);
    let target: i32 = args.at(0).int()?;
    let valid = u32::try_from(target).ok().filter(|target| (1..=most).contains(target));
    valid.ok_or_else(|| RpcError::param(format!("Invalid conf_target, must be between 1 and {most}")))
}

pub(crate) fn estimatesmartfee(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let target = target(call, args)?;
    let mode = if args.at(1).is_null() { "economical" } else { args.text(1)? };
    let conservative = match mode.to_ascii_lowercase().as_str() {
        "conservative" => true,
        "economical" | "unset" => false,
        _ => {
            let words = "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"";
            return Err(RpcError::param(words));
        }
    };
    let mempool = call.mempool();
    let estimate = mempool.estimator().estimate_smart(target, conservative);
    let info = mempool.info(call.time());
    let json = match estimate.rate {
        Some(rate) => {
            let rate = rate.max(info.fee_rate_min).max(info.relay_rate_min);
            Json::obj().with("feerate", Json::amount(rate.cast_signed()))
        }
        None => Json::obj().with("errors", Json::arr(["Insufficient data or no feerate found"])),
    };
    Ok(json.with("blocks", estimate.target))
}

fn bucket_json(bucket: &Bucket) -> Json {
    let cents = |value: f64| Json::float((value * 100.0).round() / 100.0);
    Json::obj()
        .with("startrange", Json::float(bucket.start.round()))
        .with("endrange", Json::float(bucket.end.round()))
        .with("withintarget", cents(bucket.within_target))
        .with("totalconfirmed", cents(bucket.total_confirmed))
        .with("inmempool", cents(bucket.in_mempool))
        .with("leftmempool", cents(bucket.left_mempool))
}

pub(crate) fn estimaterawfee(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let target = target(call, args)?;
    let threshold = if args.at(1).is_null() { 0.95 } else { args.at(1).real()? };
    if !(0.0..=1.0).contains(&threshold) {
        return Err(RpcError::param("Invalid threshold"));
    }
    let mut json = Json::obj();
    for horizon in Horizon::ALL {
        let Some(estimate) = call.mempool().estimator().estimate_raw(target, threshold, horizon) else { continue };
        let mut row = Json::obj();
        if let Some(rate) = estimate.rate {
            row.put("feerate", Json::amount(rate.cast_signed()));
        }
        row.put("decay", Json::float(estimate.decay));
        row.put("scale", estimate.scale);
        if estimate.rate.is_some() {
            row.put("pass", bucket_json(&estimate.pass));
        }
        // All passed if none is the highest that did not.
        if estimate.rate.is_none() || estimate.fail.start >= 0.0 {
            row.put("fail", bucket_json(&estimate.fail));
        }
        if estimate.rate.is_none() {
            row.put("errors", Json::arr(["Insufficient data or no feerate found which meets threshold"]));
        }
        json.put(horizon.name(), row);
    }
    Ok(json)
}
