//! How a transaction looks in JSON.

use bitcoin::hex::DisplayHex;
use bitcoin::{Network, Transaction};

use super::codec::{encode_hex, has_witness};
use super::script;
use crate::chain::TxUndo;
use crate::session::rpc::json::Json;

/// How much of it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) network: Network,
    /// Its bytes.
    pub(crate) hex: bool,
    /// What it spent: its fee follows.
    pub(crate) undo: Option<&'a TxUndo>,
    /// Each output that it spent, too.
    pub(crate) prevouts: bool,
}

impl<'a> Shown<'a> {
    pub(crate) fn on(network: Network) -> Self {
        Self { network, hex: false, undo: None, prevouts: false }
    }

    pub(crate) fn with_hex(mut self) -> Self {
        self.hex = true;
        self
    }

    pub(crate) fn spending(mut self, undo: Option<&'a TxUndo>, prevouts: bool) -> Self {
        (self.undo, self.prevouts) = (undo, prevouts);
        self
    }
}

/// The version, which is unsigned.
pub(crate) fn version(tx: &Transaction) -> u32 {
    tx.version.0.cast_unsigned()
}

/// The transaction.
pub(crate) fn render(tx: &Transaction, shown: Shown<'_>) -> Json {
    // A transaction without inputs is counted as one without witnesses, though it may be written otherwise.
    let size = if has_witness(tx) { tx.total_size() } else { tx.base_size() };
    let weight = tx.base_size() * 3 + size;
    let mut json = Json::obj()
        .with("txid", tx.compute_txid())
        .with("hash", tx.compute_wtxid())
        .with("version", version(tx))
        .with("size", size)
        .with("vsize", weight.div_ceil(4))
        .with("weight", weight)
        .with("locktime", tx.lock_time.to_consensus_u32())
        .with("vin", Json::Arr((0..tx.input.len()).map(|index| input(tx, index, shown)).collect()))
        .with("vout", Json::Arr((0..tx.output.len()).map(|index| output(tx, index, shown.network)).collect()));
    if let Some(undo) = shown.undo {
        let spent: u64 = undo.spent.iter().map(|coin| coin.out.value.to_sat()).sum();
        let paid: u64 = tx.output.iter().map(|out| out.value.to_sat()).sum();
        json.put("fee", Json::amount(spent.cast_signed() - paid.cast_signed()));
    }
    if shown.hex {
        json.put("hex", encode_hex(tx));
    }
    json
}

fn input(tx: &Transaction, index: usize, shown: Shown<'_>) -> Json {
    let input = &tx.input[index];
    let mut json = Json::obj();
    if tx.is_coinbase() {
        json.put("coinbase", input.script_sig.to_hex_string());
    } else {
        json.put("txid", input.previous_output.txid);
        json.put("vout", input.previous_output.vout);
        let unlocking =
            Json::obj().with("asm", script::asm(&input.script_sig, true)).with("hex", input.script_sig.to_hex_string());
        json.put("scriptSig", unlocking);
    }
    if !input.witness.is_empty() {
        json.put("txinwitness", Json::arr(input.witness.iter().map(|item| item.to_lower_hex_string())));
    }
    if shown.prevouts
        && let Some(coin) = shown.undo.and_then(|undo| undo.spent.get(index))
    {
        let prevout = Json::obj()
            .with("generated", coin.coinbase)
            .with("height", coin.height)
            .with("value", coin.out.value)
            .with("scriptPubKey", script::output(&coin.out.script_pubkey, shown.network));
        json.put("prevout", prevout);
    }
    json.with("sequence", input.sequence.0)
}

fn output(tx: &Transaction, index: usize, network: Network) -> Json {
    let out = &tx.output[index];
    // What was never checked may be above all money there is.
    Json::obj()
        .with("value", Json::amount(out.value.to_sat().cast_signed()))
        .with("n", index)
        .with("scriptPubKey", script::output(&out.script_pubkey, network))
}
