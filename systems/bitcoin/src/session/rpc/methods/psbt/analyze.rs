//! What a PSBT still needs, and from whom.

use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, Psbt};

use super::{decode, process};
use crate::chain::is_unspendable;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::Known;
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;

/// Who has to do something next, the earliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Creator,
    Updater,
    Signer,
    Finalizer,
    Extractor,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Creator => "creator",
            Self::Updater => "updater",
            Self::Signer => "signer",
            Self::Finalizer => "finalizer",
            Self::Extractor => "extractor",
        }
    }
}

/// What is missing of an input, and who has to do something about it.
fn input(psbt: &Psbt, index: usize) -> Result<(Json, Role), RpcError> {
    let has_utxo = process::spent(psbt, index).is_some();
    let is_final = process::is_final(&psbt.inputs[index]);
    let (mut missing, mut next) = (Json::obj(), if has_utxo { Role::Extractor } else { Role::Updater });
    if !is_final {
        let data = process::sign(&mut psbt.clone(), index, &Known::default(), 0, false)?;
        let hashes = |ids: &[[u8; 20]]| Json::arr(ids.iter().map(|id| id.to_lower_hex_string()));
        if data.complete {
            next = next.min(Role::Finalizer);
        } else {
            if !data.missing_keys.is_empty() {
                missing.put("pubkeys", hashes(&data.missing_keys));
            }
            if let Some(id) = data.missing_redeem {
                missing.put("redeemscript", id.to_lower_hex_string());
            }
            if let Some(hash) = data.missing_witness {
                missing.put("witnessscript", hash.to_lower_hex_string());
            }
            let only_signatures = missing.fields().is_ok_and(<[_]>::is_empty) && !data.missing_signatures.is_empty();
            if !data.missing_signatures.is_empty() {
                missing.put("signatures", hashes(&data.missing_signatures));
            }
            next = next.min(if only_signatures { Role::Signer } else { Role::Updater });
        }
    }
    let mut json =
        Json::obj().with("has_utxo", has_utxo).with("is_final", is_final && has_utxo).with("next", next.name());
    if missing.fields().is_ok_and(|fields| !fields.is_empty()) {
        json.put("missing", missing);
    }
    Ok((json, next))
}

fn invalid(words: String) -> Json {
    Json::obj().with("next", Role::Creator.name()).with("error", words)
}

pub(crate) fn analyzepsbt(_: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let psbt = decode(args.text(0)?)?;
    let (mut rows, mut next) = (Vec::new(), Role::Extractor);
    let mut total = Some(Amount::ZERO);
    for index in 0..psbt.inputs.len() {
        let out = process::spent(&psbt, index);
        if let Some(out) = &out {
            let sum = total.unwrap_or(Amount::ZERO).checked_add(out.value);
            if out.value > Amount::MAX_MONEY || sum.is_none_or(|sum| sum > Amount::MAX_MONEY) {
                return Ok(invalid(format!("PSBT is not valid. Input {index} has invalid value")));
            }
            if is_unspendable(&out.script_pubkey) {
                return Ok(invalid(format!("PSBT is not valid. Input {index} spends unspendable output")));
            }
        }
        total = total.zip(out).map(|(total, out)| total + out.value);
        let (row, role) = input(&psbt, index)?;
        rows.push(row);
        next = next.min(role);
    }
    let mut json = Json::obj();
    if !rows.is_empty() {
        json.put("inputs", Json::Arr(rows));
    }
    if let Some(total) = total {
        let paid = psbt.unsigned_tx.output.iter().try_fold(Amount::ZERO, |sum, out| sum.checked_add(out.value));
        let Some(paid) = paid.filter(|paid| *paid <= Amount::MAX_MONEY) else {
            return Ok(invalid("PSBT is not valid. Output amount invalid".into()));
        };
        let fee = total.to_sat().cast_signed() - paid.to_sat().cast_signed();
        let mut tx = psbt.unsigned_tx.clone();
        let mut sized = true;
        for (index, input) in tx.input.iter_mut().enumerate() {
            match process::estimate(&psbt, index) {
                Some(data) => (input.script_sig, input.witness) = (data.script_sig, data.witness),
                None => sized = false,
            }
        }
        if sized {
            let vsize = tx.vsize() as i64;
            json.put("estimated_vsize", vsize);
            json.put("estimated_feerate", Json::amount(fee * 1_000 / vsize.max(1)));
        }
        json.put("fee", Json::amount(fee));
    }
    Ok(json.with("next", next.name()))
}
