//! Making a payment: which outputs it spends, what it leaves as change, and what it pays for its place.
//!
//! - a rate is what was said, or estimated, or the one to fall back to; never below what nodes relay;
//! - outputs are counted at what they are worth after what spending them takes, and what their parents lack;
//! - confirmed outputs come first, then change of one's own that waits, then all else that is allowed;
//! - change that is not worth its own fee becomes fee; what is over where payments pay the fee goes to change again;
//! - its lock time is the tip's height: who would undo the tip to have the fee gains nothing from this one.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute, transaction};
use fastrand::Rng;

use super::coins::{Asked, Coin};
use super::secret::Entropy;
use super::select::{Candidate, Target, change_goal, choose};
use super::size::{InputWeight, frame_weight, input_weight};
use super::state::Wallet;
use super::truc::{TRUC_CHILD_WEIGHT_MAX, TRUC_VERSION, TRUC_WEIGHT_MAX, spendable, version_mismatch};
use super::{WalletOptions, source::KINDS};
use crate::chain::is_unspendable;
use crate::mempool::{Mempool, dust_threshold, fee_at};
use crate::node::Node;
use crate::session::rpc::descriptor::Known;
use crate::session::rpc::render::script::Template;

/// No heavier transaction is relayed.
const WEIGHT_MAX: u64 = 400_000;
const TOO_HEAVY: &str = "The inputs size exceeds the maximum weight. Please try sending a smaller amount or manually \
                         consolidating your wallet's UTXOs";
const TOO_HEAVY_TOGETHER: &str = "The combination of the pre-selected inputs and the wallet automatic inputs selection exceeds \
                                  the transaction maximum weight. Please try sending a smaller amount or manually \
                                  consolidating your wallet's UTXOs";
const CHAIN_TOO_LONG: &str = "Unconfirmed UTXOs are available, but spending them creates a chain of transactions that will \
                              be rejected by the mempool";
/// A tip older than so many seconds is none to bind a lock time to.
const TIP_AGE_MAX: u64 = 8 * 60 * 60;

/// To whom, and how much.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) script: ScriptBuf,
    /// In satoshi.
    pub(crate) amount: u64,
    /// It pays the fee, or its part of it.
    pub(crate) pays_fee: bool,
}

/// An input that must be there.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) outpoint: OutPoint,
    pub(crate) sequence: Option<Sequence>,
    /// Of an output of somebody else: it, if it is known.
    pub(crate) out: Option<TxOut>,
    /// What its input will weigh, if somebody says so.
    pub(crate) weight: Option<u64>,
}

/// How a payment is made, as far as it was said.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Choice>,
    /// More inputs may be chosen.
    pub(crate) add_inputs: bool,
    pub(crate) asked: Asked,
    /// What a client says of outputs that are not the wallet's.
    pub(crate) known: Known,
    /// What was paid to one address is spent together, as far as it fits, whatever the wallet does otherwise.
    pub(crate) together: bool,
    pub(crate) change_script: Option<ScriptBuf>,
    pub(crate) change_type: Option<&'static str>,
    pub(crate) change_at: Option<usize>,
    /// Satoshi per 1,000 vbytes.
    pub(crate) rate: Option<u64>,
    /// The rate may be lower than what nodes relay.
    pub(crate) any_rate: bool,
    pub(crate) target: Option<u32>,
    pub(crate) conservative: bool,
    pub(crate) replaceable: Option<bool>,
    pub(crate) lock_time: Option<u32>,
    pub(crate) version: u32,
    /// Inputs and outputs stay in their order.
    pub(crate) weight_max: Option<u64>,
}

/// Coins that are chosen together, by their places.
#[derive(Clone, Debug)]
struct Bundle {
    coins: Vec<usize>,
    /// An address has more than one bundle, and this is the last: it is tried late.
    rest: bool,
}

/// No more coins of one address are spent together.
const BUNDLE_COINS_MAX: usize = 100;

impl Default for Plan {
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            add_inputs: true,
            asked: Asked::default(),
            known: Known::default(),
            together: false,
            change_script: None,
            change_type: None,
            change_at: None,
            rate: None,
            any_rate: false,
            target: None,
            conservative: false,
            replaceable: None,
            lock_time: None,
            version: 2,
            weight_max: None,
        }
    }
}

/// A rate, and where it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fees {
    pub(crate) rate: u64,
    pub(crate) reason: &'static str,
}

/// A transaction that is not signed yet.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) tx: Transaction,
    /// The outputs that it spends.
    pub(crate) spent: Vec<Option<TxOut>>,
    pub(crate) fee: u64,
    pub(crate) change_at: Option<usize>,
    pub(crate) reason: &'static str,
}

/// Satoshi per vbyte, as people read it.
fn shown(rate: u64) -> String {
    format!("{}.{:03} sat/vB", rate / 1_000, rate % 1_000)
}

/// What nodes and this wallet ask for at the least.
fn floor(mempool: &Mempool, options: &WalletOptions) -> u64 {
    options.rate_min.max(mempool.options().relay_rate_min)
}

/// The rate to pay.
pub(crate) fn fee_rate(node: &Node, options: &WalletOptions, plan: &Plan) -> Result<Fees, String> {
    let mempool = node.mempool();
    let least = floor(mempool, options);
    if let Some(rate) = plan.rate {
        if rate < least && !plan.any_rate {
            let (own, least) = (shown(rate), shown(least));
            return Err(format!("Fee rate ({own}) is lower than the minimum fee rate setting ({least})"));
        }
        return Ok(Fees { rate, reason: "PayTxFee set" });
    }
    let target = plan.target.unwrap_or(options.target);
    let estimate = mempool.estimator().estimate_smart(target, plan.conservative);
    let mut fees = match estimate.rate {
        Some(rate) => Fees {
            rate,
            reason: if plan.conservative {
                "Conservative Double Target longer horizon"
            } else {
                "Double Target 95% Threshold"
            },
        },
        None if options.fallback_rate == 0 => {
            return Err(
                "Fee estimation failed. Fallbackfee is disabled. Wait a few blocks or enable -fallbackfee.".into()
            );
        }
        None => Fees { rate: options.fallback_rate, reason: "Fallback fee" },
    };
    let open = mempool.info(node.time()).fee_rate_min;
    if fees.rate < open {
        fees = Fees { rate: open, reason: "Mempool Min Fee" };
    }
    if fees.rate < least {
        fees = Fees { rate: least, reason: "Minimum Required Fee" };
    }
    Ok(fees)
}

/// What a transaction pays, of what it spends.
pub(crate) fn fee_of(tx: &Transaction, spent: &[Option<TxOut>]) -> Option<u64> {
    let mut sum = 0_u64;
    for out in spent {
        sum = sum.checked_add(out.as_ref()?.value.to_sat())?;
    }
    sum.checked_sub(tx.output.iter().map(|out| out.value.to_sat()).sum())
}

/// Which type change has: that of what is paid, so that it does not stand out.
fn change_kind(wallet: &Wallet, options: &WalletOptions, plan: &Plan, payments: &[Payment]) -> &'static str {
    let named = |name: &str| KINDS.into_iter().find(|kind| *kind == name);
    if let Some(kind) = plan.change_type.or_else(|| options.change_type.as_deref().and_then(named)) {
        return kind;
    }
    if options.address_type == "legacy" {
        return "legacy";
    }
    let has = |kind: &str| wallet.active(kind, true).is_some();
    let pays = |fits: fn(&Template) -> bool| payments.iter().any(|payment| fits(&Template::of(&payment.script)));
    type Fits = fn(&Template) -> bool;
    let order: [(&'static str, Fits); 4] = [
        ("bech32m", |template| matches!(template, Template::Taproot(_))),
        ("bech32", |template| matches!(template, Template::WitnessKeyHash(_))),
        ("p2sh-segwit", |template| matches!(template, Template::ScriptHash(_))),
        ("legacy", |template| matches!(template, Template::PubkeyHash(_))),
    ];
    let paid = order.into_iter().find(|(kind, fits)| has(kind) && pays(*fits));
    let any = ["bech32m", "bech32"].into_iter().find(|kind| has(kind));
    paid.map(|(kind, _)| kind).or(any).or_else(|| named(&options.address_type)).unwrap_or("bech32")
}

/// What it takes to spend something later, in vbytes.
fn spend_size(script: &ScriptBuf) -> u64 {
    match Template::of(script) {
        Template::Taproot(_) => 58,
        Template::WitnessKeyHash(_) => 68,
        Template::ScriptHash(_) => 91,
        Template::PubkeyHash(_) => 148,
        _ => 110,
    }
}

struct Builder<'a> {
    wallet: &'a Wallet,
    node: &'a Node,
    options: &'a WalletOptions,
    plan: &'a Plan,
    rate: u64,
    rng: Rng,
}

/// An input that was chosen.
struct Input {
    outpoint: OutPoint,
    out: TxOut,
    size: InputWeight,
    sequence: Option<Sequence>,
}

/// Inputs that were chosen, and what is left over.
struct Chosen {
    inputs: Vec<Input>,
    change: i64,
}

impl Builder<'_> {
    fn weight_of(&self, out: &TxOut) -> Option<InputWeight> {
        let mut known = Known::default();
        self.wallet.explain(&out.script_pubkey, &mut known);
        input_weight(out, &known).or_else(|| input_weight(out, &self.plan.known))
    }

    /// Inputs that must be there.
    fn preset(&self) -> Result<Vec<Input>, String> {
        let mut preset = Vec::new();
        for choice in &self.plan.inputs {
            let OutPoint { txid, vout } = choice.outpoint;
            let own = self.wallet.output(&choice.outpoint).cloned();
            let out = own.or_else(|| choice.out.clone());
            let out = out.ok_or_else(|| format!("Not found pre-selected input {txid}:{vout}"))?;
            if let Some(words) = version_mismatch(self.wallet, &choice.outpoint, self.plan.version) {
                return Err(words);
            }
            // What somebody says is taken to have a witness: one byte more, if it has none.
            let said = choice.weight.map(|weight| InputWeight { weight, witness: true });
            let size = said.or_else(|| self.weight_of(&out)).ok_or_else(|| {
                format!("Not solvable pre-selected input COutPoint({}, {vout})", &txid.to_string()[..10])
            })?;
            preset.push(Input { outpoint: choice.outpoint, out, size, sequence: choice.sequence });
        }
        Ok(preset)
    }

    /// What an input adds, in satoshi.
    fn worth(&self, input: &Input, whole: bool) -> i64 {
        let value = input.out.value.to_sat().cast_signed();
        if whole {
            return value;
        }
        let bump = self.node.mempool().bump_fee_total(&[input.outpoint], self.rate).unwrap_or(0);
        value - self.fee(input.size.weight) - bump
    }

    fn fee(&self, weight: u64) -> i64 {
        fee_at(self.rate, weight.div_ceil(4))
    }

    /// The most that the whole may weigh.
    fn weight_max(&self) -> u64 {
        let most = if self.plan.version == TRUC_VERSION { TRUC_WEIGHT_MAX } else { WEIGHT_MAX };
        self.plan.weight_max.unwrap_or(most).min(most)
    }

    /// Would one more behind it make a chain that is too long for others?
    fn ends_a_long_chain(&self, txid: &Txid) -> bool {
        let mempool = self.node.mempool();
        let (ancestors, all) = (mempool.ancestors(txid).len() + 1, mempool.cluster_count(txid));
        ancestors >= self.options.chain_max || all >= self.options.cluster_max
    }

    /// Chooses inputs for so much beyond what is preset; or why not.
    fn select(
        &mut self,
        missing: i64,
        target: Target,
        preset: &BTreeSet<OutPoint>,
    ) -> Result<Vec<(Coin, InputWeight)>, &'static str> {
        let all = spendable(self.wallet, self.node.mempool(), self.plan.asked, self.plan.version);
        let weighed = all.into_iter().filter(|coin| !preset.contains(&coin.outpoint) && coin.solvable);
        let mut coins = Vec::new();
        for coin in weighed {
            if let Some(size) = self.weight_of(&coin.out) {
                coins.push((coin, size));
            }
        }
        let waiting: Vec<OutPoint> =
            coins.iter().filter(|(coin, _)| coin.depth == 0).map(|(coin, _)| coin.outpoint).collect();
        let bumps = self.node.mempool().bump_fees(&waiting, self.rate).unwrap_or_default();
        // What would make a chain too long is a last resort, or none.
        let long: BTreeSet<OutPoint> = coins
            .iter()
            .filter(|(coin, _)| coin.depth == 0 && self.ends_a_long_chain(&coin.outpoint.txid))
            .map(|(coin, _)| coin.outpoint)
            .collect();
        if self.options.reject_long_chains && !long.is_empty() {
            let worth = |coins: &[(Coin, InputWeight)]| -> i64 {
                let fee = |weight: u64| if target.whole { 0 } else { self.fee(weight) };
                coins.iter().map(|(coin, size)| coin.out.value.to_sat().cast_signed() - fee(size.weight)).sum()
            };
            let with_long = worth(&coins);
            coins.retain(|(coin, _)| !long.contains(&coin.outpoint));
            if worth(&coins) < missing && with_long > missing {
                return Err(CHAIN_TOO_LONG);
            }
        }
        // Each is tried only if those before it did not do: older first.
        type Fits<'a> = &'a dyn Fn(&Coin) -> bool;
        let short = |coin: &Coin| !long.contains(&coin.outpoint);
        let told = |coin: &Coin| coin.depth >= if coin.from_me { 0 } else { 1 } && short(coin);
        let eligible: [(Fits<'_>, bool); 6] = [
            (&|coin| coin.depth >= if coin.from_me { 1 } else { 6 }, false),
            (&|coin| coin.depth >= 1, false),
            (&told, false),
            (&told, true),
            (&short, true),
            (&|_| true, true),
        ];
        let bundles = self.bundles(&coins);
        let mut too_heavy = false;
        for (round, (fits, with_rest)) in eligible.into_iter().enumerate() {
            if round >= 2 && !self.options.spend_unconfirmed && !self.plan.asked.unsafe_too {
                break;
            }
            let mut groups: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
            for (at, bundle) in bundles.iter().enumerate() {
                let usable = bundle.coins.iter().all(|place| fits(&coins[*place].0)) && (with_rest || !bundle.rest);
                let Some((first, _)) = bundle.coins.first().map(|place| &coins[*place]).filter(|_| usable) else {
                    continue;
                };
                let kind = Template::of(&first.out.script_pubkey).name().to_owned();
                let mut whole = Candidate { at, value: 0, fee: 0, long_term_fee: 0, weight: 0 };
                for (coin, size) in bundle.coins.iter().map(|place| &coins[*place]) {
                    let vsize = size.weight.div_ceil(4);
                    whole.value += coin.out.value.to_sat().cast_signed();
                    whole.fee += fee_at(self.rate, vsize) + bumps.get(&coin.outpoint).copied().unwrap_or(0);
                    whole.long_term_fee += fee_at(self.options.long_term_rate, vsize);
                    whole.weight += size.weight;
                }
                groups.entry(kind).or_default().push(whole);
            }
            let groups: Vec<Vec<Candidate>> = groups.into_values().collect();
            // From here on it may rest on what waits.
            let less = if self.plan.version == TRUC_VERSION && round >= 2 {
                self.weight_max().saturating_sub(TRUC_CHILD_WEIGHT_MAX)
            } else {
                0
            };
            let weight_max = target.weight_max.saturating_sub(less);
            let wanted = Target { amount: missing, weight_max, ..target };
            if let Some(chosen) = choose(&groups, &wanted, &mut self.rng) {
                let places = chosen.iter().flat_map(|one| &bundles[one.at].coins);
                return Ok(places.map(|place| coins[*place].clone()).collect());
            }
            too_heavy |= choose(&groups, &Target { weight_max: u64::MAX, ..wanted }, &mut self.rng).is_some();
        }
        Err(if too_heavy { TOO_HEAVY } else { "Insufficient funds" })
    }

    /// What is chosen as one: each coin by itself, or those of one address together, up to a bound.
    fn bundles(&self, coins: &[(Coin, InputWeight)]) -> Vec<Bundle> {
        if !self.plan.together && !self.options.avoid_partial_spends {
            return (0..coins.len()).map(|place| Bundle { coins: vec![place], rest: false }).collect();
        }
        let mut scripts: BTreeMap<&ScriptBuf, Vec<usize>> = BTreeMap::new();
        for (place, (coin, _)) in coins.iter().enumerate() {
            scripts.entry(&coin.out.script_pubkey).or_default().push(place);
        }
        let mut bundles = Vec::new();
        for places in scripts.into_values() {
            let parts = places.chunks(BUNDLE_COINS_MAX);
            let last = parts.len() - 1;
            let bundle = |(at, part): (usize, &[usize])| Bundle { coins: part.to_vec(), rest: at == last && at > 0 };
            bundles.extend(parts.enumerate().map(bundle));
        }
        bundles
    }

    /// All inputs, and what is left over for change.
    fn choose(&mut self, payments: &[Payment], change: &TxOut) -> Result<Chosen, (bool, String)> {
        let whole = payments.iter().any(|payment| payment.pays_fee);
        let paid: i64 = payments.iter().map(|payment| payment.amount.cast_signed()).sum();
        let outputs: Vec<TxOut> = outputs_of(payments);
        let frame = self.fee(frame_weight(&outputs, 1, true));
        let mut amount = paid + if whole { 0 } else { frame };
        let mut inputs = self.preset().map_err(|words| (false, words))?;
        let change_size = change.size() as u64;
        let change_fee = fee_at(self.rate, change_size);
        let discard = self.options.discard_rate.max(self.node.mempool().options().dust_rate);
        let spend = fee_at(discard, spend_size(&change.script_pubkey));
        let dust = dust_threshold(change, self.node.mempool().options().dust_rate);
        let mean = paid / i64::try_from(payments.len().max(1)).unwrap_or(1);
        let mut target = Target {
            amount,
            whole,
            change_cost: spend + change_fee,
            change_fee,
            change_worth: (spend + 1).max(dust.cast_signed()),
            change_goal: change_goal(mean, change_fee, &mut self.rng),
            weight_max: self.weight_max().saturating_sub(frame_weight(&outputs, 1, true) + change_size * 4),
        };
        for input in &inputs {
            amount -= self.worth(input, whole);
            target.weight_max = target.weight_max.saturating_sub(input.size.weight);
        }
        let mut left = -amount;
        if amount > 0 || (inputs.is_empty() && self.plan.add_inputs) {
            let preset = inputs.iter().map(|input| input.outpoint).collect();
            if !self.plan.add_inputs {
                let words = "The preselected coins total amount does not cover the transaction target. \
                             Please allow other inputs to be automatically selected or include more coins manually";
                return Err((true, words.into()));
            }
            if bare_weight(&outputs) >= self.weight_max() {
                return Err((
                    false,
                    "Maximum transaction weight is less than transaction weight without inputs".into(),
                ));
            }
            let no_change = bare_weight(&outputs) + change_size * 4 > self.weight_max();
            let mut more = self.select(amount.max(0), target, &preset);
            let heavy: u64 = inputs.iter().map(|input| input.size.weight).sum();
            let alone = Target { weight_max: target.weight_max + heavy, ..target };
            if heavy > 0 && matches!(more, Err(TOO_HEAVY)) && self.select(amount.max(0), alone, &preset).is_ok() {
                more = Err(TOO_HEAVY_TOGETHER);
            }
            let more = more.map_err(|words| match words {
                TOO_HEAVY if no_change => {
                    (false, "Maximum transaction weight is too low, can not accommodate change output".to_owned())
                }
                TOO_HEAVY | TOO_HEAVY_TOGETHER => (false, words.to_owned()),
                _ => (true, words.to_owned()),
            })?;
            for (coin, size) in more {
                let input = Input { outpoint: coin.outpoint, out: coin.out, size, sequence: None };
                left += self.worth(&input, whole);
                inputs.push(input);
            }
        }
        let over = left - if whole { 0 } else { change_fee };
        Ok(Chosen { inputs, change: if over < target.change_worth { 0 } else { over } })
    }

    fn lock_time(&mut self) -> absolute::LockTime {
        if let Some(lock) = self.plan.lock_time {
            return absolute::LockTime::from_consensus(lock);
        }
        // Whoever says that an input is final wants no lock.
        if self.plan.inputs.iter().any(|choice| choice.sequence == Some(Sequence::MAX)) {
            return absolute::LockTime::ZERO;
        }
        let chain = self.node.chain();
        let tip = chain.entry(chain.tip());
        if u64::from(tip.header.time) + TIP_AGE_MAX < self.node.time() {
            return absolute::LockTime::ZERO;
        }
        // Now and then it is older: some transactions are held back, and shall not stand out.
        let back = if self.rng.u32(0..10) == 0 { self.rng.u32(0..100) } else { 0 };
        absolute::LockTime::from_consensus(tip.height.saturating_sub(back))
    }
}

/// What a transaction weighs without inputs, as a client's bound is judged by it: all of it in whole vbytes.
fn bare_weight(outputs: &[TxOut]) -> u64 {
    const FRAME: u64 = 10;
    let count = bitcoin::VarInt::from(outputs.len()).size() as u64;
    (FRAME + count + outputs.iter().map(|out| out.size() as u64).sum::<u64>()) * 4
}

fn outputs_of(payments: &[Payment]) -> Vec<TxOut> {
    let output =
        |payment: &Payment| TxOut { value: Amount::from_sat(payment.amount), script_pubkey: payment.script.clone() };
    payments.iter().map(output).collect()
}

fn check(payments: &[Payment], plan: &Plan, dust_rate: u64) -> Result<(), String> {
    if payments.is_empty() {
        return Err("Transaction must have at least one recipient".into());
    }
    if plan.change_at.is_some_and(|at| at > payments.len()) {
        return Err("Transaction change output index out of range".into());
    }
    for out in outputs_of(payments) {
        if out.value.to_sat() < dust_threshold(&out, dust_rate) && !is_unspendable(&out.script_pubkey) {
            return Err("Transaction amount too small".into());
        }
    }
    Ok(())
}

/// Makes a payment. An error says whether it is for want of money, and its words.
pub(crate) fn build(
    wallet: &mut Wallet,
    entropy: &mut Entropy,
    options: &WalletOptions,
    node: &Node,
    payments: &[Payment],
    plan: &Plan,
) -> Result<Draft, (bool, String)> {
    let other = |words: String| (false, words);
    check(payments, plan, node.mempool().options().dust_rate).map_err(other)?;
    let kind = change_kind(wallet, options, plan, payments);
    let given = plan.change_script.clone();
    let reserved = match &given {
        Some(script) => Some(script.clone()),
        None => wallet.active(kind, true).or_else(|| wallet.active(kind, false)).and_then(|at| wallet.give_out(at)),
    };
    let mut draft = build_with(wallet, entropy, options, node, payments, plan, reserved.clone());
    if let Ok(alone) = &draft
        && let Some(more) = options.together_fee_max.filter(|_| alone.fee > 0 && !plan.together)
        && !options.avoid_partial_spends
    {
        // Whoever looks on learns less of who owns what, if that costs no more than it may.
        let together = Plan { together: true, ..plan.clone() };
        let other = build_with(wallet, entropy, options, node, payments, &together, reserved.clone());
        if other.as_ref().is_ok_and(|other| other.fee <= alone.fee.saturating_add(more)) {
            draft = other;
        }
    }
    let kept = draft.as_ref().is_ok_and(|draft| draft.change_at.is_some());
    if let (None, Some(script), false) = (given, reserved, kept) {
        wallet.take_back(&script);
    }
    draft
}

fn build_with(
    wallet: &Wallet,
    entropy: &mut Entropy,
    options: &WalletOptions,
    node: &Node,
    payments: &[Payment],
    plan: &Plan,
    reserved: Option<ScriptBuf>,
) -> Result<Draft, (bool, String)> {
    let fees = fee_rate(node, options, plan).map_err(|words| (false, words))?;
    let rng = Rng::with_seed(u64::from_le_bytes(entropy.bytes()));
    let mut builder = Builder { wallet, node, options, plan, rate: fees.rate, rng };
    // Where there is no address for change, its size is that of a common one.
    let common = || ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::all_zeros());
    let change = TxOut { value: Amount::ZERO, script_pubkey: reserved.clone().unwrap_or_else(common) };
    let mut chosen = builder.choose(payments, &change)?;
    if chosen.change > 0 && reserved.is_none() {
        let words =
            "Transaction needs a change address, but we can't generate it. Error: This wallet has no available keys";
        return Err((false, words.into()));
    }
    let mut outputs = outputs_of(payments);
    let mut change_at = None;
    if chosen.change > 0 {
        let at = plan.change_at.unwrap_or_else(|| builder.rng.usize(0..=outputs.len()));
        outputs.insert(at, TxOut { value: Amount::from_sat(chosen.change.unsigned_abs()), ..change.clone() });
        change_at = Some(at);
    }
    if plan.inputs.is_empty() {
        builder.rng.shuffle(&mut chosen.inputs);
    }
    let fee = pay(&builder, &chosen, &mut outputs, payments, change_at)?;
    if fee > options.fee_max {
        return Err((false, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)".into()));
    }
    let usual = if plan.replaceable.unwrap_or(options.replaceable) { 0xffff_fffd } else { 0xffff_fffe };
    let inputs = chosen.inputs.iter().map(|input| TxIn {
        previous_output: input.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: input.sequence.unwrap_or(Sequence(usual)),
        witness: Witness::new(),
    });
    let tx = Transaction {
        version: transaction::Version(plan.version.cast_signed()),
        lock_time: builder.lock_time(),
        input: inputs.collect(),
        output: outputs,
    };
    if options.reject_long_chains && !node.mempool().fits(&tx) {
        return Err((false, "too many unconfirmed transactions in cluster".into()));
    }
    let spent = chosen.inputs.into_iter().map(|input| Some(input.out)).collect();
    Ok(Draft { tx, spent, fee, change_at, reason: fees.reason })
}

/// What the whole weighs once it is signed.
fn signed_weight(chosen: &Chosen, outputs: &[TxOut]) -> u64 {
    // An input without a witness says so with a byte of its own where another has one.
    let any = chosen.inputs.iter().any(|input| input.size.witness);
    let one = |input: &Input| input.size.weight + u64::from(any && !input.size.witness);
    let inputs: u64 = chosen.inputs.iter().map(one).sum();
    inputs + frame_weight(outputs, chosen.inputs.len(), any)
}

/// Sets the fee: from change, or from the payments that pay it. What it is.
fn pay(
    builder: &Builder<'_>,
    chosen: &Chosen,
    outputs: &mut [TxOut],
    payments: &[Payment],
    change_at: Option<usize>,
) -> Result<u64, (bool, String)> {
    let weight = signed_weight(chosen, outputs);
    if weight > builder.weight_max() {
        return Err((false, "Transaction too large".into()));
    }
    let waiting: Vec<OutPoint> = chosen.inputs.iter().map(|input| input.outpoint).collect();
    let bump = builder.node.mempool().bump_fee_total(&waiting, builder.rate).unwrap_or(0).max(0);
    let needed = builder.fee(weight) + bump;
    let sum: i64 = chosen.inputs.iter().map(|input| input.out.value.to_sat().cast_signed()).sum();
    let paid: i64 = outputs.iter().map(|out| out.value.to_sat().cast_signed()).sum();
    let current = sum - paid;
    let paying = payments.iter().filter(|payment| payment.pays_fee).count();
    if paying == 0 {
        let Some(at) = change_at else {
            return if current >= needed {
                Ok(current.unsigned_abs())
            } else {
                Err((true, "Insufficient funds".into()))
            };
        };
        let change = outputs[at].value.to_sat().cast_signed() + current - needed;
        outputs[at].value = Amount::from_sat(change.max(0).unsigned_abs());
        return Ok(needed.unsigned_abs());
    }
    let reduce = needed - current;
    let share = reduce / i64::try_from(paying).unwrap_or(1);
    let mut first = true;
    let places = (0..outputs.len()).filter(|at| Some(*at) != change_at).collect::<Vec<_>>();
    for (at, payment) in places.into_iter().zip(payments) {
        if !payment.pays_fee {
            continue;
        }
        let part = share + if std::mem::take(&mut first) { reduce % i64::try_from(paying).unwrap_or(1) } else { 0 };
        let value = outputs[at].value.to_sat().cast_signed() - part;
        let out = TxOut { value: Amount::from_sat(value.max(0).unsigned_abs()), ..outputs[at].clone() };
        if value < 0 {
            return Err((false, "The transaction amount is too small to pay the fee".into()));
        }
        if out.value.to_sat() < dust_threshold(&out, builder.node.mempool().options().dust_rate) {
            return Err((false, "The transaction amount is too small to send after the fee has been deducted".into()));
        }
        outputs[at] = out;
    }
    Ok(needed.unsigned_abs())
}
