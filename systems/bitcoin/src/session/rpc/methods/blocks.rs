//! Blocks, headers, and the chain that they form.

use std::sync::Arc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::DisplayHex;
use bitcoin::{Block, BlockHash, Network, Target};
use verity_nakamoto::{BlockId, Entry, finality};

use crate::chain::{Chain, Prune};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::{RpcError, code};
use crate::session::rpc::json::Json;
use crate::session::rpc::render::transaction::{Shown, render, version};
use crate::session::rpc::spec::Outcome;
use crate::session::rpc::wait::Wait;

/// The attacker that is reckoned with if nothing is said.
const ATTACKER_SHARE: f64 = 0.1;
/// The odds of a reversal that `confirmations_needed` brings.
const RISK: f64 = 0.001;

/// How many times harder than the easiest block there can be on the main network.
pub(crate) fn difficulty(bits: u32) -> f64 {
    let mut shift = (bits >> 24) & 0xff;
    let mut difficulty = f64::from(0xffff_u32) / f64::from(bits & 0x00ff_ffff);
    while shift < 29 {
        difficulty *= 256.0;
        shift += 1;
    }
    while shift > 29 {
        difficulty /= 256.0;
        shift -= 1;
    }
    difficulty
}

pub(crate) fn bits(entry: &Entry) -> u32 {
    entry.header.bits.to_consensus()
}

/// The target in full.
pub(crate) fn target(bits: u32) -> String {
    let compact = bitcoin::CompactTarget::from_consensus(bits);
    Target::from_compact(compact).to_be_bytes().to_lower_hex_string()
}

pub(crate) fn work(entry: &Entry) -> String {
    entry.work.to_be_bytes().to_lower_hex_string()
}

/// How deep it stands below the tip, counting itself, and what stands upon it; -1 if it is on another branch.
fn depth(chain: &Chain, id: BlockId) -> (i64, Option<BlockHash>) {
    if !chain.is_active(id) {
        return (-1, None);
    }
    let height = chain.entry(id).height;
    let next = chain.active(height + 1).map(|next| chain.entry(next).hash);
    (i64::from(chain.height() - height) + 1, next)
}

/// A header.
pub(crate) fn header_json(chain: &Chain, id: BlockId) -> Json {
    let entry = chain.entry(id);
    let header = &entry.header;
    let (confirmations, next) = depth(chain, id);
    let number = header.version.to_consensus();
    let mut json = Json::obj()
        .with("hash", entry.hash)
        .with("confirmations", confirmations)
        .with("height", entry.height)
        .with("version", number)
        .with("versionHex", format!("{number:08x}"))
        .with("merkleroot", header.merkle_root)
        .with("time", header.time)
        .with("mediantime", chain.tree().median_time_past(id))
        .with("nonce", header.nonce)
        .with("bits", format!("{:08x}", bits(entry)))
        .with("target", target(bits(entry)))
        .with("difficulty", Json::float(difficulty(bits(entry))))
        .with("chainwork", work(entry))
        .with("nTx", entry.tx_count);
    if let Some(prev) = entry.prev {
        json.put("previousblockhash", chain.entry(prev).hash);
    }
    if let Some(next) = next {
        json.put("nextblockhash", next);
    }
    json
}

/// How much of its transactions a block shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Ids,
    Transactions,
    Prevouts,
}

/// A block.
pub(crate) fn block_json(chain: &Chain, id: BlockId, block: &Block, detail: Detail) -> Result<Json, RpcError> {
    let network = chain.params().network;
    let (size, weight) = (block.total_size(), block.weight().to_wu());
    // Weight counts every byte thrice, and once more with the witnesses.
    let stripped = (weight - size as u64) / 3;
    let mut json = header_json(chain, id).with("strippedsize", stripped).with("size", size).with("weight", weight);
    if let Some(coinbase) = block.txdata.first() {
        json.put("coinbase_tx", coinbase_json(coinbase));
    }
    let undo = if detail == Detail::Ids { None } else { chain.undo(id)? };
    let mut txs = Vec::with_capacity(block.txdata.len());
    for (index, tx) in block.txdata.iter().enumerate() {
        txs.push(match detail {
            Detail::Ids => tx.compute_txid().into(),
            Detail::Transactions | Detail::Prevouts => {
                let spent = index.checked_sub(1).and_then(|index| undo.as_ref()?.txs.get(index));
                render(tx, Shown::on(network).with_hex().spending(spent, detail == Detail::Prevouts))
            }
        });
    }
    Ok(json.with("tx", Json::Arr(txs)))
}

fn coinbase_json(coinbase: &bitcoin::Transaction) -> Json {
    let mut json =
        Json::obj().with("version", version(coinbase)).with("locktime", coinbase.lock_time.to_consensus_u32());
    if let Some(input) = coinbase.input.first() {
        json.put("sequence", input.sequence.0);
        json.put("coinbase", input.script_sig.to_hex_string());
        if let Some(item) = input.witness.iter().next() {
            json.put("witness", item.to_lower_hex_string());
        }
    }
    json
}

/// A block by its height in the chain that counts, or by its hash wherever it stands.
pub(crate) fn by_hash_or_height(call: &Call<'_, '_>, args: &Args, index: usize) -> Result<BlockId, RpcError> {
    let Json::Num(_) = args.at(index) else { return call.find(&args.block_hash(index, "hash_or_height")?) };
    let height: i32 = args.at(index).int()?;
    let tip = call.chain().height();
    let Ok(wanted) = u32::try_from(height) else {
        return Err(RpcError::param(format!("Target block height {height} is negative")));
    };
    call.chain()
        .active(wanted)
        .filter(|_| wanted <= tip)
        .ok_or_else(|| RpcError::param(format!("Target block height {height} after current tip {tip}")))
}

pub(crate) fn getblockcount(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(call.chain().height().into())
}

pub(crate) fn getbestblockhash(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(call.chain().entry(call.chain().tip()).hash.into())
}

pub(crate) fn getblockhash(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let height: i32 = args.at(0).int()?;
    let id = u32::try_from(height).ok().filter(|height| *height <= call.chain().height());
    let id = id.and_then(|height| call.chain().active(height));
    let id = id.ok_or_else(|| RpcError::param("Block height out of range"))?;
    Ok(call.chain().entry(id).hash.into())
}

pub(crate) fn getblockheader(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let id = call.find(&args.block_hash(0, "hash")?)?;
    if args.bool_or(1, true)? {
        return Ok(header_json(call.chain(), id));
    }
    Ok(serialize_hex(&call.chain().entry(id).header).into())
}

pub(crate) fn getblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let hash = args.block_hash(0, "blockhash")?;
    let verbosity = args.verbosity(1, 1, true)?;
    let id = call.find(&hash)?;
    let block: Arc<Block> = call.block(id)?;
    let detail = match verbosity {
        ..=0 => return Ok(serialize_hex(&*block).into()),
        1 => Detail::Ids,
        2 => Detail::Transactions,
        3.. => Detail::Prevouts,
    };
    block_json(call.chain(), id, &block, detail)
}

/// How many transactions a second are expected beyond the tip.
fn tx_rate(network: Network) -> f64 {
    match network {
        Network::Bitcoin => 5.0,
        Network::Testnet => 0.8,
        Network::Testnet4 => 0.04,
        Network::Signet => 0.4,
        _ => 0.001,
    }
}

/// Which part of all transactions that there should be is there.
pub(crate) fn progress(call: &Call<'_, '_>, id: BlockId) -> f64 {
    let chain = call.chain();
    let entry = chain.entry(id);
    if entry.chain_tx_count == 0 {
        return 0.0;
    }
    let (now, time) = (call.time() as f64, f64::from(entry.header.time));
    let above = chain.entry(chain.best_header()).height.saturating_sub(entry.height);
    let time = if (now - time).abs() <= 7_200.0 {
        now - f64::from(above) * f64::from(chain.params().headers.pow.spacing)
    } else {
        time
    };
    let count = entry.chain_tx_count as f64;
    (count / (count + (now - time) * tx_rate(chain.params().network))).min(1.0)
}

/// Whether the node still catches up. Once it does not, it never does again.
pub(crate) fn catches_up(call: &mut Call<'_, '_>) -> bool {
    if !call.state.caught_up {
        let chain = call.ctx.node.chain();
        let tip = chain.entry(chain.tip());
        let recent = u64::from(tip.header.time).saturating_add(call.state.config.tip_age_max) >= call.ctx.node.time();
        call.state.caught_up = recent && tip.work >= chain.params().minimum_chain_work;
    }
    !call.state.caught_up
}

pub(crate) fn getblockchaininfo(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let catches_up = catches_up(call);
    let chain = call.chain();
    let (tip, params) = (chain.entry(chain.tip()), chain.params());
    let mut json = Json::obj()
        .with("chain", params.chain_name())
        .with("blocks", tip.height)
        .with("headers", chain.entry(chain.best_header()).height)
        .with("bestblockhash", tip.hash)
        .with("bits", format!("{:08x}", bits(tip)))
        .with("target", target(bits(tip)))
        .with("difficulty", Json::float(difficulty(bits(tip))))
        .with("time", tip.header.time)
        .with("mediantime", chain.tree().median_time_past(chain.tip()))
        .with("verificationprogress", Json::float(progress(call, chain.tip())))
        .with("initialblockdownload", catches_up)
        .with("chainwork", work(tip))
        .with("size_on_disk", size_on_disk(chain))
        .with("pruned", chain.prune().is_some());
    if let Some(prune) = chain.prune() {
        json.put("pruneheight", chain.pruned_height().map_or(0, |height| height + 1));
        json.put("automatic_pruning", prune != Prune::ByHand);
        if let Prune::Target(bytes) = prune {
            json.put("prune_target_size", bytes);
        }
    }
    if let Some(challenge) = &params.signet_challenge {
        json.put("signet_challenge", challenge.to_hex_string());
    }
    json.put("warnings", warnings(call));
    Ok(json)
}

/// An estimate, from how many transactions there are: files are the chain's own matter. Where some go, it is what is left.
fn size_on_disk(chain: &Chain) -> u64 {
    if chain.prune().is_some() {
        return chain.disk_bytes();
    }
    let tip = chain.entry(chain.tip());
    u64::from(tip.height) * 100 + tip.chain_tx_count * 200
}

/// What there is to warn of; the last of it in the old form, if an operator wants that.
pub(crate) fn warnings(call: &Call<'_, '_>) -> Json {
    let told = call.ctx.warnings;
    if call.state.config.deprecated.iter().any(|name| name == "warnings") {
        return told.last().map_or("", String::as_str).into();
    }
    Json::arr(told.iter().map(String::as_str))
}

pub(crate) fn getchainstates(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let chain = call.chain();
    let tip = chain.entry(chain.tip());
    let state = Json::obj()
        .with("blocks", tip.height)
        .with("bestblockhash", tip.hash)
        .with("bits", format!("{:08x}", bits(tip)))
        .with("target", target(bits(tip)))
        .with("difficulty", Json::float(difficulty(bits(tip))))
        .with("verificationprogress", Json::float(progress(call, chain.tip())))
        .with("coins_db_cache_bytes", 0_u32)
        .with("coins_tip_cache_bytes", 0_u32)
        .with("validated", true);
    let headers = chain.entry(chain.best_header()).height;
    Ok(Json::obj().with("headers", headers).with("chainstates", Json::Arr(vec![state])))
}

pub(crate) fn getdifficulty(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(Json::float(difficulty(bits(call.chain().entry(call.chain().tip())))))
}

pub(crate) fn getchaintips(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let chain = call.chain();
    let mut tips: Vec<BlockId> = chain.tree().leaves().into_iter().filter(|id| !chain.is_active(*id)).collect();
    tips.push(chain.tip());
    tips.sort_by_key(|id| (std::cmp::Reverse(chain.entry(*id).height), *id));
    let row = |id: BlockId| {
        let entry = chain.entry(id);
        let fork = chain.entry(chain.tree().fork(id, chain.tip())).height;
        let status = match entry {
            _ if chain.is_active(id) => "active",
            Entry { failure: Some(_), .. } => "invalid",
            Entry { chain_tx_count: 0, .. } => "headers-only",
            Entry { validated: true, .. } => "valid-fork",
            _ => "valid-headers",
        };
        Json::obj()
            .with("height", entry.height)
            .with("hash", entry.hash)
            .with("branchlen", entry.height - fork)
            .with("status", status)
    };
    Ok(Json::Arr(tips.into_iter().map(row).collect()))
}

pub(crate) fn getblockfrompeer(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let hash = args.block_hash(0, "blockhash")?;
    let peer: i64 = args.at(1).int()?;
    let id = call.chain().tree().find(&hash).ok_or_else(|| RpcError::misc("Block header missing"))?;
    if call.chain().entry(id).has_data {
        return Err(RpcError::misc("Block already downloaded"));
    }
    if call.chain().prune().is_some() && call.chain().entry(id).height > call.chain().height() {
        let words = "In prune mode, only blocks that the node has already synced previously can be fetched from a peer";
        return Err(RpcError::misc(words));
    }
    let peer = u64::try_from(peer).map_err(|_| RpcError::misc("Peer does not exist"))?;
    call.ctx.peers.fetch_block(hash, peer).map_err(RpcError::misc)?;
    Ok(Json::obj())
}

/// A number above is a moment and no height.
const HEIGHT_MAX: i64 = 1_000_000_000;
/// Clocks of miners may differ by so many seconds.
const CLOCKS_DIFFER: i64 = 7_200;

pub(crate) fn pruneblockchain(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let chain = call.chain();
    if chain.prune().is_none() {
        return Err(RpcError::misc("Cannot prune blocks because node is not in prune mode."));
    }
    let mut wanted: i64 = args.at(0).int::<i32>()?.into();
    if wanted < 0 {
        return Err(RpcError::param("Negative block height."));
    }
    if wanted > HEIGHT_MAX {
        let from = wanted - CLOCKS_DIFFER;
        let late = |height: &u32| {
            let id = chain.active(*height);
            id.is_some_and(|id| i64::from(chain.entry(id).time_max) >= from)
        };
        let height = (0..=chain.height()).find(late);
        wanted = height
            .ok_or_else(|| RpcError::param("Could not find block with at least the specified timestamp."))?
            .into();
    }
    if chain.height() < chain.prune_after() {
        return Err(RpcError::misc("Blockchain is too short for pruning."));
    }
    let height = u32::try_from(wanted).ok().filter(|height| *height <= chain.height());
    let height = height.ok_or_else(|| RpcError::param("Blockchain is shorter than the attempted prune height."))?;
    call.ctx.node.chain_mut().prune_up_to(height)?;
    Ok(call.chain().pruned_height().map_or(Json::Num("-1".to_owned()), Into::into))
}

/// Reads the last blocks again, and looks whether they are what their headers speak of.
pub(crate) fn verifychain(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let level: i32 = args.int_or(0, 3)?;
    let count: i32 = args.int_or(1, 6)?;
    let chain = call.chain();
    let tip = chain.height();
    let count = u32::try_from(count).ok().filter(|count| (1..=tip).contains(count)).unwrap_or(tip);
    for height in (tip - count + 1..=tip).rev() {
        let Some(id) = chain.active(height) else { return Ok(false.into()) };
        if chain.is_pruned(id) {
            break;
        }
        let Some(block) = chain.block(id)? else { return Ok(false.into()) };
        let whole = level < 1 || (block.check_merkle_root() && block.block_hash() == chain.entry(id).hash);
        if !whole || (level >= 2 && chain.undo(id)?.is_none()) {
            return Ok(false.into());
        }
    }
    Ok(true.into())
}

pub(crate) fn preciousblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let id = call.find(&args.block_hash(0, "blockhash")?)?;
    call.ctx.node.precious(id)?;
    Ok(Json::Null)
}

pub(crate) fn invalidateblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let id = call.find(&args.block_hash(0, "blockhash")?)?;
    if call.chain().entry(id).height > 0 {
        call.ctx.node.invalidate(id)?;
    }
    Ok(Json::Null)
}

pub(crate) fn reconsiderblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let id = call.find(&args.block_hash(0, "blockhash")?)?;
    call.ctx.node.reconsider(id)?;
    Ok(Json::Null)
}

/// Until when a call waits, by its argument in milliseconds.
fn until(call: &Call<'_, '_>, args: &Args, index: usize) -> Result<Option<u64>, RpcError> {
    let timeout: i32 = args.int_or(index, 0)?;
    let timeout = u64::try_from(timeout).map_err(|_| RpcError::misc("Negative timeout"))?;
    Ok((timeout > 0).then(|| call.ctx.now_ms + timeout))
}

/// The answer, if it is there at once.
fn wait(call: &mut Call<'_, '_>, wait: Wait) -> Result<Outcome, RpcError> {
    match wait.poll(call, false) {
        Some(answer) => answer.map(Outcome::Done),
        None => Ok(Outcome::Wait(wait)),
    }
}

pub(crate) fn waitfornewblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Outcome, RpcError> {
    let until = until(call, args, 0)?;
    let from = if args.at(1).is_null() {
        call.chain().entry(call.chain().tip()).hash
    } else {
        args.block_hash(1, "current_tip")?
    };
    wait(call, Wait::Change { from, until })
}

pub(crate) fn waitforblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Outcome, RpcError> {
    let hash = args.block_hash(0, "blockhash")?;
    let until = until(call, args, 1)?;
    wait(call, Wait::Tip { hash, until })
}

pub(crate) fn waitforblockheight(call: &mut Call<'_, '_>, args: &Args) -> Result<Outcome, RpcError> {
    let height: i32 = args.at(0).int()?;
    let until = until(call, args, 1)?;
    wait(call, Wait::Height { height: height.into(), until })
}

/// The name that the index of basic filters has.
pub(crate) const FILTER_INDEX: &str = "basic block filter index";

pub(crate) fn getblockfilter(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let hash = args.block_hash(0, "blockhash")?;
    let kind = if args.at(1).is_null() { "basic" } else { args.text(1)? };
    if kind != "basic" {
        return Err(RpcError::key("Unknown filtertype"));
    }
    if !call.index_progress().iter().any(|(name, _)| *name == FILTER_INDEX) {
        return Err(RpcError::misc("Index is not enabled for filtertype basic"));
    }
    let id = call.find(&hash)?;
    match call.filter(id)? {
        Some(filter) => {
            let content = filter.content.to_lower_hex_string();
            Ok(Json::obj().with("filter", content).with("header", filter.header.to_string()))
        }
        None if !call.chain().entry(id).validated => {
            Err(RpcError::key("Filter not found. Block was not connected to active chain."))
        }
        None => {
            let words = "Filter not found. This error is unexpected and indicates index corruption.";
            Err(RpcError::new(code::INTERNAL_ERROR, words))
        }
    }
}

/// What confirmations are worth against an attacker with a share of all hash power.
pub(crate) fn getconfirmationconfidence(_: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let count: i64 = args.at(0).int()?;
    let most = finality::CONFIRMATIONS_MAX;
    let count = u32::try_from(count).ok().filter(|count| *count <= most);
    let count = count.ok_or_else(|| RpcError::param(format!("confirmations must be between 0 and {most}")))?;
    let share = if args.at(1).is_null() { ATTACKER_SHARE } else { args.at(1).real()? };
    if !(0.0..=1.0).contains(&share) {
        return Err(RpcError::param("attacker_share must be between 0 and 1"));
    }
    let odds = finality::odds(count, share);
    let needed = finality::confirmations_for(RISK, share);
    Ok(Json::obj()
        .with("confirmations", count)
        .with("attacker_share", Json::float(share))
        .with("reversal", Json::float(odds.reversal))
        .with("confidence", Json::float(odds.confidence))
        .with("nakamoto", Json::float(odds.nakamoto))
        .with("popular", Json::float(finality::popular(count)))
        .with("confirmations_needed", needed))
}
