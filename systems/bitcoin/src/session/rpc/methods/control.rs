//! The server itself, and the clock that tests set.

use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::{Method, State, table};

/// What can be logged, by name.
pub(crate) const CATEGORIES: [&str; 29] = [
    "addrman",
    "bench",
    "blockstorage",
    "cmpctblock",
    "coindb",
    "estimatefee",
    "http",
    "i2p",
    "ipc",
    "kernel",
    "leveldb",
    "mempool",
    "mempoolrej",
    "net",
    "privatebroadcast",
    "proxy",
    "prune",
    "qt",
    "rand",
    "reindex",
    "rpc",
    "scan",
    "selectcoins",
    "tor",
    "txpackages",
    "txreconciliation",
    "validation",
    "walletdb",
    "zmq",
];

/// What a pool for secrets has, and what of it is in use.
const POOL_BYTES: u32 = 256 << 10;
const SECRET_BYTES: u32 = 64;
/// Of a millisecond, which is the least that a call is said to take.
const MICROSECONDS: u64 = 1_000;

pub(crate) fn getrpcinfo(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let now = call.ctx.now_ms;
    let command = |(method, since): &(&'static str, u64)| {
        let duration = now.saturating_sub(*since).max(1) * MICROSECONDS;
        Json::obj().with("method", *method).with("duration", duration)
    };
    let commands = call.state.active.iter().map(command).collect();
    let path = call.state.config.log_path.clone();
    Ok(Json::obj().with("active_commands", Json::Arr(commands)).with("logpath", path))
}

pub(crate) fn help(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let more = call.state.more;
    let name = if args.at(0).is_null() { "" } else { args.text(0)? };
    if name == "dump_all_command_conversions" {
        let mut methods = table::all(more);
        methods.sort_by_key(|method| method.name);
        return Ok(Json::Arr(methods.into_iter().flat_map(Method::conversions).collect()));
    }
    if !name.is_empty() {
        return Ok(match table::find(name, more) {
            Some(method) => method.help().into(),
            None => format!("help: unknown command: {name}").into(),
        });
    }
    let (mut lines, mut category) = (Vec::new(), "");
    for method in table::all(more).into_iter().filter(|method| method.category != "hidden") {
        if category != method.category {
            if !category.is_empty() {
                lines.push(String::new());
            }
            category = method.category;
            let (first, rest) = category.split_at(1);
            lines.push(format!("== {}{rest} ==", first.to_uppercase()));
        }
        lines.push(method.usage());
    }
    Ok(lines.join("\n").into())
}

pub(crate) fn stop(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    *call.ctx.stop = true;
    Ok("Bitcoin Core stopping".into())
}

pub(crate) fn uptime(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok((call.ctx.now_ms.saturating_sub(call.state.start_ms) / 1_000).into())
}

pub(crate) fn getmemoryinfo(_: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    match if args.at(0).is_null() { "stats" } else { args.text(0)? } {
        "stats" => {
            // Of a pool of the usual size, the keyed passwords are in use. None of it is locked.
            let locked = Json::obj()
                .with("used", SECRET_BYTES)
                .with("free", POOL_BYTES - SECRET_BYTES)
                .with("total", POOL_BYTES)
                .with("locked", 0_u32)
                .with("chunks_used", 1_u32)
                .with("chunks_free", 1_u32);
            Ok(Json::obj().with("locked", locked))
        }
        "mallocinfo" => Err(RpcError::param("mallocinfo mode not available")),
        mode => Err(RpcError::param(format!("unknown mode {mode}"))),
    }
}

/// What `-debug` asks for: `1` is all of them, and `0` none of those before it.
pub(crate) fn categories_of(said: &[String]) -> Vec<String> {
    let last_none = said.iter().rposition(|name| matches!(name.as_str(), "0" | "none"));
    let said = &said[last_none.map_or(0, |place| place + 1)..];
    let asked = |own: &str| said.iter().any(|name| matches!(name.as_str(), "all" | "1" | "") || name == own);
    CATEGORIES.iter().filter(|own| asked(own)).map(ToString::to_string).collect()
}

fn switch(state: &mut State, names: &Json, on: bool) -> Result<(), RpcError> {
    for name in names.items()? {
        let name = name.text()?;
        let all = matches!(name, "all" | "1" | "");
        if !all && name != "libevent" && !CATEGORIES.contains(&name) {
            return Err(RpcError::param(format!("unknown logging category {name}")));
        }
        let active = &mut state.config.log_categories;
        active.retain(|own| !all && own != name);
        if on {
            active.extend(CATEGORIES.iter().filter(|own| all || **own == name).map(ToString::to_string));
        }
    }
    Ok(())
}

pub(crate) fn logging(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    for (index, on) in [(0, true), (1, false)] {
        if !args.at(index).is_null() {
            switch(call.state, args.at(index), on)?;
        }
    }
    let active = &call.state.config.log_categories;
    let is_on = |name: &str| active.iter().any(|own| own == name);
    Ok(CATEGORIES.iter().fold(Json::obj(), |json, name| json.with(name, is_on(name))))
}

pub(crate) fn getzmqnotifications(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let told = call.state.config.zmq.iter().map(|(topic, address, high_water)| {
        Json::obj().with("type", topic.as_str()).with("address", address.as_str()).with("hwm", *high_water)
    });
    Ok(Json::Arr(told.collect()))
}

pub(crate) fn echo(_: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    if matches!(args.at(9), Json::Str(text) if text == "trigger_internal_bug") {
        let words = "Internal bug detected: request.params[9].get_str() != \"trigger_internal_bug\"";
        return Err(RpcError::misc(words));
    }
    Ok(Json::Arr(args.as_slice().to_vec()))
}

pub(crate) fn echoipc(_: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    Ok(args.text(0)?.into())
}

fn for_tests(call: &Call<'_, '_>, name: &str) -> Result<(), RpcError> {
    if call.chain().params().mine_on_demand {
        return Ok(());
    }
    Err(RpcError::misc(format!("{name} is for regression testing (-regtest mode) only")))
}

pub(crate) fn setmocktime(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    for_tests(call, "setmocktime")?;
    let time: i64 = args.at(0).int()?;
    let Ok(seconds) = u32::try_from(time) else {
        return Err(RpcError::param(format!("Mocktime must be in the range [0, {}], not {time}.", u32::MAX)));
    };
    call.ctx.node.set_mock_time((seconds > 0).then_some(seconds.into()));
    Ok(Json::Null)
}

pub(crate) fn mockscheduler(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    for_tests(call, "mockscheduler")?;
    let seconds: i64 = args.at(0).int()?;
    let valid = u64::try_from(seconds).ok().filter(|seconds| (1..=3_600).contains(seconds));
    let seconds = valid.ok_or_else(|| RpcError::misc("delta_time must be between 1 and 3600 seconds (1 hr)"))?;
    call.state.scheduler_seconds += seconds;
    Ok(Json::Null)
}

/// All hear of the chain before the next call is looked at.
pub(crate) fn syncwithvalidationinterfacequeue(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(Json::Null)
}

pub(crate) fn enumeratesigners(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Err(RpcError::misc("Error: restart bitcoind with -signer=<cmd>"))
}

pub(crate) fn getindexinfo(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let wanted = if args.at(0).is_null() { "" } else { args.text(0)? };
    let tip = call.chain().height();
    let mut json = Json::obj();
    for (name, height) in call.index_progress() {
        if wanted.is_empty() || wanted == name {
            json.put(name, Json::obj().with("synced", height >= tip).with("best_block_height", height));
        }
    }
    Ok(json)
}
