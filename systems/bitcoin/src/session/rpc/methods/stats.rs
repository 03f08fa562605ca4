//! Figures of blocks.

use std::collections::BTreeSet;

use bitcoin::{Block, TxOut};

use super::blocks::by_hash_or_height;
use crate::chain::{BlockUndo, Coin, is_unspendable};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;

/// What a coin takes beside its output: its outpoint, its height, whether a coinbase made it.
const COIN_BYTES: i64 = 32 + 4 + 4 + 1;
const PERCENTILES: [i64; 5] = [10, 25, 50, 75, 90];

pub(crate) fn getchaintxstats(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let chain = call.chain();
    let month = 30 * 24 * 60 * 60 / chain.params().headers.pow.spacing;
    let id = if args.at(1).is_null() {
        chain.tip()
    } else {
        let id = call.find(&args.block_hash(1, "blockhash")?)?;
        if !chain.is_active(id) {
            return Err(RpcError::param("Block is not in main chain"));
        }
        id
    };
    let entry = chain.entry(id);
    let count = if args.at(0).is_null() {
        month.min(entry.height.saturating_sub(1))
    } else {
        let count: i32 = args.at(0).int()?;
        let valid = |count: &u32| *count == 0 || *count < entry.height;
        u32::try_from(count)
            .ok()
            .filter(valid)
            .ok_or_else(|| RpcError::param("Invalid block count: should be between 0 and the block's height - 1"))?
    };
    let past = chain.tree().ancestor(id, entry.height - count).unwrap_or(id);
    let tree = chain.tree();
    let interval = i64::from(tree.median_time_past(id)) - i64::from(tree.median_time_past(past));
    let mut json = Json::obj().with("time", entry.header.time);
    if entry.chain_tx_count > 0 {
        json.put("txcount", entry.chain_tx_count);
    }
    json.put("window_final_block_hash", entry.hash);
    json.put("window_final_block_height", entry.height);
    json.put("window_block_count", count);
    if count > 0 {
        json.put("window_interval", interval);
        let before = chain.entry(past).chain_tx_count;
        if entry.chain_tx_count > 0 && before > 0 {
            let txs = entry.chain_tx_count - before;
            json.put("window_tx_count", txs);
            if interval > 0 {
                json.put("txrate", Json::float(txs as f64 / interval as f64));
            }
        }
    }
    Ok(json)
}

#[derive(Debug, Default)]
struct Sums {
    fees: Vec<i64>,
    /// Rates in satoshi per vbyte, with weights.
    rates: Vec<(i64, i64)>,
    sizes: Vec<i64>,
    inputs: i64,
    outputs: i64,
    spendable: i64,
    out_total: i64,
    weight_total: i64,
    witness: (i64, i64, i64),
    size_increase: i64,
    size_increase_actual: i64,
}

fn coin_bytes(out: &TxOut) -> i64 {
    out.size() as i64 + COIN_BYTES
}

fn satoshi(outs: impl Iterator<Item = u64>) -> i64 {
    outs.sum::<u64>().cast_signed()
}

impl Sums {
    fn of(block: &Block, undo: &BlockUndo, is_first: bool) -> Self {
        let mut sums = Self::default();
        for (index, tx) in block.txdata.iter().enumerate() {
            sums.outputs += tx.output.len() as i64;
            for out in &tx.output {
                sums.size_increase += coin_bytes(out);
                // The first block's coins, and those that cannot be spent, never were among the unspent ones.
                if !is_first && !is_unspendable(&out.script_pubkey) {
                    sums.spendable += 1;
                    sums.size_increase_actual += coin_bytes(out);
                }
            }
            let Some(place) = index.checked_sub(1) else { continue };
            let spent: &[Coin] = undo.txs.get(place).map_or(&[], |undo| &undo.spent);
            sums.inputs += tx.input.len() as i64;
            let paid = satoshi(tx.output.iter().map(|out| out.value.to_sat()));
            sums.out_total += paid;
            let (size, weight) = (tx.total_size() as i64, tx.weight().to_wu().cast_signed());
            sums.sizes.push(size);
            sums.weight_total += weight;
            if tx.input.iter().any(|input| !input.witness.is_empty()) {
                sums.witness = (sums.witness.0 + 1, sums.witness.1 + size, sums.witness.2 + weight);
            }
            for coin in spent {
                sums.size_increase -= coin_bytes(&coin.out);
                sums.size_increase_actual -= coin_bytes(&coin.out);
            }
            let fee = satoshi(spent.iter().map(|coin| coin.out.value.to_sat())) - paid;
            sums.fees.push(fee);
            sums.rates.push((if weight > 0 { fee * 4 / weight } else { 0 }, weight));
        }
        sums
    }

    fn json(self) -> Json {
        let per_tx = |sum: i64| if self.fees.is_empty() { 0 } else { sum / self.fees.len() as i64 };
        let (fee_total, size_total): (i64, i64) = (self.fees.iter().sum(), self.sizes.iter().sum());
        let rates: Vec<i64> = self.rates.iter().map(|(rate, _)| *rate).collect();
        let most = |values: &[i64]| values.iter().copied().max().unwrap_or(0).max(0);
        let least = |values: &[i64]| values.iter().copied().min().unwrap_or(0);
        let rate = if self.weight_total > 0 { fee_total * 4 / self.weight_total } else { 0 };
        Json::obj()
            .with("avgfee", per_tx(fee_total))
            .with("avgfeerate", rate)
            .with("avgtxsize", per_tx(size_total))
            .with("feerate_percentiles", percentiles(self.rates.clone(), self.weight_total))
            .with("ins", self.inputs)
            .with("maxfee", most(&self.fees))
            .with("maxfeerate", most(&rates))
            .with("maxtxsize", most(&self.sizes))
            .with("medianfee", median(self.fees.clone()))
            .with("mediantxsize", median(self.sizes.clone()))
            .with("minfee", least(&self.fees))
            .with("minfeerate", least(&rates))
            .with("mintxsize", least(&self.sizes))
            .with("outs", self.outputs)
            .with("swtotal_size", self.witness.1)
            .with("swtotal_weight", self.witness.2)
            .with("swtxs", self.witness.0)
            .with("total_out", self.out_total)
            .with("total_size", size_total)
            .with("total_weight", self.weight_total)
            .with("totalfee", fee_total)
            .with("txs", self.fees.len() + 1)
            .with("utxo_increase", self.outputs - self.inputs)
            .with("utxo_size_inc", self.size_increase)
            .with("utxo_increase_actual", self.spendable - self.inputs)
            .with("utxo_size_inc_actual", self.size_increase_actual)
    }
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => 0,
        count if count % 2 == 0 => i64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// The rates below which these parts of the weight lie.
fn percentiles(mut rates: Vec<(i64, i64)>, weight_total: i64) -> Vec<i64> {
    rates.sort_unstable();
    let (mut found, mut weight) = (Vec::new(), 0_i64);
    for (rate, own) in &rates {
        weight += own;
        while found.len() < PERCENTILES.len() && weight * 100 >= weight_total * PERCENTILES[found.len()] {
            found.push(*rate);
        }
    }
    let last = rates.last().map_or(0, |(rate, _)| *rate);
    found.resize(PERCENTILES.len(), last);
    found
}

/// Every figure, in the order in which they are told.
const ORDER: [&str; 31] = [
    "avgfee",
    "avgfeerate",
    "avgtxsize",
    "blockhash",
    "feerate_percentiles",
    "height",
    "ins",
    "maxfee",
    "maxfeerate",
    "maxtxsize",
    "medianfee",
    "mediantime",
    "mediantxsize",
    "minfee",
    "minfeerate",
    "mintxsize",
    "outs",
    "subsidy",
    "swtotal_size",
    "swtotal_weight",
    "swtxs",
    "time",
    "total_out",
    "total_size",
    "total_weight",
    "totalfee",
    "txs",
    "utxo_increase",
    "utxo_size_inc",
    "utxo_increase_actual",
    "utxo_size_inc_actual",
];

pub(crate) fn getblockstats(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let id = by_hash_or_height(call, args, 0)?;
    let mut selected = BTreeSet::new();
    if !args.at(1).is_null() {
        for name in args.at(1).items()? {
            selected.insert(name.text()?);
        }
    }
    let block = call.block(id)?;
    let entry = call.chain().entry(id);
    let undo = match call.chain().undo(id)? {
        Some(undo) => undo,
        None if entry.height == 0 => BlockUndo::default(),
        None => return Err(RpcError::misc(format!("Undo data not available ({})", call.why_missing(id)))),
    };
    let all = Sums::of(&block, &undo, entry.height == 0)
        .json()
        .with("blockhash", entry.hash)
        .with("height", entry.height)
        .with("mediantime", call.chain().tree().median_time_past(id))
        .with("subsidy", call.chain().params().subsidy(entry.height))
        .with("time", entry.header.time);
    let mut json = Json::obj();
    if selected.is_empty() {
        for name in ORDER {
            json.put(name, all.get(name).clone());
        }
        return Ok(json);
    }
    for name in selected {
        let value = all.get(name);
        if value.is_null() {
            return Err(RpcError::param(format!("Invalid selected statistic '{name}'")));
        }
        json.put(name, value.clone());
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_go_by_weight() {
        assert_eq!(percentiles(vec![(1, 50), (10, 50)], 100), [1, 1, 1, 10, 10]);
        assert_eq!(percentiles(Vec::new(), 0), [0; 5]);
        assert_eq!(median(vec![3, 1, 2]), 2);
        assert_eq!(median(vec![4, 1, 2, 3]), 2);
    }
}
