//! Blocks that are made here, or brought by miners.

use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::consensus::encode::{deserialize_partial, serialize_hex};
use bitcoin::hex::FromHex;
use bitcoin::{Address, BlockHash, ScriptBuf, Transaction, Txid};
use verity_nakamoto::{BlockId, next_bits};

use super::blocks::{bits, difficulty, target, warnings};
use crate::chain::{BlockReject, ChainEvent, witness_commitment};
use crate::mining::{Template, TemplateOptions, assemble, commit_anew, time_min};
use crate::node::Event;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::{self, Known};
use crate::session::rpc::error::{RpcError, code};
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::{decode_block, decode_transaction};

/// So many nonces are tried if nothing is said.
const TRIES_DEFAULT: u64 = 1_000_000;

/// A block without its work, upon the tip.
pub(super) fn new_template(
    call: &mut Call<'_, '_>,
    script: ScriptBuf,
    use_mempool: bool,
) -> Result<Template, RpcError> {
    let config = &call.state.config;
    let options = TemplateOptions {
        script,
        weight_max: config.block_weight_max,
        fee_rate_min: config.block_fee_min,
        use_mempool,
        reserved_weight: config.block_reserved_weight,
        version: config.block_version,
    };
    let node = &*call.ctx.node;
    let template = assemble(node.chain(), node.mempool(), node.time(), &options)?;
    let block = &template.block;
    // As it was filled: with what is left free for the coinbase, not the coinbase's own.
    let weight = block.txdata.iter().skip(1).map(|tx| tx.weight().to_wu()).sum::<u64>() + options.reserved_weight;
    call.state.assembled = Some((weight, block.txdata.len() - 1));
    Ok(template)
}

/// What became of a nonce's search.
enum Search {
    Found,
    /// All nonces were tried.
    Exhausted,
    /// No more may be tried.
    OutOfTries,
}

fn search(block: &mut Block, tries: &mut u64) -> Search {
    let target = block.header.target();
    while *tries > 0 && block.header.nonce < u32::MAX && !target.is_met_by(block.block_hash()) {
        block.header.nonce += 1;
        *tries -= 1;
    }
    if *tries == 0 {
        Search::OutOfTries
    } else if block.header.nonce == u32::MAX {
        Search::Exhausted
    } else {
        Search::Found
    }
}

fn generate_blocks(call: &mut Call<'_, '_>, script: &ScriptBuf, count: i32, mut tries: u64) -> Result<Json, RpcError> {
    let mut hashes: Vec<BlockHash> = Vec::new();
    while i64::try_from(hashes.len()).is_ok_and(|made| made < count.into()) {
        let mut block = new_template(call, script.clone(), true)?.block;
        match search(&mut block, &mut tries) {
            Search::OutOfTries => break,
            Search::Exhausted => continue,
            Search::Found => {}
        }
        let hash = block.block_hash();
        if call.ctx.node.on_block(&Arc::new(block), true)?.is_err() {
            return Err(RpcError::new(code::INTERNAL_ERROR, "ProcessNewBlock, block not accepted"));
        }
        hashes.push(hash);
    }
    Ok(hashes.into())
}

fn address_script(call: &Call<'_, '_>, text: &str) -> Option<ScriptBuf> {
    let address = text.parse::<Address<bitcoin::address::NetworkUnchecked>>().ok()?;
    address.require_network(call.chain().params().network).ok().map(|address| address.script_pubkey())
}

/// The script of a descriptor that has one; the inner error is for what is no descriptor.
fn descriptor_script(call: &Call<'_, '_>, text: &str) -> Result<Result<ScriptBuf, String>, RpcError> {
    let descriptors = match descriptor::parse(text, call.chain().params().network, false) {
        Ok(descriptors) => descriptors,
        Err(words) => return Ok(Err(words)),
    };
    let [descriptor] = &descriptors[..] else { return Err(RpcError::param("Multipath descriptor not accepted")) };
    if descriptor.is_range() {
        let words = "Ranged descriptor not accepted. Maybe pass through deriveaddresses first?";
        return Err(RpcError::param(words));
    }
    let mut scripts = descriptor
        .expand(0, &mut Known::default())
        .ok_or_else(|| RpcError::key("Cannot derive script without private keys"))?;
    let wanted = match scripts.len() {
        1 => 0,
        // Of `combo()`: by witness if the key can be used there.
        4 => 2,
        _ => 1,
    };
    Ok(Ok(scripts.swap_remove(wanted)))
}

pub(crate) fn generatetoaddress(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let count: i32 = args.at(0).int()?;
    let tries = args.int_or(2, TRIES_DEFAULT)?;
    let script = address_script(call, args.text(1)?).ok_or_else(|| RpcError::key("Error: Invalid address"))?;
    generate_blocks(call, &script, count, tries)
}

pub(crate) fn generatetodescriptor(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let count: i32 = args.at(0).int()?;
    let tries = args.int_or(2, TRIES_DEFAULT)?;
    let script = descriptor_script(call, args.text(1)?)?.map_err(RpcError::key)?;
    generate_blocks(call, &script, count, tries)
}

pub(crate) fn generate(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let words = "generate\n\nhas been replaced by the -generate cli option. Refer to -help for more information.\n";
    Err(RpcError::new(code::METHOD_NOT_FOUND, words))
}

fn wanted_transaction(call: &Call<'_, '_>, text: &str) -> Result<Transaction, RpcError> {
    if text.len() == 64
        && let Ok(txid) = text.parse::<Txid>()
    {
        let entry = call.mempool().get(&txid);
        let entry = entry.ok_or_else(|| RpcError::key(format!("Transaction {text} not in mempool.")))?;
        return Ok((*entry.tx).clone());
    }
    decode_transaction(text).ok_or_else(|| {
        let words = format!("Transaction decode failed for {text}. Make sure the tx has at least one input.");
        RpcError::decode(words)
    })
}

pub(crate) fn generateblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let text = args.text(0)?;
    let script = match descriptor_script(call, text)? {
        Ok(script) => script,
        Err(_) => {
            let script = address_script(call, text);
            script.ok_or_else(|| RpcError::key("Error: Invalid address or descriptor"))?
        }
    };
    let mut txs = Vec::new();
    for value in args.at(1).items()? {
        txs.push(wanted_transaction(call, value.text()?)?);
    }
    let submit = args.bool_or(2, true)?;
    let mut block = new_template(call, script, false)?.block;
    block.txdata.extend(txs);
    commit_anew(&mut block);
    let now = u32::try_from(call.time()).unwrap_or(u32::MAX);
    if let Err(reject) = call.ctx.node.chain_mut().check_template(&Arc::new(block.clone()), now, false, false)? {
        let words = format!("TestBlockValidity failed: {reject}");
        return Err(RpcError::new(code::VERIFY_ERROR, words));
    }
    let mut tries = TRIES_DEFAULT;
    let Search::Found = search(&mut block, &mut tries) else { return Err(RpcError::misc("Failed to make block.")) };
    let mut json = Json::obj().with("hash", block.block_hash());
    if !submit {
        json.put("hex", serialize_hex(&block));
        return Ok(json);
    }
    if call.ctx.node.on_block(&Arc::new(block), true)?.is_err() {
        return Err(RpcError::new(code::INTERNAL_ERROR, "ProcessNewBlock, block not accepted"));
    }
    Ok(json)
}

fn hashes_a_second(call: &Call<'_, '_>, count: i32, height: i32) -> Result<Json, RpcError> {
    let chain = call.chain();
    if count < -1 || count == 0 {
        return Err(RpcError::param("Invalid nblocks. Must be a positive number or -1."));
    }
    if height < -1 || i64::from(height) > i64::from(chain.height()) {
        return Err(RpcError::param("Block does not exist at specified height"));
    }
    let top = u32::try_from(height).unwrap_or(chain.height());
    let Some(id) = chain.active(top).filter(|_| top > 0) else { return Ok(0_u32.into()) };
    let count = u32::try_from(count).unwrap_or(top % chain.params().headers.pow.interval() + 1).min(top);
    let first = chain.active(top - count).unwrap_or(id);
    let times = (top - count..=top).filter_map(|height| chain.active(height)).map(|id| chain.entry(id).header.time);
    let (least, most) = times.fold((u32::MAX, 0), |(least, most), time| (least.min(time), most.max(time)));
    if least >= most {
        return Ok(0_u32.into());
    }
    let (upper, lower) = (chain.entry(id).work.to_be_bytes(), chain.entry(first).work.to_be_bytes());
    let real = |bytes: [u8; 32]| bytes.iter().fold(0.0_f64, |sum, byte| sum * 256.0 + f64::from(*byte));
    Ok(Json::float(real(difference(upper, lower)) / f64::from(most - least)))
}

/// Of two numbers of 32 bytes, the highest first.
fn difference(upper: [u8; 32], lower: [u8; 32]) -> [u8; 32] {
    let (mut result, mut borrow) = ([0; 32], false);
    for place in (0..32).rev() {
        let (less, first) = upper[place].overflowing_sub(lower[place]);
        let (less, second) = less.overflowing_sub(u8::from(borrow));
        result[place] = less;
        borrow = first || second;
    }
    result
}

pub(crate) fn getnetworkhashps(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    hashes_a_second(call, args.int_or(0, 120)?, args.int_or(1, -1)?)
}

pub(crate) fn getmininginfo(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let chain = call.chain();
    let params = chain.params();
    let tip = chain.entry(chain.tip());
    let mut json = Json::obj().with("blocks", tip.height);
    if let Some((weight, txs)) = call.state.assembled {
        json.put("currentblockweight", weight);
        json.put("currentblocktx", txs);
    }
    json.put("bits", format!("{:08x}", bits(tip)));
    json.put("difficulty", Json::float(difficulty(bits(tip))));
    json.put("target", target(bits(tip)));
    json.put("networkhashps", hashes_a_second(call, 120, -1)?);
    json.put("pooledtx", call.mempool().len());
    json.put("blockmintxfee", Json::amount(call.state.config.block_fee_min.cast_signed()));
    json.put("chain", params.chain_name());
    let now = u32::try_from(call.time()).unwrap_or(u32::MAX);
    let time = now.max(time_min(chain, chain.tip()));
    let next = next_bits(chain.tree(), chain.tip(), time, &params.headers.pow).to_consensus();
    let next = Json::obj()
        .with("height", tip.height + 1)
        .with("bits", format!("{next:08x}"))
        .with("difficulty", Json::float(difficulty(next)))
        .with("target", target(next));
    json.put("next", next);
    if let Some(challenge) = &params.signet_challenge {
        json.put("signet_challenge", challenge.to_hex_string());
    }
    Ok(json.with("warnings", warnings(call)))
}

pub(crate) fn prioritisetransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let txid = args.txid(0, "txid")?;
    let dummy = args.at(1);
    if !dummy.is_null() && dummy.real()? != 0.0 {
        let words = "Priority is no longer supported, dummy argument to prioritisetransaction must be 0.";
        return Err(RpcError::param(words));
    }
    let delta: i64 = args.at(2).int()?;
    let mempool = call.mempool();
    let dusty = mempool.options().require_standard
        && mempool.get(&txid).is_some_and(|entry| {
            let rate = mempool.options().dust_rate;
            entry.tx.output.iter().any(|out| out.value.to_sat() < crate::mempool::dust_threshold(out, rate))
        });
    if dusty {
        return Err(RpcError::param("Priority is not supported for transactions with dust outputs."));
    }
    call.ctx.node.mempool_mut().0.prioritise(txid, delta);
    Ok(true.into())
}

pub(crate) fn getprioritisedtransactions(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let mut json = Json::obj();
    for row in call.mempool().prioritised() {
        let mut told = Json::obj().with("fee_delta", row.delta).with("in_mempool", row.modified_fee.is_some());
        if let Some(fee) = row.modified_fee {
            told.put("modified_fee", fee);
        }
        json.put(&row.txid.to_string(), told);
    }
    Ok(json)
}

/// What BIP 22 calls a refusal.
pub(super) fn bip22(reject: &BlockReject) -> Json {
    if reject.reason.is_empty() { "rejected".into() } else { reject.reason.clone().into() }
}

/// A miner may leave out the witness of its coinbase, which can be but one.
fn complete(call: &Call<'_, '_>, block: &mut Block) {
    let above = call.chain().tree().find(&block.header.prev_blockhash).map(|id| call.chain().entry(id).height + 1);
    let witnesses = above.is_some_and(|height| height >= call.chain().params().segwit_height);
    let commits = witnesses && witness_commitment(block).is_some();
    if commits
        && let Some(coinbase) = block.txdata.first_mut()
        && let Some(input) = coinbase.input.first_mut()
        && input.witness.is_empty()
    {
        input.witness = bitcoin::Witness::from_slice(&[[0_u8; 32]]);
    }
}

pub(crate) fn submitblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let mut block = decode_block(args.text(0)?).ok_or_else(|| RpcError::decode("Block decode failed"))?;
    complete(call, &mut block);
    let hash = block.block_hash();
    let seen = call.ctx.node.events().len();
    let new = match call.ctx.node.on_block(&Arc::new(block), true)? {
        Ok(new) => new,
        Err(reject) => return Ok(bip22(&reject)),
    };
    if !new {
        return Ok("duplicate".into());
    }
    let is_it = |id: &BlockId| call.chain().entry(*id).hash == hash;
    for event in &call.ctx.node.events()[seen..] {
        match event {
            Event::Chain(ChainEvent::Connected { id, .. }) if is_it(id) => return Ok(Json::Null),
            Event::Chain(ChainEvent::Invalid { id, reject }) if is_it(id) => return Ok(bip22(reject)),
            _ => {}
        }
    }
    Ok("inconclusive".into())
}

pub(crate) fn submitheader(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let bytes = Vec::<u8>::from_hex(args.text(0)?).ok();
    let header = bytes.and_then(|bytes| deserialize_partial::<bitcoin::block::Header>(&bytes).ok());
    let (header, _) = header.ok_or_else(|| RpcError::decode("Block header decode failed"))?;
    if call.chain().tree().find(&header.prev_blockhash).is_none() {
        let words = format!("Must submit previous header ({}) first", header.prev_blockhash);
        return Err(RpcError::new(code::VERIFY_ERROR, words));
    }
    match call.ctx.node.on_header(&header) {
        Ok(_) => Ok(Json::Null),
        Err(reject) => Err(RpcError::new(code::VERIFY_ERROR, reject.reason)),
    }
}
