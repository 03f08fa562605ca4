//! What is relayed, of all that is valid.
//!
//! - upon a transaction ([`is_standard`]): its version, its weight, its inputs' scripts, the forms of its outputs, dust;
//! - upon its coins ([`inputs`], [`witness_is_standard`]): forms that are known, few signatures, small witnesses;
//! - upon outputs that are worth less than they cost to spend: one is borne with, if the transaction pays nothing, so that
//!   nobody mines it without the child that spends the output ([`dust`], [`missing_dust`]).
//!
//! Deliberately absent: fees, and what hangs on others that wait.

use bitcoin::{Script, Transaction, TxOut, Txid, Witness};

use super::feerate::fee_at;
use super::options::MempoolOptions;
use super::solver::{OutputKind, is_anchor, top_element};
use super::{TxReject, TxRejectKind};
use crate::chain::Coin;
use crate::chain::sigops::{p2sh_sigops, script_sigops};
use crate::script::{Flags, SCRIPT_BYTES_MAX, opcode};

/// Nothing heavier is relayed.
pub const STANDARD_WEIGHT_MAX: u64 = 400_000;
/// Nothing smaller is relayed, counted without witnesses: 64 bytes could pass for a node of a block's tree.
pub const STANDARD_SIZE_MIN: usize = 65;
/// No transaction's signature operations cost more.
pub const STANDARD_SIGOPS_COST_MAX: i64 = 16_000;
const SCRIPT_SIG_BYTES_MAX: usize = 1_650;
/// In a script behind a hash.
const P2SH_SIGOPS_MAX: u32 = 15;
/// Outside of witnesses, where they run (BIP 54).
const LEGACY_SIGOPS_MAX: u32 = 2_500;
const DUST_OUTPUTS_MAX: usize = 1;
const WITNESS_SCRIPT_BYTES_MAX: usize = 3_600;
const WITNESS_ITEMS_MAX: usize = 100;
const WITNESS_ITEM_BYTES_MAX: usize = 80;
const ANNEX: u8 = 0x50;
const LEAF_MASK: u8 = 0xfe;
const LEAF_TAPSCRIPT: u8 = 0xc0;

/// Rules of scripts that blocks keep to.
pub(super) const MANDATORY_FLAGS: Flags = Flags::from_bits(
    Flags::P2SH.bits()
        | Flags::DERSIG.bits()
        | Flags::NULLDUMMY.bits()
        | Flags::CHECKLOCKTIMEVERIFY.bits()
        | Flags::CHECKSEQUENCEVERIFY.bits()
        | Flags::WITNESS.bits()
        | Flags::TAPROOT.bits(),
);

/// Rules of scripts that what is relayed keeps to. `SIGPUSHONLY` is not among them: it is looked at elsewhere.
pub const STANDARD_FLAGS: Flags = Flags::ALL.without(Flags::SIGPUSHONLY);

fn not_standard(reason: &str) -> TxReject {
    TxReject::new(TxRejectKind::NotStandard, reason, "")
}

/// Judges a transaction without its coins.
pub(super) fn is_standard(tx: &Transaction, options: &MempoolOptions) -> Result<(), TxReject> {
    if !(1..=3).contains(&(tx.version.0 as u32)) {
        return Err(not_standard("version"));
    }
    if tx.weight().to_wu() > STANDARD_WEIGHT_MAX {
        return Err(not_standard("tx-size"));
    }
    for input in &tx.input {
        if input.script_sig.len() > SCRIPT_SIG_BYTES_MAX {
            return Err(not_standard("scriptsig-size"));
        }
        if !opcode::is_push_only(input.script_sig.as_bytes()) {
            return Err(not_standard("scriptsig-not-pushonly"));
        }
    }
    let mut data_left = options.data_bytes_max.unwrap_or(0);
    for output in &tx.output {
        match OutputKind::of(&output.script_pubkey) {
            OutputKind::NonStandard => return Err(not_standard("scriptpubkey")),
            OutputKind::Multisig { keys, .. } if keys > 3 => return Err(not_standard("scriptpubkey")),
            OutputKind::Multisig { .. } if !options.bare_multisig => return Err(not_standard("bare-multisig")),
            OutputKind::NullData => {
                data_left = data_left
                    .checked_sub(output.script_pubkey.len() as u64)
                    .ok_or_else(|| not_standard("datacarrier"))?;
            }
            _ => {}
        }
    }
    if dust(tx, options.dust_rate).count() > DUST_OUTPUTS_MAX {
        return Err(not_standard("dust"));
    }
    Ok(())
}

/// What an output must be worth at least, to be worth spending at this rate.
#[must_use]
pub fn dust_threshold(output: &TxOut, rate: u64) -> u64 {
    let script = output.script_pubkey.as_bytes();
    if script.first() == Some(&opcode::RETURN) || script.len() > SCRIPT_BYTES_MAX {
        return 0;
    }
    // An outpoint, a sequence, and a key with its signature, which counts for a quarter in a witness.
    let spend = if opcode::witness_program(script).is_some() { 67 } else { 148 };
    fee_at(rate, output.size() as u64 + spend).unsigned_abs()
}

/// Indices of outputs that are worth less than they cost to spend.
pub(super) fn dust(tx: &Transaction, rate: u64) -> impl Iterator<Item = u32> + '_ {
    let is_dust = move |output: &TxOut| output.value.to_sat() < dust_threshold(output, rate);
    (0..).zip(&tx.output).filter(move |(_, output)| is_dust(output)).map(|(at, _)| at)
}

/// True if the transaction spends some outputs of one of these parents, but not all of its dust.
pub(super) fn missing_dust<'a>(
    tx: &Transaction,
    parents: impl Iterator<Item = (Txid, &'a Transaction)>,
    rate: u64,
) -> bool {
    parents.into_iter().any(|(txid, parent)| {
        dust(parent, rate).any(|vout| {
            !tx.input.iter().any(|input| input.previous_output.txid == txid && input.previous_output.vout == vout)
        })
    })
}

/// Judges what a transaction spends, outside of witnesses.
pub(super) fn inputs(tx: &Transaction, coins: &[Coin]) -> Result<(), TxReject> {
    let reject =
        |debug: &str| Err(TxReject::new(TxRejectKind::InputsNotStandard, "bad-txns-nonstandard-inputs", debug));
    let mut sigops = 0u32;
    for (input, coin) in tx.input.iter().zip(coins) {
        sigops += script_sigops(input.script_sig.as_bytes(), true);
        let spent = coin.out.script_pubkey.as_bytes();
        sigops += if opcode::is_pay_to_script_hash(spent) {
            p2sh_sigops(&input.script_sig, &coin.out)
        } else {
            script_sigops(spent, true)
        };
        if sigops > LEGACY_SIGOPS_MAX {
            return reject("non-witness sigops exceed bip54 limit");
        }
    }
    for (at, (input, coin)) in tx.input.iter().zip(coins).enumerate() {
        match OutputKind::of(&coin.out.script_pubkey) {
            OutputKind::NonStandard => return reject(&format!("input {at} script unknown")),
            OutputKind::WitnessUnknown => return reject(&format!("input {at} witness program is undefined")),
            OutputKind::ScriptHash => match top_element(&input.script_sig) {
                Err(error) => return reject(&format!("p2sh scriptsig malformed (input {at}: {error})")),
                Ok(None) => return reject(&format!("input {at} P2SH redeemscript missing")),
                Ok(Some(redeem)) => {
                    let count = script_sigops(&redeem, true);
                    if count > P2SH_SIGOPS_MAX {
                        let limit = format!("(input {at}: {count} > {P2SH_SIGOPS_MAX})");
                        return reject(&format!("p2sh redeemscript sigops exceed limit {limit}"));
                    }
                }
            },
            _ => {}
        }
    }
    Ok(())
}

/// Judges witnesses by their sizes.
pub(super) fn witness_is_standard(tx: &Transaction, coins: &[Coin]) -> bool {
    tx.input.iter().zip(coins).all(|(input, coin)| {
        input.witness.is_empty() || one_witness(&input.script_sig, &coin.out.script_pubkey, &input.witness)
    })
}

fn one_witness(script_sig: &Script, spent: &Script, witness: &Witness) -> bool {
    let spent = spent.as_bytes();
    if is_anchor(spent) {
        return false;
    }
    let nested = opcode::is_pay_to_script_hash(spent);
    let redeem = if nested { top_element(script_sig).ok().flatten() } else { None };
    if nested && redeem.is_none() {
        return false;
    }
    let Some((version, program)) = opcode::witness_program(redeem.as_deref().unwrap_or(spent)) else {
        return false;
    };
    let items: Vec<&[u8]> = witness.iter().collect();
    let small = |items: &[&[u8]]| items.iter().all(|item| item.len() <= WITNESS_ITEM_BYTES_MAX);
    match (version, program.len()) {
        (0, 32) => items.split_last().is_none_or(|(script, below)| {
            script.len() <= WITNESS_SCRIPT_BYTES_MAX && below.len() <= WITNESS_ITEMS_MAX && small(below)
        }),
        (1, 32) if !nested => match &*items {
            [] => false,
            [_] => true,
            [.., last] if last.first() == Some(&ANNEX) => false,
            [below @ .., _, control] => match control.first() {
                None => false,
                Some(leaf) => leaf & LEAF_MASK != LEAF_TAPSCRIPT || small(below),
            },
        },
        _ => true,
    }
}

/// True if a spent output asks for a witness, so that the transaction without one may be a stripped copy of a good one.
pub(super) fn spends_witness_program(tx: &Transaction, coins: &[Coin]) -> bool {
    tx.input.iter().zip(coins).any(|(input, coin)| {
        let spent = coin.out.script_pubkey.as_bytes();
        if opcode::witness_program(spent).is_some() {
            return !is_anchor(spent);
        }
        opcode::is_pay_to_script_hash(spent)
            && top_element(&input.script_sig)
                .ok()
                .flatten()
                .is_some_and(|redeem| opcode::witness_program(&redeem).is_some())
    })
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn};

    use super::*;

    fn key_hash() -> ScriptBuf {
        ScriptBuf::from([&[0, 20][..], &[7; 20]].concat())
    }

    fn tx(script_sig: Vec<u8>, outputs: Vec<(u64, Vec<u8>)>) -> Transaction {
        let input = TxIn {
            previous_output: OutPoint::default(),
            script_sig: ScriptBuf::from(script_sig),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let output = outputs
            .into_iter()
            .map(|(value, script)| TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from(script) })
            .collect();
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
    }

    fn word(tx: &Transaction, options: &MempoolOptions) -> String {
        is_standard(tx, options).err().map_or(String::new(), |reject| reject.reason)
    }

    #[test]
    fn what_is_not_relayed_has_its_word() {
        let options = MempoolOptions::default();
        let plain = || vec![(1_000, key_hash().into_bytes())];
        assert_eq!(word(&tx(vec![], plain()), &options), "");
        let mut odd = tx(vec![], plain());
        odd.version = Version(4);
        assert_eq!(word(&odd, &options), "version");
        assert_eq!(word(&tx(vec![0; 1_651], plain()), &options), "scriptsig-size");
        assert_eq!(word(&tx(vec![0x76], plain()), &options), "scriptsig-not-pushonly");
        assert_eq!(word(&tx(vec![], vec![(1_000, vec![0x51])]), &options), "scriptpubkey");
        let data = |length: usize| [&[0x6a, 0x4d][..], &(length as u16).to_le_bytes(), &vec![1; length]].concat();
        assert_eq!(word(&tx(vec![], vec![(0, data(300)), (0, data(300))]), &options), "");
        let small = MempoolOptions { data_bytes_max: Some(500), ..options.clone() };
        assert_eq!(word(&tx(vec![], vec![(0, data(300)), (0, data(300))]), &small), "datacarrier");
        let two = vec![(1, key_hash().into_bytes()), (1, key_hash().into_bytes())];
        assert_eq!(word(&tx(vec![], two), &options), "dust");
        let heavy = vec![(0, data(60_000)), (0, data(60_000))];
        assert_eq!(word(&tx(vec![], heavy), &options), "tx-size");
    }

    #[test]
    fn dust_is_what_costs_more_than_it_is_worth() {
        let output = |script: Vec<u8>| TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from(script) };
        let hash = [&[0x76, 0xa9, 20][..], &[7; 20], &[0x88, 0xac]].concat();
        assert_eq!(dust_threshold(&output(hash), 3_000), 546);
        assert_eq!(dust_threshold(&output(key_hash().into_bytes()), 3_000), 294);
        assert_eq!(dust_threshold(&output([&[0x51, 32][..], &[7; 32]].concat()), 3_000), 330);
        assert_eq!(dust_threshold(&output(vec![0x51, 2, 0x4e, 0x73]), 3_000), 240);
        assert_eq!(dust_threshold(&output(vec![0x6a]), 3_000), 0);
    }

    #[test]
    fn inputs_are_of_known_forms() {
        let coin = |script: Vec<u8>| Coin {
            out: TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from(script) },
            height: 1,
            coinbase: false,
        };
        let debug = |script_sig: Vec<u8>, spent: Vec<u8>| {
            inputs(&tx(script_sig, vec![]), &[coin(spent)]).err().map_or(String::new(), |reject| reject.debug)
        };
        let hash = [&[0xa9, 20][..], &[7; 20], &[0x87]].concat();
        assert_eq!(debug(vec![], key_hash().into_bytes()), "");
        assert_eq!(debug(vec![], vec![0x51]), "input 0 script unknown");
        assert_eq!(debug(vec![], vec![0x52, 2, 1, 1]), "input 0 witness program is undefined");
        assert_eq!(debug(vec![], hash.clone()), "input 0 P2SH redeemscript missing");
        assert_eq!(
            debug(vec![0x50], hash.clone()),
            "p2sh scriptsig malformed (input 0: Opcode missing or not understood)"
        );
        let many = opcode::push_of(&[0xac; 16]);
        assert_eq!(debug(many, hash), "p2sh redeemscript sigops exceed limit (input 0: 16 > 15)");
    }

    #[test]
    fn witnesses_are_small() {
        let standard = |spent: &[u8], items: &[Vec<u8>]| {
            one_witness(Script::new(), Script::from_bytes(spent), &Witness::from_slice(items))
        };
        let script_hash = [&[0, 32][..], &[7; 32]].concat();
        let taproot = [&[0x51, 32][..], &[7; 32]].concat();
        assert!(standard(&script_hash, &[vec![0; 80], vec![0; 3_600]]));
        assert!(!standard(&script_hash, &[vec![0; 81], vec![0; 36]]));
        assert!(!standard(&script_hash, &[vec![0; 3_601]]));
        assert!(standard(&taproot, &[vec![0; 64]]));
        assert!(!standard(&taproot, &[vec![0; 64], vec![ANNEX]]));
        assert!(!standard(&taproot, &[vec![0; 81], vec![], vec![0xc1; 33]]));
        assert!(standard(&taproot, &[vec![0; 81], vec![], vec![0xc2; 33]]));
        assert!(!standard(&[0x51, 2, 0x4e, 0x73], &[vec![]]) && !standard(&[0x51], &[vec![]]));
    }
}
