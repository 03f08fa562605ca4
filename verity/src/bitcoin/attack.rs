//! Attacks on a cluster's Bitcoin nodes, by a node that is the attacker's own and speaks to them as any peer does.
//!
//! - [`reorganise`]: the attacker mines in secret from below the last blocks, one more than they are, and shows what it has;
//! - [`race`]: it has a share of the hash power. The race begins when it has found its first block in secret; it ends when it has
//!   more blocks than all others at a moment when the others have as many as a merchant waits for, or when it gives up;
//! - [`eclipse`]: it is all that its victim hears, and mines blocks for it that nobody else has seen.
//!
//! With a payment to reverse, the attacker's first block pays the same coins back to the wallet that spent them, by that
//! wallet's own signature; else what it reverts waits again.
//!
//! Deliberately absent: what cuts the victim's links (`admin/fault`).

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use serde_json::{Value, json};
use verity_types::NodeId;

use super::chains::Chains;
use super::member::{Member, until};
use super::miners::mine;
use super::rpc::Node as Calls;
use crate::secrets;

/// No reorganisation is deeper: coins of a hundred blocks may be spent.
const DEPTH_MAX: u32 = 1_000;
/// An attacker so far behind gives up. With a share of 0.4 it would still win three such races in ten thousand.
const GIVES_UP: u32 = 20;
/// A race has no more blocks.
const BLOCKS_MAX: u32 = 2_000;
/// No merchant waits for more.
const CONFIRMATIONS_MAX: u32 = 100;
/// No eclipse shows more blocks.
const ECLIPSE_MAX: u32 = 1_000;
/// What a transaction that takes a payment's coins back pays to its miner, in satoshis.
const FEE: u64 = 1_000;
/// The attacker's id among nodes: none of the cluster's.
const ATTACKER: u64 = 666;
/// Old chains are as good as new ones, and nobody else is dialled.
const FLAGS: [&str; 4] = ["-maxtipage=1000000000", "-connect=0", "-uacomment=attacker", "-disablewallet"];
fn tip(of: &Calls) -> Result<String> {
    of.text("getbestblockhash", &json!([]))
}

/// The members, those with the most work first.
fn members(chains: &Chains) -> Result<Vec<(NodeId, Calls, SocketAddr)>> {
    let mut all = Vec::new();
    for (id, calls, p2p) in chains.all() {
        let work = calls.call("getblockchaininfo", &json!([]))?["chainwork"].as_str().unwrap_or_default().to_owned();
        all.push((std::cmp::Reverse(work), id, calls, p2p));
    }
    all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    ensure!(!all.is_empty(), "no Bitcoin node runs");
    Ok(all.into_iter().map(|(_, id, calls, p2p)| (id, calls, p2p)).collect())
}

/// A payment's coins, paid back to the wallet that spent them.
struct Conflict {
    /// The payment.
    payment: String,
    txid: String,
    hex: String,
}

impl Conflict {
    /// Signed by whichever wallet has the keys.
    fn make(members: &[(NodeId, Calls, SocketAddr)], payment: &str) -> Result<Self> {
        let (_, any, _) = members.first().context("somebody runs")?;
        let tx = any.call("getrawtransaction", &json!([payment, 1]))?;
        let (mut inputs, mut prevouts, mut satoshis) = (Vec::new(), Vec::new(), 0u64);
        for input in tx["vin"].as_array().context("a payment spends")? {
            ensure!(input["coinbase"].is_null(), "{payment} is a reward of mining, and spends no coins");
            let (txid, vout) = (&input["txid"], input["vout"].as_u64().context("an output has a number")?);
            let before = any.call("getrawtransaction", &json!([txid, 1]))?;
            let out = &before["vout"][usize::try_from(vout)?];
            let amount = out["value"].as_f64().context("an output has a value")?;
            satoshis += (amount * 1e8).round() as u64;
            inputs.push(json!({ "txid": txid, "vout": vout }));
            prevouts.push(
                json!({ "txid": txid, "vout": vout, "scriptPubKey": out["scriptPubKey"]["hex"], "amount": amount }),
            );
        }
        ensure!(satoshis > FEE, "{payment} spends too little to be spent again");
        let back = satoshis - FEE;
        let back = format!("{}.{:08}", back / 100_000_000, back % 100_000_000);
        for (_, calls, _) in members {
            let wallets = calls.call("listwallets", &json!([])).unwrap_or_default();
            for name in wallets.as_array().into_iter().flatten().filter_map(Value::as_str) {
                let wallet = calls.wallet(name);
                let Ok(address) = wallet.text("getrawchangeaddress", &json!([])) else { continue };
                let raw = calls.call("createrawtransaction", &json!([inputs, [{ (address): back }]]))?;
                let signed = wallet.call("signrawtransactionwithwallet", &json!([raw, prevouts]))?;
                if signed["complete"] == true {
                    let hex = signed["hex"].as_str().context("a transaction is text")?.to_owned();
                    let txid = calls.call("decoderawtransaction", &json!([hex]))?["txid"].as_str().map(str::to_owned);
                    return Ok(Self { payment: payment.to_owned(), txid: txid.context("it has an id")?, hex });
                }
            }
        }
        bail!("no wallet of these nodes has the keys of the coins that {payment} spends")
    }
}

/// The attacker's node.
struct Attacker {
    member: Member,
    /// Whom its blocks pay to: whoever knows the number that is in none of the others'.
    reward: String,
}

/// Rewards for whoever wants them, and a number that makes a block another than all others.
fn reward(number: u64) -> String {
    format!("raw(08{number:016x}7551)")
}

impl Attacker {
    /// Comes to know what a member knows.
    fn join(to: &Calls, p2p: SocketAddr) -> Result<Self> {
        let attacker = Self { member: Member::in_memory(ATTACKER, &FLAGS)?, reward: reward(secrets::seed()?) };
        let calls = attacker.calls();
        calls.call("addnode", &json!([p2p.to_string(), "onetry"]))?;
        until("the attacker learns the chain", || Ok(tip(calls)? == tip(to)?))?;
        Ok(attacker)
    }

    fn calls(&self) -> &Calls {
        &self.member.calls
    }

    /// Nobody hears of it any more.
    fn hide(&self) -> Result<()> {
        self.calls().call("setnetworkactive", &json!([false]))?;
        until("the attacker is alone", || Ok(self.calls().call("getconnectioncount", &json!([]))? == 0))
    }

    /// Mines with what waits at it. Its clock says what time its tip is of, so that members whose clock was set believe it.
    fn mine_waiting(&self, blocks: u32) -> Result<()> {
        self.at_time_of_tip(|| self.calls().call("generatetodescriptor", &json!([blocks, self.reward])).map(|_| ()))
    }

    /// Mines one block of these transactions alone.
    fn mine(&self, transactions: &[&str]) -> Result<()> {
        self.at_time_of_tip(|| {
            self.calls()
                .call("generateblock", &json!([self.reward, transactions]))
                .map(|_| ())
                .context("a secret block")
        })
    }

    fn at_time_of_tip(&self, deed: impl FnOnce() -> Result<()>) -> Result<()> {
        let header = self.calls().call("getblockheader", &json!([tip(self.calls())?]))?;
        let time = header["time"].as_u64().context("a block has a time")?;
        // The first block is of 2011, and who builds on it may take the time that it is.
        if header["height"] == 0 {
            return deed();
        }
        self.calls().call("setmocktime", &json!([time + 1]))?;
        let done = deed();
        self.calls().call("setmocktime", &json!([0]))?;
        done
    }

    /// Shows its chain to all, until all follow.
    fn show(&self, to: &[(NodeId, Calls, SocketAddr)]) -> Result<()> {
        self.calls().call("setnetworkactive", &json!([true]))?;
        for (_, _, p2p) in to {
            self.calls().call("addnode", &json!([p2p.to_string(), "onetry"]))?;
        }
        let theirs = tip(self.calls())?;
        for (id, calls, _) in to {
            // Its chain may have gone on upon the attacker's by then.
            until(&format!("node {id} follows the most work"), || {
                let header = calls.call("getblockheader", &json!([theirs]));
                Ok(header.is_ok_and(|header| header["confirmations"].as_i64().is_some_and(|depth| depth > 0)))
            })?;
        }
        Ok(())
    }
}

fn reversed(conflict: Option<&Conflict>) -> String {
    conflict.map_or_else(String::new, |conflict| {
        format!("; payment {} is reversed, by {}", conflict.payment, conflict.txid)
    })
}

/// What came of an attack: in words, and for machines.
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) more: Value,
}

/// Takes the last `depth` blocks from all nodes.
pub(crate) fn reorganise(chains: &Chains, depth: u32, double_spend: Option<&str>) -> Result<Outcome> {
    ensure!((1..=DEPTH_MAX).contains(&depth), "a reorganisation is 1 to {DEPTH_MAX} blocks deep");
    let members = members(chains)?;
    let (_, first, p2p) = &members[0];
    let height = first.height()?;
    ensure!(
        u64::from(depth) <= height,
        "the chain has {height} blocks upon the first, and so {depth} cannot be reverted"
    );
    let conflict = double_spend.map(|payment| Conflict::make(&members, payment)).transpose()?;
    let attacker = Attacker::join(first, *p2p)?;
    attacker.hide()?;
    let height = attacker.calls().height()?;
    let fork = height - u64::from(depth);
    let lowest = attacker.calls().text("getblockhash", &json!([fork + 1]))?;
    if let Some(conflict) = &conflict {
        let depth_of = first.call("getrawtransaction", &json!([conflict.payment, 1]))?["confirmations"].as_u64();
        let below = depth_of.is_some_and(|confirmations| confirmations > u64::from(depth));
        ensure!(!below, "the payment is {} blocks deep: --depth must reach it", depth_of.unwrap_or_default());
    }
    attacker.calls().call("invalidateblock", &json!([lowest]))?;
    let spend: Vec<&str> = conflict.iter().map(|conflict| conflict.hex.as_str()).collect();
    attacker.mine(&spend)?;
    // Others may mine on meanwhile.
    loop {
        attacker.mine(&[])?;
        let others = members.iter().map(|(_, calls, _)| calls.height()).collect::<Result<Vec<u64>>>()?;
        if attacker.calls().height()? > others.into_iter().max().unwrap_or_default().max(height) {
            break;
        }
    }
    attacker.show(&members)?;
    let blocks = attacker.calls().height()? - fork;
    let waiting = first.call("getmempoolinfo", &json!([]))?["size"].as_u64().unwrap_or_default();
    let text = format!(
        "{depth} blocks reverted, from height {} on, and {blocks} in their place; {waiting} transactions wait at node {}{}",
        fork + 1,
        members[0].0,
        reversed(conflict.as_ref()),
    );
    let more = json!({
        "reverted": depth, "blocks": blocks, "fork": fork, "tip": tip(attacker.calls())?,
        "double_spend": conflict.map(|conflict| conflict.txid),
    });
    attacker.member.handle.stop()?;
    Ok(Outcome { text, more })
}

/// One race of an attacker with this share of all hash power, against a merchant who waits for so many confirmations.
pub(crate) fn race(chains: &Chains, share: f64, confirmations: u32, double_spend: Option<&str>) -> Result<Outcome> {
    ensure!(share > 0.0 && share < 1.0, "a share of the hash power lies between 0 and 1");
    ensure!((1..=CONFIRMATIONS_MAX).contains(&confirmations), "a merchant waits for 1 to {CONFIRMATIONS_MAX} blocks");
    let members = members(chains)?;
    let (_, honest, p2p) = &members[0];
    let conflict = double_spend.map(|payment| Conflict::make(&members, payment)).transpose()?;
    let attacker = Attacker::join(honest, *p2p)?;
    attacker.hide()?;
    let mut rng = Rng::with_seed(secrets::seed()?);
    let spend: Vec<&str> = conflict.iter().map(|conflict| conflict.hex.as_str()).collect();
    attacker.mine(&spend).context("the payment must not be in a block yet")?;
    let (mut theirs, mut ours) = (1, 0);
    let won = loop {
        if ours >= confirmations && theirs > ours {
            break true;
        }
        if ours > theirs + GIVES_UP || ours + theirs >= BLOCKS_MAX {
            break false;
        }
        if rng.f64() < share {
            attacker.mine(&[])?;
            theirs += 1;
        } else {
            mine(honest, &mut rng, None)?;
            ours += 1;
        }
    };
    let text = if won {
        attacker.show(&members)?;
        format!(
            "won: {theirs} blocks in secret against {ours}, which all nodes have reverted{}",
            reversed(conflict.as_ref())
        )
    } else {
        format!("lost: {theirs} blocks in secret against {ours}; the attacker gives up")
    };
    let more =
        json!({ "won": won, "honest": ours, "attacker": theirs, "share": share, "confirmations": confirmations });
    attacker.member.handle.stop()?;
    Ok(Outcome { text, more })
}

/// Shows a node that hears of no other so many blocks that nobody else has, until the heal.
pub(crate) fn eclipse(chains: &Chains, victim: NodeId, blocks: u32, double_spend: Option<&str>) -> Result<Outcome> {
    ensure!((1..=ECLIPSE_MAX).contains(&blocks), "an eclipse shows 1 to {ECLIPSE_MAX} blocks");
    let members = members(chains)?;
    let found = members.iter().find(|(id, ..)| *id == victim);
    let Some((_, calls, p2p)) = found else { bail!("there is no node {victim} that runs Bitcoin") };
    let conflict = double_spend.map(|payment| Conflict::make(&members, payment)).transpose()?;
    let attacker = Attacker::join(calls, *p2p)?;
    // What the victim waits for is what it is to believe.
    for txid in calls.call("getrawmempool", &json!([]))?.as_array().into_iter().flatten() {
        let hex = calls.call("getrawtransaction", &json!([txid]))?;
        // One that came to it by now is there already.
        let _ = attacker.calls().call("sendrawtransaction", &json!([hex]));
    }
    attacker.mine_waiting(blocks)?;
    let shown = tip(attacker.calls())?;
    until(&format!("node {victim} believes the attacker"), || Ok(tip(calls)? == shown))?;
    let others = members.iter().find(|(id, ..)| *id != victim);
    if let (Some(conflict), Some((_, calls, _))) = (&conflict, others) {
        // They never saw the payment in a block, and may have it waiting: a block settles it.
        calls
            .call("generateblock", &json!([reward(secrets::seed()?), [conflict.hex]]))
            .context("the others take the other payment")?;
    }
    let elsewhere = others.map(|(_, calls, _)| calls.height()).transpose()?;
    let height = calls.height()?;
    let text = format!(
        "node {victim} hears the attacker alone, which mined {blocks} blocks for it: it is at height {height}, the others at {}; \
         `verity fault heal` lets it hear them again, and it follows whoever has more work{}",
        elsewhere.unwrap_or(height),
        conflict.as_ref().map_or_else(String::new, |conflict| format!(
            "; the others have {} in place of payment {}",
            conflict.txid, conflict.payment
        )),
    );
    let more = json!({ "victim": victim.0, "height": height, "others": elsewhere, "tip": shown });
    chains.keep_attacker(victim, attacker.member);
    Ok(Outcome { text, more })
}
