//! What a confirmation is worth: a payment gathers them, and a branch that was mined in secret takes them all away.
//!
//! - a buyer pays a merchant, whose wallet sees the payment at once: in no block it is worth nothing;
//! - block by block it becomes less likely that it is reversed, by an attacker with a third of all hash power;
//! - the attacker has mined upon the block below the payment all the while, one block more than everybody else, and among its
//!   blocks another payment of the same coins. It shows them: both nodes revert the payment, by the same rule by which they had
//!   taken it.
//!
//! The nodes are real and speak to each other as peers do; the wallets are theirs. What is promised is checked while it is
//! shown; a promise that does not hold ends the tour with an error.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use verity_nakamoto::finality::{odds, popular};

use crate::bitcoin::member::{Member, until};
use crate::bitcoin::rpc::Node as Calls;
use crate::tour::Stage;

/// The attacker's share that the odds are of.
const SHARE: f64 = 1.0 / 3.0;
/// How long the merchant waits.
const CONFIRMATIONS: u32 = 3;

/// A node in this process, whose wallets can pay from the first block on.
fn member(id: u64) -> Result<Member> {
    Member::in_memory(id, &["-fallbackfee=0.0001", "-keypool=10"])
}

fn mine(calls: &Calls, count: u32, address: &str) -> Result<()> {
    calls.call("generatetoaddress", &json!([count, address])).map(|_| ())
}

fn bar(fraction: f64) -> String {
    let full = (fraction * 20.0).round() as usize;
    format!("{}{}", "#".repeat(full), ".".repeat(20 - full))
}

/// Tells what so many confirmations are worth.
fn worth(stage: &Stage, confirmations: u32) {
    let odds = odds(confirmations, SHARE);
    let words = format!(
        "{confirmations} confirmations  {}  {:>5.1} %   (Nakamoto's figure {:.1} %, people say {:.0} %)",
        bar(odds.confidence),
        odds.confidence * 100.0,
        (1.0 - odds.nakamoto) * 100.0,
        popular(confirmations) * 100.0,
    );
    stage.say("merchant", &words);
}

/// Plays it.
pub(crate) fn play(json: bool) -> Result<()> {
    let stage = Stage::open(json, 9);
    let members = (member(1)?, member(2)?);
    let (honest, attacker) = (&members.0.calls, &members.1.calls);
    let peer = members.0.p2p.to_string();
    attacker.call("addnode", &json!([peer, "add"]))?;
    honest.call("createwallet", &json!(["buyer"]))?;
    honest.call("createwallet", &json!(["merchant"]))?;
    let (buyer, merchant) = (honest.wallet("buyer"), honest.wallet("merchant"));
    let address = |of: &Calls| of.text("getnewaddress", &json!([]));
    let (buyers, merchants) = (address(&buyer)?, address(&merchant)?);
    mine(honest, 101, &buyers)?;
    until("the second node follows", || Ok(attacker.height()? == 101))?;
    stage.say("network", "two nodes, 101 blocks; the buyer has 50 coins");

    let paid = buyer.call("sendtoaddress", &json!([merchants, 10]))?;
    let paid = paid.as_str().context("a payment has an id")?;
    stage.say("buyer", &format!("pays 10 coins: {}...", &paid[..16]));
    worth(&stage, 0);
    // The same coins, back to the buyer.
    let tx = honest.call("getrawtransaction", &json!([paid, 1]))?;
    let coins: Vec<Value> = tx["vin"].as_array().context("a payment spends")?.clone();
    let spent = coins.iter().map(|coin| json!({ "txid": coin["txid"], "vout": coin["vout"] })).collect::<Vec<_>>();
    let back = honest.call("createrawtransaction", &json!([spent, [{ (buyers.clone()): 49.99 }]]))?;
    let back = buyer.call("signrawtransactionwithwallet", &json!([back]))?;

    attacker.call("setnetworkactive", &json!([false]))?;
    until("the attacker is alone", || Ok(attacker.call("getconnectioncount", &json!([]))? == 0))?;
    let secret = attacker.call("generateblock", &json!([buyers, [back["hex"]]]))?;
    mine(attacker, CONFIRMATIONS, &buyers)?;
    stage.say(
        "attacker",
        &format!("mines in secret, upon the block below: {} blocks, and in the first of them", CONFIRMATIONS + 1),
    );
    stage.say("", "the same coins go back to the buyer");
    for confirmations in 1..=CONFIRMATIONS {
        mine(honest, 1, &merchants)?;
        let seen = merchant.call("gettransaction", &json!([paid]))?;
        ensure!(seen["confirmations"] == confirmations, "the wallet counts {}", seen["confirmations"]);
        worth(&stage, confirmations);
    }
    let balance = merchant.call("getbalance", &json!([]))?;
    ensure!(balance.as_f64() == Some(10.0), "the merchant has {balance}");
    stage.say("merchant", "has waited for three blocks, sees 10 coins, and delivers");

    let tip = honest.text("getbestblockhash", &json!([]))?;
    attacker.call("setnetworkactive", &json!([true]))?;
    attacker.call("addnode", &json!([peer, "onetry"]))?;
    stage.say("attacker", "shows its branch: one block more than everybody else has");
    let theirs = attacker.text("getbestblockhash", &json!([]))?;
    until("the honest node follows the most work", || Ok(honest.text("getbestblockhash", &json!([]))? == theirs))?;
    let tips = honest.call("getchaintips", &json!([]))?;
    let fork = tips.as_array().context("tips are a list")?.iter().find(|row| row["hash"] == tip.as_str());
    let fork = fork.context("the old tip is remembered")?;
    ensure!(fork["status"] == "valid-fork" && fork["branchlen"] == CONFIRMATIONS, "the old branch is {fork}");
    stage.say("network", &format!("{CONFIRMATIONS} blocks are reverted; they were valid, and have less work"));
    let seen = merchant.call("gettransaction", &json!([paid]))?;
    let count = seen["confirmations"].as_i64().context("a count is a number")?;
    ensure!(count < 0, "the payment conflicts with the chain, and has {count} confirmations");
    let balance = merchant.call("getbalance", &json!([]))?;
    ensure!(balance.as_f64() == Some(0.0), "the merchant still has {balance}");
    let block = secret["hash"].as_str().context("a block has a hash")?;
    stage.say(
        "merchant",
        &format!("has nothing: the coins are spent in block {}..., {} blocks deep", &block[..16], -count),
    );
    let odds = odds(CONFIRMATIONS, SHARE);
    stage.say(
        "",
        &format!(
            "so it goes in {:.1} of 100 cases; `verity bitcoin confidence` says how long to wait",
            odds.reversal * 100.0
        ),
    );
    members.1.handle.stop()?;
    members.0.handle.stop().map_err(Into::into)
}
