//! Transactions as texts.

use std::collections::BTreeSet;

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute, transaction};
use verity_nakamoto::BlockId;

use super::addresses::decode;
use crate::chain::is_unspendable;
use crate::session::rpc::call::{Args, Call, amount, hash, hex};
use crate::session::rpc::descriptor::{self, Known};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::{decode_either, encode_hex, has_valid_ops};
use crate::session::rpc::render::script::{self, Template};
use crate::session::rpc::render::transaction::{Shown, render};

/// The highest version that nodes relay, and what is written if nothing is said.
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=3;
const VERSION_DEFAULT: u32 = 2;
/// The highest sequence that says that the transaction may be replaced (BIP 125).
const SEQUENCE_REPLACEABLE: u32 = 0xffff_fffd;

/// Where a transaction was found.
struct Found {
    tx: Transaction,
    block: Option<BlockId>,
}

fn in_block(call: &Call<'_, '_>, id: BlockId, txid: &Txid) -> Result<Option<Transaction>, RpcError> {
    let Some(block) = call.chain().block(id)? else { return Ok(None) };
    Ok(block.txdata.iter().find(|tx| tx.compute_txid() == *txid).cloned())
}

fn find(call: &Call<'_, '_>, txid: &Txid, block: Option<BlockId>) -> Result<Option<Found>, RpcError> {
    if let Some(id) = block {
        return Ok(in_block(call, id, txid)?.map(|tx| Found { tx, block }));
    }
    if let Some(entry) = call.mempool().get(txid) {
        return Ok(Some(Found { tx: (*entry.tx).clone(), block: None }));
    }
    let Some(id) = call.transaction_block(txid)? else { return Ok(None) };
    Ok(in_block(call, id, txid)?.map(|tx| Found { tx, block: Some(id) }))
}

fn not_found(call: &Call<'_, '_>, block: Option<BlockId>) -> RpcError {
    let index = call.index_progress().into_iter().find(|(name, _)| *name == "txindex");
    let words = match (block, index) {
        (Some(id), _) if !call.chain().entry(id).has_data => return RpcError::misc("Block not available"),
        (Some(_), _) => "No such transaction found in the provided block",
        (None, None) => {
            "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries"
        }
        (None, Some((_, height))) if height < call.chain().height() => {
            "No such mempool transaction. Blockchain transactions are still in the process of being indexed"
        }
        (None, Some(_)) => "No such mempool or blockchain transaction",
    };
    RpcError::key(format!("{words}. Use gettransaction for wallet transactions."))
}

pub(crate) fn getrawtransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let txid = args.txid(0, "parameter 1")?;
    let genesis = call.chain().params().genesis.header.merkle_root;
    if txid.to_byte_array() == genesis.to_byte_array() {
        let words = "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved";
        return Err(RpcError::key(words));
    }
    let verbosity = args.verbosity(1, 0, true)?;
    let given = if args.at(2).is_null() {
        None
    } else {
        let hash = args.block_hash(2, "parameter 3")?;
        let id = call.chain().tree().find(&hash);
        Some(id.ok_or_else(|| RpcError::key("Block hash not found"))?)
    };
    let Some(found) = find(call, &txid, given)? else { return Err(not_found(call, given)) };
    if verbosity <= 0 {
        return Ok(encode_hex(&found.tx).into());
    }
    let undo = match found.block {
        Some(id) if verbosity > 1 && !found.tx.is_coinbase() => spent_by(call, id, &txid)?,
        _ => None,
    };
    let chain = call.chain();
    let block = found.block.map(|id| chain.entry(id));
    let shown = Shown::on(chain.params().network).with_hex().spending(undo.as_ref(), true);
    let mut json = Json::obj();
    if let Some(id) = given {
        json.put("in_active_chain", chain.is_active(id));
    }
    if let Json::Obj(fields) = render(&found.tx, shown) {
        for (name, value) in fields {
            json.put(&name, value);
        }
    }
    if let (Some(id), Some(entry)) = (found.block, block) {
        let active = chain.is_active(id);
        json.put("blockhash", entry.hash);
        json.put("confirmations", if active { chain.height() - entry.height + 1 } else { 0 });
        if active {
            json.put("time", entry.header.time);
            json.put("blocktime", entry.header.time);
        }
    }
    Ok(json)
}

/// What a transaction of a block spent.
fn spent_by(call: &Call<'_, '_>, id: BlockId, txid: &Txid) -> Result<Option<crate::chain::TxUndo>, RpcError> {
    let (Some(block), Some(undo)) = (call.chain().block(id)?, call.chain().undo(id)?) else { return Ok(None) };
    let place = block.txdata.iter().position(|tx| tx.compute_txid() == *txid);
    Ok(place.and_then(|place| place.checked_sub(1)).and_then(|place| undo.txs.get(place).cloned()))
}

pub(crate) fn decoderawtransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let witness = if args.at(1).is_null() { None } else { Some(args.at(1).bool()?) };
    let tx = decode_either(args.text(0)?, witness.unwrap_or(true), !witness.unwrap_or(false));
    let tx = tx.ok_or_else(|| RpcError::decode("TX decode failed"))?;
    Ok(render(&tx, Shown::on(call.chain().params().network)))
}

/// Can it stand behind a hash?
fn can_wrap(script: &ScriptBuf, template: &Template) -> bool {
    let fits = matches!(
        template,
        Template::Multisig { .. }
            | Template::Nonstandard
            | Template::Pubkey(_)
            | Template::PubkeyHash(_)
            | Template::WitnessKeyHash(_)
            | Template::WitnessScriptHash(_)
    );
    let known =
        |opcode: u8| !matches!(opcode, 80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 186..);
    let plain = script.instructions().all(|step| match step {
        Ok(bitcoin::script::Instruction::Op(opcode)) => known(opcode.to_u8()),
        Ok(bitcoin::script::Instruction::PushBytes(_)) => true,
        Err(_) => false,
    });
    fits && has_valid_ops(script) && !is_unspendable(script) && plain
}

/// The output by witness that stands for it, if there can be one.
fn by_witness(script: &ScriptBuf, template: &Template, known: &mut Known) -> Option<ScriptBuf> {
    let key_hash = |hash: [u8; 20]| ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array(hash));
    match template {
        Template::Pubkey(key) if key.len() == 33 => {
            Some(key_hash(bitcoin::hashes::hash160::Hash::hash(key).to_byte_array()))
        }
        Template::PubkeyHash(hash) => Some(key_hash(*hash)),
        Template::Multisig { keys, .. } if keys.iter().any(|key| key.len() != 33) => None,
        Template::Multisig { .. } | Template::Nonstandard => {
            known.add_script(script.clone());
            Some(ScriptBuf::new_p2wsh(&script.wscript_hash()))
        }
        _ => None,
    }
}

pub(crate) fn decodescript(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let network = call.chain().params().network;
    let bytes = if args.text(0)?.is_empty() { Vec::new() } else { hex(args.at(0), "argument")? };
    let script = ScriptBuf::from_bytes(bytes);
    let mut json = script::fields(&script, network, false);
    let template = Template::of(&script);
    if !can_wrap(&script, &template) {
        return Ok(json);
    }
    let hashed = |script: &ScriptBuf| {
        let output = ScriptBuf::new_p2sh(&script.script_hash());
        script::address(&output, network).map(|address| address.to_string())
    };
    json.put("p2sh", hashed(&script));
    let mut known = Known::default();
    if let Some(witness) = by_witness(&script, &template, &mut known) {
        let mut inner = Json::obj();
        if let Json::Obj(fields) = script::output(&witness, network) {
            for (name, value) in fields {
                let value = if name == "desc" { descriptor::infer(&witness, &known, network).into() } else { value };
                inner.put(&name, value);
            }
        }
        json.put("segwit", inner.with("p2sh-segwit", hashed(&witness)));
    }
    Ok(json)
}

/// A transaction that spends these and pays those.
pub(crate) fn construct(call: &Call<'_, '_>, args: &Args) -> Result<Transaction, RpcError> {
    let replaceable = if args.at(3).is_null() { None } else { Some(args.at(3).bool()?) };
    let version: u32 = args.int_or(4, VERSION_DEFAULT)?;
    let lock: i64 = args.int_or(2, 0)?;
    let lock = u32::try_from(lock).map_err(|_| RpcError::param("Invalid parameter, locktime out of range"))?;
    if !VERSIONS.contains(&version) {
        let words = format!("Invalid parameter, version out of range({}~{})", VERSIONS.start(), VERSIONS.end());
        return Err(RpcError::param(words));
    }
    let tx = Transaction {
        version: transaction::Version(version.cast_signed()),
        lock_time: absolute::LockTime::from_consensus(lock),
        input: inputs(args.at(0), lock, replaceable)?,
        output: outputs(call, args.at(1))?,
    };
    let signals = tx.input.iter().any(|input| input.sequence.0 <= SEQUENCE_REPLACEABLE);
    if replaceable == Some(true) && !tx.input.is_empty() && !signals {
        let words = "Invalid parameter combination: Sequence number(s) contradict replaceable option";
        return Err(RpcError::param(words));
    }
    Ok(tx)
}

pub(crate) fn inputs(values: &Json, lock: u32, replaceable: Option<bool>) -> Result<Vec<TxIn>, RpcError> {
    if values.is_null() {
        return Ok(Vec::new());
    }
    let mut inputs = Vec::new();
    for value in values.items()? {
        value.fields()?;
        let txid = Txid::from_byte_array(hash(value.get("txid"), "txid")?);
        let vout = value.get("vout");
        let Json::Num(_) = vout else { return Err(RpcError::param("Invalid parameter, missing vout key")) };
        let vout = u32::try_from(vout.int::<i32>()?)
            .map_err(|_| RpcError::param("Invalid parameter, vout cannot be negative"))?;
        let sequence = match value.get("sequence") {
            number @ Json::Num(_) => u32::try_from(number.int::<i64>()?)
                .map_err(|_| RpcError::param("Invalid parameter, sequence number is out of range"))?,
            _ if replaceable.unwrap_or(true) => SEQUENCE_REPLACEABLE,
            _ if lock > 0 => u32::MAX - 1,
            _ => u32::MAX,
        };
        inputs.push(TxIn {
            previous_output: OutPoint { txid, vout },
            script_sig: ScriptBuf::new(),
            sequence: Sequence(sequence),
            witness: Witness::new(),
        });
    }
    Ok(inputs)
}

pub(crate) fn outputs(call: &Call<'_, '_>, values: &Json) -> Result<Vec<TxOut>, RpcError> {
    if values.is_null() {
        return Err(RpcError::param("Invalid parameter, output argument must be non-null"));
    }
    let mut pairs: Vec<&(String, Json)> = Vec::new();
    if let Json::Obj(fields) = values {
        pairs.extend(fields);
    } else {
        for value in values.items()? {
            let Json::Obj(fields) = value else {
                let words = "Invalid parameter, key-value pair not an object as expected";
                return Err(RpcError::param(words));
            };
            let [pair] = &fields[..] else {
                let words = "Invalid parameter, key-value pair must contain exactly one key";
                return Err(RpcError::param(words));
            };
            pairs.push(pair);
        }
    }
    let network = call.chain().params().network;
    let (mut outputs, mut seen, mut with_data) = (Vec::new(), BTreeSet::new(), false);
    for (name, value) in pairs {
        let (value, script_pubkey) = if name == "data" {
            if std::mem::replace(&mut with_data, true) {
                return Err(RpcError::param("Invalid parameter, duplicate key: data"));
            }
            let bytes = hex(&Json::from(value.raw_text()), "Data")?;
            let push = PushBytesBuf::try_from(bytes).map_err(|_| RpcError::param("Data is too long"))?;
            (0, Builder::new().push_opcode(OP_RETURN).push_slice(push).into_script())
        } else {
            let satoshi = amount(value)?;
            let address =
                decode(name, network).map_err(|_| RpcError::key(format!("Invalid Bitcoin address: {name}")))?;
            let script = address.script_pubkey();
            if !seen.insert(script.clone()) {
                return Err(RpcError::param(format!("Invalid parameter, duplicated address: {name}")));
            }
            (satoshi, script)
        };
        outputs.push(TxOut { value: Amount::from_sat(value.cast_unsigned()), script_pubkey });
    }
    Ok(outputs)
}

pub(crate) fn createrawtransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    Ok(encode_hex(&construct(call, args)?).into())
}

pub(crate) fn combinerawtransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    super::sign::combine(call, args)
}
