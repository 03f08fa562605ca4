//! Soft forks: those that hold from a height on, and those that miners vote on (BIP 9).
//!
//! Of the latter there is one, `testdummy`, on regtest: it changes no rule, and is there so that voting can be seen.

use verity_nakamoto::BlockId;

use crate::chain::Chain;
use crate::mining::signal::{self, Deployment, State};
use crate::script::Flags;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;

fn voted(chain: &Chain, deployment: &Deployment, id: BlockId) -> Json {
    let (tree, entry) = (chain.tree(), chain.entry(id));
    let of = |prev: Option<BlockId>| match prev {
        Some(prev) => (deployment.state_after(tree, prev), deployment.since(tree, prev)),
        None => (State::Defined, 0),
    };
    let ((current, since), (next, next_since)) = (of(entry.prev), of(Some(id)));
    let counts = matches!(current, State::Started | State::LockedIn);
    let mut vote = Json::obj();
    if counts {
        vote.put("bit", deployment.bit);
    }
    vote = vote
        .with("start_time", deployment.start.unwrap_or(-1))
        .with("timeout", deployment.timeout)
        .with("min_activation_height", deployment.min_activation_height)
        .with("status", current.name())
        .with("since", since)
        .with("status_next", next.name());
    if counts {
        let count = deployment.count(tree, id);
        let mut statistics = Json::obj()
            .with("period", deployment.period)
            .with("elapsed", count.signalling.len())
            .with("count", count.count);
        // Once it is locked in, votes decide nothing any more.
        if current == State::Started {
            statistics.put("threshold", deployment.threshold);
            statistics.put("possible", count.possible);
        }
        vote.put("statistics", statistics);
        let marks: String = count.signalling.iter().map(|stands| if *stands { '#' } else { '-' }).collect();
        vote.put("signalling", marks);
    }
    let mut json = Json::obj().with("type", "bip9");
    let active_since = match (current, next) {
        (State::Active, _) => Some(since),
        (_, State::Active) => Some(next_since),
        _ => None,
    };
    if let Some(since) = active_since {
        json.put("height", since);
    }
    json.with("active", active_since.is_some_and(|since| since <= entry.height + 1)).with("bip9", vote)
}

/// The rules for scripts of this very block.
fn flags(chain: &Chain, id: BlockId) -> Flags {
    let (params, entry) = (chain.params(), chain.entry(id));
    let mut flags = match params.script_exceptions.get(&entry.hash) {
        Some(flags) => *flags,
        None => Flags::P2SH | Flags::WITNESS | Flags::TAPROOT,
    };
    for (height, flag) in [
        (params.headers.bip66_height, Flags::DERSIG),
        (params.headers.bip65_height, Flags::CHECKLOCKTIMEVERIFY),
        (params.csv_height, Flags::CHECKSEQUENCEVERIFY),
        (params.segwit_height, Flags::NULLDUMMY),
    ] {
        if entry.height >= height {
            flags |= flag;
        }
    }
    flags
}

/// What holds at a block.
pub(crate) fn info(chain: &Chain, id: BlockId) -> Json {
    let (params, entry) = (chain.params(), chain.entry(id));
    let flags = flags(chain, id);
    let mut names: Vec<&str> =
        Flags::NAMED.iter().filter(|(_, flag)| flags.has(*flag)).map(|(name, _)| *name).collect();
    names.sort_unstable();
    let mut deployments = Json::obj();
    for (name, height) in [
        ("bip34", params.headers.bip34_height),
        ("bip66", params.headers.bip66_height),
        ("bip65", params.headers.bip65_height),
        ("csv", params.csv_height),
        ("segwit", params.segwit_height),
    ] {
        let row = Json::obj().with("type", "buried").with("active", entry.height + 1 >= height).with("height", height);
        deployments.put(name, row);
    }
    for deployment in signal::deployments(params).iter().filter(|deployment| deployment.start.is_some()) {
        deployments.put(deployment.name, voted(chain, deployment, id));
    }
    Json::obj()
        .with("hash", entry.hash)
        .with("height", entry.height)
        .with("script_flags", Json::arr(names))
        .with("deployments", deployments)
}

pub(crate) fn getdeploymentinfo(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let id = if args.at(0).is_null() { call.chain().tip() } else { call.find(&args.block_hash(0, "blockhash")?)? };
    Ok(info(call.chain(), id))
}
