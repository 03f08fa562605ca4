//! What the next block could be, for miners (BIP 22, BIP 23, BIP 9, BIP 145).
//!
//! - upon `proposal`: whether a block would be valid upon the tip, whatever its nonce;
//! - upon `longpollid`: the answer waits until there is another tip, or after a minute another mempool;
//! - a template is kept for five seconds, however much comes in meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, ScriptBuf, Txid};

use super::blocks::{catches_up, target};
use super::mining::{bip22, new_template};
use crate::mining::signal::{self, State};
use crate::mining::{Template, time_min, update_time};
use crate::session::rpc::call::{Args, Call, hash};
use crate::session::rpc::error::{RpcError, code};
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::decode_block;
use crate::session::rpc::spec::Outcome;
use crate::session::rpc::wait::Wait;

/// A template is as good as new for so many seconds.
const KEPT_SECONDS: u64 = 5;
/// The mempool is not looked at before so many milliseconds of a long poll.
const MEMPOOL_AFTER_MS: u64 = 60_000;
const SIGOPS_MAX: u32 = 80_000;
const BLOCK_BYTES_MAX: u32 = 4_000_000;
const BLOCK_WEIGHT_MAX: u32 = 4_000_000;

fn propose(call: &mut Call<'_, '_>, data: &Json) -> Result<Json, RpcError> {
    let Json::Str(hex) = data else { return Err(RpcError::kind("Missing data String key for proposal")) };
    let block = decode_block(hex).ok_or_else(|| RpcError::decode("Block decode failed"))?;
    if let Some(id) = call.chain().tree().find(&block.block_hash()) {
        let entry = call.chain().entry(id);
        return Ok(match entry.failure {
            _ if entry.validated => "duplicate".into(),
            Some(_) => "duplicate-invalid".into(),
            None => "duplicate-inconclusive".into(),
        });
    }
    let now = u32::try_from(call.time()).unwrap_or(u32::MAX);
    Ok(match call.ctx.node.chain_mut().check_template(&Arc::new(block), now, false, true)? {
        Ok(()) => Json::Null,
        Err(reject) => bip22(&reject),
    })
}

/// The rules that the client knows of.
fn rules(request: &Json) -> Result<BTreeSet<String>, RpcError> {
    let Json::Arr(names) = request.get("rules") else { return Ok(BTreeSet::new()) };
    names.iter().map(|name| name.text().map(Into::into)).collect()
}

pub(crate) fn getblocktemplate(call: &mut Call<'_, '_>, args: &Args) -> Result<Outcome, RpcError> {
    let request = args.at(0);
    match request.get("mode") {
        Json::Null => {}
        Json::Str(mode) if mode == "proposal" => return propose(call, request.get("data")).map(Outcome::Done),
        Json::Str(mode) if mode == "template" => {}
        _ => return Err(RpcError::param("Invalid mode")),
    }
    rules(request)?;
    if !is_test(call.chain().params().network) {
        if call.ctx.peers.peers().is_empty() {
            return Err(RpcError::new(code::CLIENT_NOT_CONNECTED, "Bitcoin Core is not connected!"));
        }
        if catches_up(call) {
            let words = "Bitcoin Core is in initial sync and waiting for blocks...";
            return Err(RpcError::new(code::CLIENT_IN_INITIAL_DOWNLOAD, words));
        }
    }
    let long_poll = request.get("longpollid");
    if long_poll.is_null() {
        return make(call, args).map(Outcome::Done);
    }
    let (tip, sequence) = match long_poll {
        Json::Str(text) => {
            let (head, tail) = text.split_at_checked(64).unwrap_or((text, ""));
            let tip = BlockHash::from_byte_array(hash(&Json::from(head), "longpollid")?);
            (tip, tail.parse().unwrap_or(0))
        }
        _ => {
            let tip = call.chain().entry(call.chain().tip()).hash;
            (tip, call.state.template.as_ref().map_or(0, |(sequence, ..)| *sequence))
        }
    };
    let wait = Wait::Template { tip, sequence, mempool_from: call.ctx.now_ms + MEMPOOL_AFTER_MS, args: args.clone() };
    match wait.poll(call, false) {
        Some(answer) => answer.map(Outcome::Done),
        None => Ok(Outcome::Wait(wait)),
    }
}

fn is_test(network: Network) -> bool {
    network != Network::Bitcoin
}

/// A template, anew or as it was.
fn current(call: &mut Call<'_, '_>) -> Result<(u64, Template), RpcError> {
    let (tip, now) = (call.chain().entry(call.chain().tip()).hash, call.time());
    let sequence = call.mempool().sequence();
    if let Some((own, since, template)) = &call.state.template
        && template.block.header.prev_blockhash == tip
        && (*own == sequence || now.saturating_sub(*since) <= KEPT_SECONDS)
    {
        return Ok((*own, template.clone()));
    }
    call.state.template = None;
    // Whoever mines it puts their own script there.
    let template = new_template(call, ScriptBuf::from_bytes(vec![0x51]), true)?;
    call.state.template = Some((sequence, now, template.clone()));
    Ok((sequence, template))
}

fn transactions(template: &Template, segwit: bool) -> Json {
    // Before witnesses count, an operation is one; from then on it is four units of a cost.
    let scale = if segwit { 1 } else { 4 };
    let mut places: BTreeMap<Txid, usize> = BTreeMap::new();
    let mut rows = Vec::new();
    for (index, tx) in template.block.txdata.iter().enumerate() {
        let txid = tx.compute_txid();
        if index > 0 {
            let depends = tx.input.iter().filter_map(|input| places.get(&input.previous_output.txid));
            rows.push(
                Json::obj()
                    .with("data", serialize_hex(tx))
                    .with("txid", txid)
                    .with("hash", tx.compute_wtxid())
                    .with("depends", Json::arr(depends.copied()))
                    .with("fee", template.fees.get(index).copied().unwrap_or(0))
                    .with("sigops", template.sigops.get(index).copied().unwrap_or(0) / scale)
                    .with("weight", tx.weight().to_wu()),
            );
        }
        places.insert(txid, index);
    }
    Json::Arr(rows)
}

/// The answer to a request that need not wait any more.
pub(crate) fn make(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let rules = rules(args.at(0))?;
    let signet = call.chain().params().signet_challenge.clone();
    if signet.is_some() && !rules.contains("signet") {
        let words = "getblocktemplate must be called with the signet rule set (call with {\"rules\": [\"segwit\", \
                     \"signet\"]})";
        return Err(RpcError::param(words));
    }
    if !rules.contains("segwit") {
        let words = "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})";
        return Err(RpcError::param(words));
    }
    let (sequence, template) = current(call)?;
    let chain = call.chain();
    let (tip, params) = (chain.tip(), chain.params());
    let mut header = template.block.header;
    update_time(chain, &mut header, call.ctx.node.time());
    let bits = header.bits.to_consensus();
    let segwit = template.height >= params.segwit_height;
    // Before witnesses a block was as long as a quarter of what it may weigh now.
    let share = if segwit { 1 } else { 4 };
    let mut active = if segwit { vec!["csv", "!segwit", "taproot"] } else { vec!["csv", "taproot"] };
    if signet.is_some() {
        active.push("!signet");
    }
    let mut available = Json::obj();
    for deployment in signal::deployments(params).iter() {
        match deployment.state_after(chain.tree(), tip) {
            State::Started | State::LockedIn => available.put(deployment.name, deployment.bit),
            State::Active => active.push(deployment.name),
            State::Defined | State::Failed => {}
        }
    }
    let hash = template.block.header.prev_blockhash;
    let mut json = Json::obj()
        .with("capabilities", Json::arr(["proposal"]))
        .with("version", header.version.to_consensus())
        .with("rules", Json::arr(active))
        .with("vbavailable", available)
        .with("vbrequired", 0_u32)
        .with("previousblockhash", hash)
        .with("transactions", transactions(&template, segwit))
        .with("coinbaseaux", Json::obj())
        .with("coinbasevalue", template.value.to_sat())
        .with("longpollid", format!("{hash}{sequence}"))
        .with("target", target(bits))
        .with("mintime", time_min(chain, tip))
        .with("mutable", Json::arr(["time", "transactions", "prevblock"]))
        .with("noncerange", "00000000ffffffff")
        .with("sigoplimit", SIGOPS_MAX / share)
        .with("sizelimit", BLOCK_BYTES_MAX / share);
    if segwit {
        json.put("weightlimit", BLOCK_WEIGHT_MAX);
    }
    json = json.with("curtime", header.time).with("bits", format!("{bits:08x}")).with("height", template.height);
    if let Some(challenge) = signet {
        json.put("signet_challenge", challenge.to_hex_string());
    }
    Ok(json.with("default_witness_commitment", template.witness_commitment.to_hex_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_by_the_rules_of_their_height() {
        let mut block = crate::Params::regtest().genesis;
        block.txdata.push(block.txdata[0].clone());
        let template = Template {
            block,
            fees: vec![-10, 10],
            sigops: vec![4, 8],
            height: 1,
            value: bitcoin::Amount::ZERO,
            witness_commitment: bitcoin::ScriptBuf::new(),
        };
        let sigops = |segwit| transactions(&template, segwit).at(0).get("sigops").write();
        assert_eq!((sigops(false), sigops(true)), ("2".to_owned(), "8".to_owned()));
    }
}
