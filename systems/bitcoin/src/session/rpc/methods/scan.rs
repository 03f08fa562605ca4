//! What descriptors own, found by looking through everything.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::bip158::BlockFilterReader;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Transaction, TxOut};
use verity_nakamoto::BlockId;

use super::blocks::FILTER_INDEX;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::{self, Known};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::script;

/// A range of a descriptor is this long if nothing is said of it.
const RANGE_DEFAULT: (i64, i64) = (0, 1_000);
/// No range is longer.
const RANGE_MAX: i64 = 1_000_000;

/// A range: its end, or its beginning and its end.
pub(crate) fn range(value: &Json) -> Result<(i64, i64), RpcError> {
    let (low, high): (i64, i64) = match value {
        Json::Num(_) => (0, value.int()?),
        Json::Arr(ends) if ends.len() == 2 && ends.iter().all(|end| matches!(end, Json::Num(_))) => {
            let (low, high): (i64, i64) = (ends[0].int()?, ends[1].int()?);
            if low > high {
                return Err(RpcError::param("Range specified as [begin,end] must not have begin after end"));
            }
            (low, high)
        }
        _ => return Err(RpcError::param("Range must be specified as end or as [begin,end]")),
    };
    if low < 0 {
        return Err(RpcError::param("Range should be greater or equal than 0"));
    }
    if high >> 31 != 0 {
        return Err(RpcError::param("End of range is too high"));
    }
    if high >= low + RANGE_MAX {
        return Err(RpcError::param("Range is too large"));
    }
    Ok((low, high))
}

/// The scripts that a text or an object with a range stands for.
pub(crate) fn scripts(call: &Call<'_, '_>, object: &Json, known: &mut Known) -> Result<Vec<ScriptBuf>, RpcError> {
    let mut range_of = RANGE_DEFAULT;
    let text = match object {
        Json::Str(text) => text.as_str(),
        Json::Obj(_) => {
            let text = object.get("desc");
            if text.is_null() {
                return Err(RpcError::param("Descriptor needs to be provided in scan object"));
            }
            if !object.get("range").is_null() {
                range_of = range(object.get("range"))?;
            }
            text.text()?
        }
        _ => return Err(RpcError::param("Scan object needs to be either a string or an object")),
    };
    let network = call.chain().params().network;
    let descriptors = descriptor::parse(text, network, false).map_err(RpcError::key)?;
    let ranged = descriptors.first().is_some_and(descriptor::Descriptor::is_range);
    let (low, high) = if ranged { range_of } else { (0, 0) };
    let mut scripts = Vec::new();
    for index in low..=high {
        let index = u32::try_from(index).expect("a range ends below 2^31");
        for descriptor in &descriptors {
            let expanded = descriptor.expand(index, known);
            scripts.extend(
                expanded
                    .ok_or_else(|| RpcError::key(format!("Cannot derive script without private keys: '{text}'")))?,
            );
        }
    }
    Ok(scripts)
}

/// No scan lasts beyond its call, so none is ever under way: the answer to the other actions, if it is one of them.
fn idle(action: &str) -> Option<Json> {
    match action {
        "status" => Some(Json::Null),
        "abort" => Some(false.into()),
        _ => None,
    }
}

pub(crate) fn scantxoutset(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let action = args.text(0)?;
    if let Some(answer) = idle(action) {
        return Ok(answer);
    }
    if action != "start" {
        return Err(RpcError::param(format!("Invalid action '{action}'")));
    }
    if args.at(1).is_null() {
        return Err(RpcError::misc("scanobjects argument is required for the start action"));
    }
    let network = call.chain().params().network;
    let mut wanted: BTreeMap<ScriptBuf, String> = BTreeMap::new();
    for object in args.at(1).items()? {
        let mut known = Known::default();
        for script in scripts(call, object, &mut known)? {
            let text = descriptor::infer(&script, &known, network);
            wanted.entry(script).or_insert(text);
        }
    }
    let (mut count, mut found) = (0_u64, BTreeMap::new());
    call.ctx.node.chain_mut().each_coin(&mut |outpoint, coin| {
        count += 1;
        if wanted.contains_key(&coin.out.script_pubkey) {
            found.insert(*outpoint, coin.clone());
        }
    })?;
    let chain = call.chain();
    let tip = chain.entry(chain.tip());
    let (mut total, mut unspents) = (Amount::ZERO, Vec::new());
    for (outpoint, coin) in found {
        total += coin.out.value;
        let block = chain.active(coin.height).map(|id| chain.entry(id).hash);
        unspents.push(
            Json::obj()
                .with("txid", outpoint.txid)
                .with("vout", outpoint.vout)
                .with("scriptPubKey", coin.out.script_pubkey.to_hex_string())
                .with("desc", wanted.get(&coin.out.script_pubkey).map_or("", String::as_str))
                .with("amount", coin.out.value)
                .with("coinbase", coin.coinbase)
                .with("height", coin.height)
                .with("blockhash", block)
                .with("confirmations", tip.height - coin.height + 1),
        );
    }
    Ok(Json::obj()
        .with("success", true)
        .with("txouts", count)
        .with("height", tip.height)
        .with("bestblock", tip.hash)
        .with("unspents", Json::Arr(unspents))
        .with("total_amount", total))
}

/// A height of the chain that counts.
fn height(call: &Call<'_, '_>, value: &Json, words: &str) -> Result<u32, RpcError> {
    let height: i32 = value.int()?;
    u32::try_from(height).ok().filter(|height| *height <= call.chain().height()).ok_or_else(|| RpcError::misc(words))
}

pub(crate) fn scanblocks(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let action = args.text(0)?;
    if let Some(answer) = idle(action) {
        return Ok(answer);
    }
    if action != "start" {
        return Err(RpcError::param(format!("Invalid action '{action}'")));
    }
    if !args.at(4).is_null() && args.text(4)? != "basic" {
        return Err(RpcError::key("Unknown filtertype"));
    }
    let strict = args.at(5).get("filter_false_positives");
    let strict = if strict.is_null() { false } else { strict.bool()? };
    if !call.index_progress().iter().any(|(name, _)| *name == FILTER_INDEX) {
        return Err(RpcError::misc("Index is not enabled for filtertype basic"));
    }
    let from = if args.at(2).is_null() { 0 } else { height(call, args.at(2), "Invalid start_height")? };
    let to =
        if args.at(3).is_null() { call.chain().height() } else { height(call, args.at(3), "Invalid stop_height")? };
    if to < from {
        return Err(RpcError::misc("Invalid stop_height"));
    }
    let mut wanted = BTreeSet::new();
    for object in args.at(1).items()? {
        wanted.extend(scripts(call, object, &mut Known::default())?);
    }
    let mut relevant = Vec::new();
    for height in from..=to {
        let Some(id) = call.chain().active(height) else { continue };
        if may_concern(call, id, &wanted)? && (!strict || concerns(call, id, &wanted)?) {
            relevant.push(call.chain().entry(id).hash);
        }
    }
    Ok(Json::obj()
        .with("from_height", from)
        .with("to_height", to)
        .with("relevant_blocks", relevant)
        .with("completed", true))
}

fn may_concern(call: &Call<'_, '_>, id: BlockId, wanted: &BTreeSet<ScriptBuf>) -> Result<bool, RpcError> {
    let Some(filter) = call.filter(id)? else { return Ok(false) };
    let reader = BlockFilterReader::new(&call.chain().entry(id).hash);
    let mut bytes = filter.content.as_slice();
    Ok(reader.match_any(&mut bytes, wanted.iter().map(|script| script.as_bytes())).unwrap_or(false))
}

fn concerns(call: &Call<'_, '_>, id: BlockId, wanted: &BTreeSet<ScriptBuf>) -> Result<bool, RpcError> {
    let is_wanted = |out: &TxOut| wanted.contains(&out.script_pubkey);
    let block = call.block(id)?;
    if block.txdata.iter().flat_map(|tx| &tx.output).any(is_wanted) {
        return Ok(true);
    }
    let undo = call.chain().undo(id)?.unwrap_or_default();
    Ok(undo.txs.iter().flat_map(|undo| &undo.spent).any(|coin| is_wanted(&coin.out)))
}

struct Activity<'c, 'a, 'b> {
    call: &'b Call<'c, 'a>,
    wanted: BTreeSet<ScriptBuf>,
    rows: Vec<Json>,
}

impl Activity<'_, '_, '_> {
    fn begin(&self, kind: &str, amount: Amount, block: Option<BlockId>) -> Json {
        let mut json = Json::obj().with("type", kind).with("amount", amount);
        if let Some(id) = block {
            let entry = self.call.chain().entry(id);
            json.put("blockhash", entry.hash);
            json.put("height", entry.height);
        }
        json
    }

    fn output(&self, script: &Script) -> Json {
        script::output(script, self.call.chain().params().network)
    }

    /// `spent` are the outputs that it spends, by its inputs.
    fn add(&mut self, tx: &Transaction, spent: &[TxOut], block: Option<BlockId>) {
        let txid = tx.compute_txid();
        for (index, (input, out)) in tx.input.iter().zip(spent).enumerate() {
            if self.wanted.contains(&out.script_pubkey) {
                let row = self
                    .begin("spend", out.value, block)
                    .with("spend_txid", txid)
                    .with("spend_vin", index)
                    .with("prevout_txid", input.previous_output.txid)
                    .with("prevout_vout", input.previous_output.vout)
                    .with("prevout_spk", self.output(&out.script_pubkey));
                self.rows.push(row);
            }
        }
        for (index, out) in tx.output.iter().enumerate() {
            if self.wanted.contains(&out.script_pubkey) {
                let row = self
                    .begin("receive", out.value, block)
                    .with("txid", txid)
                    .with("vout", index)
                    .with("output_spk", self.output(&out.script_pubkey));
                self.rows.push(row);
            }
        }
    }
}

/// The output that an input spends, of the chain or of what waits.
fn spent_output(call: &Call<'_, '_>, outpoint: &OutPoint) -> Result<Option<TxOut>, RpcError> {
    if let Some(coin) = call.chain().coin(outpoint)? {
        return Ok(Some(coin.out));
    }
    let waiting = call.mempool().get(&outpoint.txid);
    Ok(waiting.and_then(|entry| entry.tx.output.get(outpoint.vout as usize).cloned()))
}

pub(crate) fn getdescriptoractivity(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let mut blocks = BTreeSet::new();
    for value in args.at(0).items()? {
        let bytes = crate::session::rpc::call::hash(value, "blockhash")?;
        let id = call.find(&bitcoin::BlockHash::from_byte_array(bytes))?;
        if !call.chain().is_active(id) {
            return Err(RpcError::param("Block is not in main chain"));
        }
        blocks.insert((call.chain().entry(id).height, id));
    }
    let mut wanted = BTreeSet::new();
    for object in args.at(1).items()? {
        wanted.extend(scripts(call, object, &mut Known::default())?);
    }
    let with_mempool = args.bool_or(2, true)?;
    let call = &*call;
    let mut activity = Activity { call, wanted, rows: Vec::new() };
    for (_, id) in blocks {
        let block = call.block(id)?;
        let undo = call.chain().undo(id)?.unwrap_or_default();
        for (index, tx) in block.txdata.iter().enumerate() {
            let undo = index.checked_sub(1).and_then(|index| undo.txs.get(index));
            let spent: Vec<TxOut> =
                undo.map_or(Vec::new(), |undo| undo.spent.iter().map(|coin| coin.out.clone()).collect());
            activity.add(tx, &spent, Some(id));
        }
    }
    if with_mempool {
        for entry in call.mempool().entries() {
            let mut spent = Vec::new();
            for input in &entry.tx.input {
                let out = spent_output(call, &input.previous_output)?;
                spent.push(out.unwrap_or(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }));
            }
            activity.add(&entry.tx, &spent, None);
        }
    }
    Ok(Json::obj().with("activity", Json::Arr(activity.rows)))
}
