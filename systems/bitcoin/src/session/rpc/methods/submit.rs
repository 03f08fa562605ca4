//! Transactions that clients bring.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use crate::chain::is_unspendable;
use crate::mempool::{AcceptOptions, Accepted, PackageTx, TxReject, TxRejectKind, fee_at};
use crate::session::rpc::call::{Args, Call, amount, fee_rate};
use crate::session::rpc::error::{RpcError, code};
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::{decode_transaction, has_valid_ops};

/// In satoshi per 1,000 vbytes, if nothing is said: 0.10 BTC.
const RATE_MAX_DEFAULT: i64 = 10_000_000;
/// No call brings more transactions.
const PACKAGE_COUNT_MAX: usize = 25;

/// No fee above it, in satoshi per 1,000 vbytes; 0 for no bound.
fn rate_max(args: &Args) -> Result<u64, RpcError> {
    let rate = if args.at(1).is_null() { RATE_MAX_DEFAULT } else { fee_rate(args.at(1))? };
    Ok(rate.cast_unsigned())
}

fn burn_max(args: &Args) -> Result<u64, RpcError> {
    let burn = if args.at(2).is_null() { 0 } else { amount(args.at(2))? };
    Ok(burn.cast_unsigned())
}

fn burns(tx: &Transaction, most: u64) -> Result<(), RpcError> {
    let burnt = tx.output.iter().any(|out| {
        out.value.to_sat() > most && (is_unspendable(&out.script_pubkey) || !has_valid_ops(&out.script_pubkey))
    });
    if burnt {
        let words = "Unspendable output exceeds maximum configured by user (maxburnamount)";
        return Err(RpcError::new(code::VERIFY_ERROR, words));
    }
    Ok(())
}

/// A rejection, in words.
fn words(reject: &TxReject) -> String {
    if reject.debug.is_empty() { reject.reason.clone() } else { format!("{}, {}", reject.reason, reject.debug) }
}

pub(crate) fn sendrawtransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let burn = burn_max(args)?;
    let tx = decode_transaction(args.text(0)?)
        .ok_or_else(|| RpcError::decode("TX decode failed. Make sure the tx has at least one input."))?;
    burns(&tx, burn)?;
    let rate = rate_max(args)?;
    let txid = tx.compute_txid();
    bring(call, Arc::new(tx), rate)?;
    Ok(txid.into())
}

/// Brings one to the mempool; what is there already is only told to peers again.
pub(crate) fn bring(call: &mut Call<'_, '_>, tx: Arc<Transaction>, rate: u64) -> Result<(), RpcError> {
    let txid = tx.compute_txid();
    for vout in 0..tx.output.len() {
        let vout = u32::try_from(vout).unwrap_or(u32::MAX);
        if call.chain().coin(&bitcoin::OutPoint { txid, vout })?.is_some() {
            let words = "Transaction outputs already in utxo set";
            return Err(RpcError::new(code::VERIFY_ALREADY_IN_UTXO_SET, words));
        }
    }
    // Its witness may be another than that of what waits already, which is what peers hear of.
    if let Some(waits) = call.mempool().get(&txid).map(|entry| Arc::clone(&entry.tx)) {
        call.ctx.peers.tell_again(&waits);
    } else {
        let refused = |reject: TxReject| match reject.kind {
            TxRejectKind::MissingInputs => RpcError::new(code::VERIFY_ERROR, words(&reject)),
            _ => RpcError::new(code::VERIFY_REJECTED, words(&reject)),
        };
        if rate > 0 {
            let test = AcceptOptions { test: true, fee_rate_max: None };
            let accepted = call.ctx.node.on_transaction(Arc::clone(&tx), test)?.map_err(refused)?;
            if exceeds(&accepted, rate, tx.vsize() as u64) {
                let words = "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)";
                return Err(RpcError::new(code::VERIFY_ERROR, words));
            }
        }
        call.ctx.node.on_transaction(tx, AcceptOptions::default())?.map_err(refused)?;
        call.ctx.node.mempool_mut().0.add_unbroadcast(txid);
    }
    Ok(())
}

fn exceeds(accepted: &Accepted, rate: u64, vsize: u64) -> bool {
    rate > 0 && accepted.fee.to_sat().cast_signed() > fee_at(rate, vsize)
}

/// The transactions of an array.
fn package(values: &Json, burn: Option<u64>) -> Result<Vec<Arc<Transaction>>, RpcError> {
    let values = values.items()?;
    if !(1..=PACKAGE_COUNT_MAX).contains(&values.len()) {
        let words = format!("Array must contain between 1 and {PACKAGE_COUNT_MAX} transactions.");
        return Err(RpcError::param(words));
    }
    let mut txs = Vec::new();
    for value in values {
        let text = value.text()?;
        let tx = decode_transaction(text).ok_or_else(|| {
            RpcError::decode(format!("TX decode failed: {text} Make sure the tx has at least one input."))
        })?;
        if let Some(most) = burn {
            burns(&tx, most)?;
        }
        txs.push(Arc::new(tx));
    }
    Ok(txs)
}

fn fees_json(accepted: &Accepted) -> Json {
    Json::obj()
        .with("base", accepted.fee)
        .with("effective-feerate", Json::amount(accepted.effective.per_thousand()))
        .with("effective-includes", accepted.effective_includes.clone())
}

pub(crate) fn testmempoolaccept(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let txs = package(args.at(0), None)?;
    let rate = rate_max(args)?;
    let options = AcceptOptions { test: true, fee_rate_max: None };
    let outcome = if let [tx] = &txs[..] {
        let result = match call.ctx.node.on_transaction(Arc::clone(tx), options)? {
            Ok(accepted) => PackageTx::Accepted(accepted),
            Err(reject) => PackageTx::Rejected(reject),
        };
        crate::mempool::PackageOutcome { reject: None, txs: [(tx.compute_wtxid(), result)].into() }
    } else {
        call.ctx
            .node
            .with_mempool(|mempool, chain, now, events| mempool.accept_package(chain, &txs, now, options, events))?
    };
    let refused = outcome.reject.as_ref().filter(|reject| reject.kind == crate::mempool::PackageRejectKind::Policy);
    let (mut rows, mut over) = (Vec::new(), false);
    for tx in &txs {
        let mut row = Json::obj().with("txid", tx.compute_txid()).with("wtxid", tx.compute_wtxid());
        if let Some(reject) = refused {
            row.put("package-error", package_words(reject));
        }
        match outcome.txs.get(&tx.compute_wtxid()).filter(|_| !over) {
            Some(PackageTx::Accepted(accepted)) if exceeds(accepted, rate, accepted.vsize) => {
                row.put("allowed", false);
                row.put("reject-reason", "max-fee-exceeded");
                over = true;
            }
            Some(PackageTx::Accepted(accepted)) => {
                row.put("allowed", true);
                row.put("vsize", accepted.vsize);
                row.put("fees", fees_json(accepted));
            }
            Some(PackageTx::Rejected(reject)) if reject.kind == TxRejectKind::MissingInputs => {
                row.put("allowed", false);
                row.put("reject-reason", "missing-inputs");
            }
            Some(PackageTx::Rejected(reject)) => {
                row.put("allowed", false);
                row.put("reject-reason", reject.reason.clone());
                row.put("reject-details", words(reject));
            }
            _ => {}
        }
        rows.push(row);
    }
    Ok(Json::Arr(rows))
}

fn package_words(reject: &crate::mempool::PackageReject) -> String {
    if reject.debug.is_empty() { reject.reason.clone() } else { format!("{}, {}", reject.reason, reject.debug) }
}

/// Is the last one a child of all the others, none of which spends another?
fn is_child_with_parents(txs: &[Arc<Transaction>]) -> bool {
    let Some((child, parents)) = txs.split_last() else { return false };
    let spent =
        |tx: &Transaction| -> BTreeSet<Txid> { tx.input.iter().map(|input| input.previous_output.txid).collect() };
    let ids: BTreeSet<Txid> = parents.iter().map(|tx| tx.compute_txid()).collect();
    ids.is_subset(&spent(child)) && parents.iter().all(|parent| spent(parent).is_disjoint(&ids))
}

pub(crate) fn submitpackage(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    // Shapes are looked at first, then rates, then transactions.
    let count = args.at(0).items()?.len();
    if !(1..=PACKAGE_COUNT_MAX).contains(&count) {
        package(args.at(0), None)?;
    }
    let (rate, burn) = (rate_max(args)?, burn_max(args)?);
    let txs = package(args.at(0), Some(burn))?;
    if txs.len() > 1 && !is_child_with_parents(&txs) {
        let words = "package topology disallowed. not child-with-parents or parents depend on each other.";
        return Err(RpcError::new(code::VERIFY_ERROR, words));
    }
    let bound = (rate > 0).then_some(rate);
    let options = AcceptOptions { test: false, fee_rate_max: bound };
    let outcome = call
        .ctx
        .node
        .with_mempool(|mempool, chain, now, events| mempool.accept_package(chain, &txs, now, options, events))?;
    let message = outcome.reject.as_ref().map_or("success".to_string(), package_words);
    let (mut results, mut replaced) = (Json::obj(), BTreeSet::new());
    for tx in &txs {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let row = Json::obj().with("txid", txid);
        let row = match outcome.txs.get(&wtxid) {
            None => row.with("error", "package-not-validated"),
            Some(PackageTx::OtherWitness(other)) => row.with("other-wtxid", *other),
            Some(PackageTx::Rejected(reject)) => row.with("error", words(reject)),
            Some(PackageTx::AlreadyThere { vsize, fee }) => {
                row.with("vsize", *vsize).with("fees", Json::obj().with("base", *fee))
            }
            Some(PackageTx::Accepted(accepted)) => {
                replaced.extend(accepted.replaced.iter().map(|tx| tx.compute_txid()));
                row.with("vsize", accepted.vsize).with("fees", fees_json(accepted))
            }
        };
        results.put(&wtxid.to_string(), row);
    }
    Ok(Json::obj()
        .with("package_msg", message)
        .with("tx-results", results)
        .with("replaced-transactions", Json::arr(replaced)))
}

const NOT_PRIVATE: &str =
    "Private broadcast is not enabled. Ensure you're running Bitcoin Core with -privatebroadcast=1.";

pub(crate) fn getprivatebroadcastinfo(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Err(RpcError::new(code::METHOD_NOT_FOUND, NOT_PRIVATE))
}

pub(crate) fn abortprivatebroadcast(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Err(RpcError::new(code::METHOD_NOT_FOUND, NOT_PRIVATE))
}
