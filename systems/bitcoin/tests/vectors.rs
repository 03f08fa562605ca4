//! The vectors of the network's nodes.
//!
//! `cargo xtask test bitcoin-vectors` fetches them, says where they are in `BITCOIN_VECTORS`, and runs what is ignored here;
//! without them these tests fail. Each also fails if the file has fewer rows than are known to be in it, or if not all of
//! them were looked at.
//!
//! Flags only ever forbid. So each row that is to pass is also tried with fewer of them, and each that is to fail with more;
//! and rows of whole transactions say which flags are the least, or the most, which is tried too.

#[expect(dead_code, reason = "cases are not made up here, but judged as those are")]
mod made;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use bitcoin::absolute::LockTime;
use bitcoin::hex::DisplayHex;
use bitcoin::key::Secp256k1;
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, XOnlyPublicKey, consensus,
};
use serde_json::Value;
use verity_bitcoin::chain::{BlockUndo, Coin, TxUndo};
use verity_bitcoin::index::basic_filter;
use verity_bitcoin::script::{Flags, ScriptError, SharedHashes};

const SCRIPTS: usize = 1_222;
const VALID: usize = 121;
const INVALID: usize = 93;
const SIGHASHES: usize = 500;
const TAPROOT_OUTPUTS: usize = 7;
const TAPROOT_INPUTS: usize = 7;
const FILTERS: usize = 10;

/// A key that nobody has the secret of (BIP 341).
const NOBODY: &str = "50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0";

fn read(name: &str) -> Value {
    let folder = std::env::var_os("BITCOIN_VECTORS").expect("`cargo xtask test bitcoin-vectors` sets BITCOIN_VECTORS");
    let path = Path::new(&folder).join(name);
    let file = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&file).expect("a file of vectors is JSON")
}

/// The rows that are more than a remark.
fn rows(name: &str, least: usize) -> Vec<Vec<Value>> {
    let file = read(name);
    let rows =
        file.as_array().expect("a file of vectors is a list").iter().map(|row| row.as_array().expect("of lists"));
    let rows: Vec<_> = rows.filter(|row| row.len() > 1).cloned().collect();
    assert!(rows.len() >= least, "{name} has {} rows, not {least}", rows.len());
    rows
}

fn str(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Every single flag, and sets of them.
fn some_flags() -> impl Iterator<Item = Flags> {
    let sets = (1..=24u32).map(|number| Flags::from_bits(number.wrapping_mul(0x9e37_79b9) >> 7));
    Flags::NAMED.iter().map(|(_, flag)| *flag).chain(sets)
}

/// With those that the given ones rest on.
fn filled(mut flags: Flags) -> Flags {
    if flags.has(Flags::CLEANSTACK) {
        flags |= Flags::WITNESS;
    }
    if flags.has(Flags::WITNESS) {
        flags |= Flags::P2SH;
    }
    flags
}

/// These flags without one of them, for each.
fn one_less(flags: Flags) -> Vec<Flags> {
    let less = Flags::NAMED.iter().map(|(_, flag)| flags.without(*flag).supported());
    less.filter(|less| *less != flags).collect()
}

/// A transaction that spends an output with this script and amount, and the output.
fn spending(script_sig: ScriptBuf, script_pubkey: ScriptBuf, witness: Witness, value: Amount) -> (Transaction, TxOut) {
    let input =
        |previous_output, script_sig, witness| TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness };
    let transaction = |input, output| Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    };
    let spent = TxOut { value, script_pubkey };
    let zeros = ScriptBuf::from_bytes(vec![0, 0]);
    let credit = transaction(input(OutPoint::null(), zeros, Witness::new()), spent.clone());
    let outpoint = OutPoint { txid: credit.compute_txid(), vout: 0 };
    let empty = TxOut { value, script_pubkey: ScriptBuf::new() };
    (transaction(input(outpoint, script_sig, witness), empty), spent)
}

/// The witness of a row, its amount, and the tweaked key if there is a tree.
fn witness_of(row: &[Value]) -> (Witness, Amount, Option<XOnlyPublicKey>) {
    let (amount, elements) = row.split_last().expect("a row's witness has an amount");
    let satoshis = (amount.as_f64().expect("an amount") * 1e8).round();
    let (mut witness, mut tree) = (Witness::new(), None);
    for element in elements.iter().map(str) {
        if let Some(leaf) = element.strip_prefix("#SCRIPT#") {
            let (leaf, nobody) = (text::script(leaf), NOBODY.parse().expect("a key"));
            witness.push(leaf.as_bytes());
            let builder = TaprootBuilder::new().add_leaf(0, leaf.clone()).expect("one leaf");
            let info = builder.finalize(&Secp256k1::verification_only(), nobody).expect("a whole tree");
            let control = info.control_block(&(leaf, LeafVersion::TapScript)).expect("the leaf is there");
            tree = Some((control.serialize(), info.output_key().to_x_only_public_key()));
        } else if element == "#CONTROLBLOCK#" {
            witness.push(&tree.as_ref().expect("a script comes first").0);
        } else {
            witness.push(text::bytes(element));
        }
    }
    (witness, Amount::from_sat(satoshis as u64), tree.map(|(_, key)| key))
}

/// A row of `script_tests`: the spend, its flags and the verdict.
fn script_row(row: &[Value]) -> (Transaction, TxOut, Flags, &str) {
    let (witness, rest) = match row.split_first() {
        Some((Value::Array(witness), rest)) => (Some(witness), rest),
        _ => (None, row),
    };
    let (witness, amount, key) = witness.map_or_else(|| (Witness::new(), Amount::ZERO, None), |row| witness_of(row));
    let output = key.map_or_else(String::new, |key| format!("0x{key}"));
    let locking = text::script(&str(&rest[1]).replace("#TAPROOTOUTPUT#", &output));
    let (tx, spent) = spending(text::script(str(&rest[0])), locking, witness, amount);
    (tx, spent, filled(text::flags(str(&rest[2]))), str(&rest[3]))
}

fn verdict(tx: &Transaction, spent: &[TxOut], input: usize, flags: Flags) -> Result<(), ScriptError> {
    let shared = SharedHashes::new(tx, spent).expect("an output for each input");
    shared.spend(input).expect("the input is there").verify(flags)
}

#[test]
#[ignore = "run by `cargo xtask test bitcoin-vectors`, which fetches the vectors"]
fn script_tests() {
    let (rows, mut wrong, mut looked_at) = (rows("script_tests.json", SCRIPTS), Vec::new(), 0);
    for row in &rows {
        let (tx, spent, flags, expected) = script_row(row);
        let judge = |flags| verdict(&tx, std::slice::from_ref(&spent), 0, flags);
        let said = judge(flags).map_or_else(|error| error.name(), |()| "OK");
        if said != expected {
            wrong.push(format!("{said}: {row:?}"));
        }
        for other in some_flags() {
            let (is_good, other) = if expected == "OK" {
                (true, flags.without(other).supported())
            } else {
                (false, filled(flags | other))
            };
            if judge(other).is_ok() != is_good {
                wrong.push(format!("with {other:?}: {row:?}"));
            }
        }
        looked_at += 1;
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(looked_at, rows.len());
    println!("{looked_at} scripts");
}

/// A row of `tx_valid` or `tx_invalid`.
struct Row {
    tx: Transaction,
    spent: Vec<TxOut>,
    flags: String,
}

impl Row {
    fn read(row: &[Value]) -> Self {
        let mut outputs = BTreeMap::new();
        for output in row[0].as_array().expect("a list of outputs") {
            // Text has a transaction's name backwards, as everybody shows it.
            let txid: Txid = str(&output[0]).parse().expect("a name");
            let vout = output[1].as_i64().expect("a number") as u32;
            let value = Amount::from_sat(output[3].as_u64().unwrap_or(0));
            outputs.insert(OutPoint { txid, vout }, TxOut { value, script_pubkey: text::script(str(&output[2])) });
        }
        let tx: Transaction = consensus::deserialize(&text::bytes(str(&row[1]))).expect("a transaction");
        let spent = tx.input.iter().map(|input| outputs[&input.previous_output].clone()).collect();
        Self { tx, spent, flags: str(&row[2]).to_owned() }
    }

    fn is_good(&self, flags: Flags) -> bool {
        (0..self.tx.input.len()).all(|input| verdict(&self.tx, &self.spent, input, flags).is_ok())
    }
}

/// What holds of every transaction, whatever it spends. Not a matter of scripts; some rows are here for it alone.
fn is_well_formed(tx: &Transaction) -> bool {
    let mut names: Vec<_> = tx.input.iter().map(|input| input.previous_output).collect();
    let null = names.iter().any(OutPoint::is_null);
    let coinbase = tx.is_coinbase() && (2..=100).contains(&tx.input[0].script_sig.len());
    names.sort_unstable();
    names.dedup();
    let sum = tx.output.iter().map(|output| u128::from(output.value.to_sat())).sum::<u128>();
    !tx.output.is_empty()
        && names.len() == tx.input.len()
        && sum <= u128::from(Amount::MAX_MONEY.to_sat())
        && (!null || coinbase)
}

#[test]
#[ignore = "run by `cargo xtask test bitcoin-vectors`, which fetches the vectors"]
fn tx_valid() {
    let (rows, mut wrong, mut looked_at) = (rows("tx_valid.json", VALID), Vec::new(), 0);
    for row in &rows {
        let case = Row::read(row);
        assert!(is_well_formed(&case.tx), "{row:?}");
        let without = text::flags(&case.flags);
        let most = Flags::ALL.without(without);
        let mut expect = |flags: Flags, good| {
            if case.is_good(flags) != good {
                wrong.push(format!("with {flags:?}, good should be {good}: {row:?}"));
            }
        };
        expect(most, true);
        some_flags().for_each(|less| expect(most.without(less).supported(), true));
        one_less(without).into_iter().for_each(|less| expect(Flags::ALL.without(less), false));
        looked_at += 1;
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(looked_at, rows.len());
    println!("{looked_at} valid transactions");
}

#[test]
#[ignore = "run by `cargo xtask test bitcoin-vectors`, which fetches the vectors"]
fn tx_invalid() {
    let (rows, mut wrong, mut looked_at) = (rows("tx_invalid.json", INVALID), Vec::new(), 0);
    for row in &rows {
        let case = Row::read(row);
        looked_at += 1;
        assert_eq!(is_well_formed(&case.tx), case.flags != "BADTX", "{row:?}");
        if case.flags == "BADTX" {
            continue;
        }
        let least = text::flags(&case.flags);
        let mut expect = |flags: Flags, good| {
            if case.is_good(flags) != good {
                wrong.push(format!("with {flags:?}, good should be {good}: {row:?}"));
            }
        };
        expect(least, false);
        some_flags().for_each(|more| expect(filled(least | more), false));
        one_less(least).into_iter().for_each(|less| expect(less, true));
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(looked_at, rows.len());
    println!("{looked_at} invalid transactions");
}

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    /// Changes, adds or takes away one byte.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (place, byte) = (self.below(bytes.len()), self.below(256) as u8);
        match self.below(4) {
            0 => bytes.insert(place, byte),
            1 if !bytes.is_empty() => drop(bytes.remove(place)),
            _ if !bytes.is_empty() => bytes[place] ^= if byte == 0 { 1 } else { byte },
            _ => {}
        }
    }

    fn changed(&mut self, script: &ScriptBuf) -> ScriptBuf {
        let mut bytes = script.to_bytes();
        self.change(&mut bytes);
        ScriptBuf::from_bytes(bytes)
    }
}

/// Every row as it is, and many times with something changed, to Bitcoin Core's library: it must say what we say.
#[test]
#[ignore = "run by `cargo xtask test bitcoin-vectors`, which fetches the vectors"]
fn changed_rows_have_the_verdicts_of_the_library() {
    const CHANGES: usize = 60;
    let scripts = rows("script_tests.json", SCRIPTS).into_iter().map(|row| {
        let (tx, spent, ..) = script_row(&row);
        (tx, vec![spent])
    });
    let transactions = rows("tx_valid.json", VALID).into_iter().chain(rows("tx_invalid.json", INVALID)).map(|row| {
        let row = Row::read(&row);
        (row.tx, row.spent)
    });
    let (mut numbers, mut cases, mut passed) = (Numbers(1), 0, 0);
    for (tx, spent) in scripts.chain(transactions) {
        for change in 0..=CHANGES {
            let (mut tx, mut spent, input) = (tx.clone(), spent.clone(), numbers.below(tx.input.len()));
            let own = &mut tx.input[input];
            for _ in 0..if change == 0 { 0 } else { 1 + numbers.below(2) } {
                match numbers.below(6) {
                    0 => own.script_sig = numbers.changed(&own.script_sig),
                    1 => spent[input].script_pubkey = numbers.changed(&spent[input].script_pubkey),
                    2 => own.sequence = Sequence(own.sequence.0 ^ (1 << numbers.below(32))),
                    3 => {
                        tx.lock_time =
                            LockTime::from_consensus(tx.lock_time.to_consensus_u32() ^ (1 << numbers.below(32)))
                    }
                    _ if own.witness.is_empty() => own.script_sig = numbers.changed(&own.script_sig),
                    _ => {
                        let mut elements = own.witness.to_vec();
                        let element = numbers.below(elements.len());
                        numbers.change(&mut elements[element]);
                        own.witness = Witness::from_slice(&elements);
                    }
                }
            }
            let less = if numbers.below(2) == 0 { 0 } else { numbers.below(1 << 21) as u32 };
            let flags = Flags::ALL.without(Flags::from_bits(less)).supported();
            passed += usize::from(made::Case { tx, spent, input, flags }.agreed().is_ok());
            cases += 1;
        }
    }
    assert!(passed > cases / 10 && passed < cases, "{passed} of {cases} passed");
    println!("{cases} cases, of which {passed} passed");
}

#[test]
#[ignore = "run by `cargo xtask test bitcoin-vectors`, which fetches the vectors"]
fn sighash() {
    let (rows, mut looked_at) = (rows("sighash.json", SIGHASHES), 0);
    // The first row names the columns.
    for row in rows.iter().filter(|row| row[2].is_i64()) {
        let tx: Transaction = consensus::deserialize(&text::bytes(str(&row[0]))).expect("a transaction");
        let spent = vec![TxOut::NULL; tx.input.len()];
        let shared = SharedHashes::new(&tx, &spent).expect("an output for each input");
        let input = row[2].as_u64().expect("a place") as usize;
        let hash_type = row[3].as_i64().expect("a hash type") as u32;
        let mut hash = shared.spend(input).expect("it is there").legacy(&text::bytes(str(&row[1])), hash_type);
        hash.reverse();
        assert_eq!(hash.to_lower_hex_string(), str(&row[4]), "{row:?}");
        looked_at += 1;
    }
    assert!(looked_at >= SIGHASHES, "{looked_at} rows");
    println!("{looked_at} hashes");
}

/// The leaves of a tree, the first one first.
fn leaves(tree: &Value) -> Vec<(&Value, &Value)> {
    match tree {
        Value::Null => Vec::new(),
        Value::Array(below) => below.iter().flat_map(leaves).collect(),
        leaf => vec![(&leaf["script"], &leaf["leafVersion"])],
    }
}

#[test]
#[ignore = "run by `cargo xtask test bitcoin-vectors`, which fetches the vectors"]
fn bip341_outputs() {
    let file = read("bip341_wallet_vectors.json");
    let outputs = file["scriptPubKey"].as_array().expect("a list");
    assert!(outputs.len() >= TAPROOT_OUTPUTS);
    let mut paths = 0;
    for output in outputs {
        let locking = ScriptBuf::from_bytes(text::bytes(str(&output["expected"]["scriptPubKey"])));
        let controls = output["expected"]["scriptPathControlBlocks"].as_array().map_or(&[][..], Vec::as_slice);
        let leaves = leaves(&output["given"]["scriptTree"]);
        assert_eq!(leaves.len(), controls.len());
        for ((script, version), control) in leaves.iter().zip(controls) {
            let (script, control) = (text::bytes(str(script)), text::bytes(str(control)));
            let judge = |script: &[u8], control: &[u8]| {
                let witness = Witness::from_slice(&[script, control]);
                let (tx, spent) = spending(ScriptBuf::new(), locking.clone(), witness, Amount::ZERO);
                verdict(&tx, &[spent], 0, Flags::P2SH | Flags::WITNESS | Flags::TAPROOT)
            };
            // Most tapscripts then lack a signature; one is just true, and another version means nothing yet.
            let is_true = version.as_u64() != Some(0xc0) || !script.ends_with(&[0xac]);
            let committed = if is_true { Ok(()) } else { Err(ScriptError::InvalidStackOperation) };
            assert_eq!(judge(&script, &control), committed, "{output}");
            for place in 0..control.len() {
                let mut wrong = control.clone();
                wrong[place] ^= 1;
                assert_eq!(judge(&script, &wrong), Err(ScriptError::WitnessProgramMismatch), "{place}: {output}");
            }
            assert_eq!(judge(&[&script[..], &[0]].concat(), &control), Err(ScriptError::WitnessProgramMismatch));
            paths += 1;
        }
    }
    assert!(paths >= 11, "{paths} paths");
    println!("{} outputs with {paths} paths", outputs.len());
}

#[test]
#[ignore = "run by `cargo xtask test bitcoin-vectors`, which fetches the vectors"]
fn bip341_inputs() {
    let (file, mut looked_at) = (read("bip341_wallet_vectors.json"), 0);
    for case in file["keyPathSpending"].as_array().expect("a list") {
        let spent = case["given"]["utxosSpent"].as_array().expect("a list").iter().map(|spent| TxOut {
            value: Amount::from_sat(spent["amountSats"].as_u64().expect("an amount")),
            script_pubkey: ScriptBuf::from_bytes(text::bytes(str(&spent["scriptPubKey"]))),
        });
        let spent: Vec<TxOut> = spent.collect();
        let transaction =
            |text: &Value| -> Transaction { consensus::deserialize(&text::bytes(str(text))).expect("a transaction") };
        let unsigned = transaction(&case["given"]["rawUnsignedTx"]);
        let shared = SharedHashes::new(&unsigned, &spent).expect("an output for each input");
        for input in case["inputSpending"].as_array().expect("a list") {
            let at = input["given"]["txinIndex"].as_u64().expect("a place") as usize;
            let hash_type = input["given"]["hashType"].as_u64().expect("a hash type") as u8;
            let hash =
                shared.spend(at).expect("it is there").taproot(hash_type, None, None).expect("it means something");
            assert_eq!(hash.to_lower_hex_string(), str(&input["intermediary"]["sigHash"]), "{input}");
            looked_at += 1;
        }
        let signed = transaction(&case["auxiliary"]["fullySignedTx"]);
        for input in 0..signed.input.len() {
            assert_eq!(verdict(&signed, &spent, input, Flags::ALL), Ok(()), "{input}");
            let mut other = signed.clone();
            other.input[input].sequence = Sequence::from_consensus(7);
            assert!(verdict(&other, &spent, input, Flags::ALL).is_err(), "{input}: what it signed has changed");
        }
    }
    assert!(looked_at >= TAPROOT_INPUTS, "{looked_at} inputs");
    println!("{looked_at} taproot inputs");
}

/// Filters of blocks, and the headers that commit to them (BIP 158).
#[test]
#[ignore = "run by `cargo xtask test bitcoin-vectors`, which fetches the vectors"]
fn blockfilters() {
    let rows: Vec<_> = rows("blockfilters.json", FILTERS).into_iter().filter(|row| row[0].is_number()).collect();
    assert!(rows.len() >= FILTERS, "{} rows", rows.len());
    for row in &rows {
        let block: bitcoin::Block = consensus::encode::deserialize_hex(str(&row[2])).expect("a block");
        assert_eq!(block.block_hash().to_string(), str(&row[1]));
        let mut scripts = row[3].as_array().expect("a list").iter().map(|script| ScriptBuf::from_hex(str(script)));
        let mut coin = || {
            let script_pubkey = scripts.next().expect("one for each input").expect("hex");
            Coin { out: TxOut { value: Amount::ZERO, script_pubkey }, height: 0, coinbase: false }
        };
        let spent = |tx: &Transaction| TxUndo { spent: tx.input.iter().map(|_| coin()).collect() };
        let undo = BlockUndo { txs: block.txdata.iter().skip(1).map(spent).collect() };
        let filter = basic_filter(&block, &undo, str(&row[4]).parse().expect("a header"));
        assert_eq!(filter.content.to_lower_hex_string(), str(&row[5]), "block {}", row[0]);
        assert_eq!(filter.header.to_string(), str(&row[6]), "block {}", row[0]);
    }
}
