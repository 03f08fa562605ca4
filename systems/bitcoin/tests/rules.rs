//! A case for each rule, where it holds and where it does not: what `testdata/rules.txt` has as scripts, and what takes
//! signatures here.

mod text;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::key::Secp256k1;
use bitcoin::secp256k1::{All, Keypair, Message, PublicKey, SecretKey};
use bitcoin::taproot::{LeafVersion, TapLeafHash, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use verity_bitcoin::script::{Flags, Leaf, ScriptError, SharedHashes};

/// A transaction of version 2 with lock time 100, whose inputs have sequence 10.
fn transaction(inputs: u32) -> Transaction {
    let input = |vout| TxIn {
        previous_output: OutPoint { vout, ..OutPoint::default() },
        sequence: Sequence(10),
        ..TxIn::default()
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(100),
        input: (0..inputs).map(input).collect(),
        output: vec![TxOut { value: Amount::from_sat(5), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }],
    }
}

fn verdict(tx: &Transaction, locking: &ScriptBuf, flags: Flags) -> &'static str {
    let spent = TxOut { value: Amount::from_sat(9), script_pubkey: locking.clone() };
    let spent = vec![spent; tx.input.len()];
    let shared = SharedHashes::new(tx, &spent).expect("an output for each input");
    let said = shared.spend(0).expect("the first input").verify(flags);
    said.map_or_else(|error| error.name(), |()| "OK")
}

/// Each line: what unlocks, what locks, flags, the verdict. `testdata/rules.txt` says what may stand there.
#[test]
fn scripts_have_their_verdicts() {
    let mut cases = 0;
    for line in include_str!("../testdata/rules.txt").lines() {
        let line = line.split('#').next().unwrap_or_default();
        if line.trim().is_empty() {
            continue;
        }
        let [unlocking, locking, flags, expected] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("a case has four parts: {line}");
        };
        let mut tx = transaction(1);
        let (script_sig, witness) = unlocking.split_once(';').unwrap_or((unlocking, ""));
        tx.input[0].script_sig = text::script(script_sig);
        let elements = witness.split_whitespace().map(|element| text::bytes(element.trim_start_matches("0x")));
        tx.input[0].witness = Witness::from_slice(&elements.collect::<Vec<_>>());
        assert_eq!(verdict(&tx, &text::script(locking), text::flags(flags)), expected, "{line}");
        cases += 1;
    }
    assert!(cases > 60, "{cases} cases");
}

#[test]
fn errors_have_one_name_and_words() {
    let (mut names, mut words) = (Vec::new(), Vec::new());
    for error in ScriptError::ALL {
        names.push(error.name());
        words.push(error.to_string());
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    words.sort_unstable();
    words.dedup();
    assert_eq!((names.len(), words.len()), (count, count));
    let words = "Signature must be zero for failed CHECK(MULTI)SIG operation";
    assert_eq!(ScriptError::NullFail.to_string(), words);
}

/// A key, and what it signs with.
struct Owner {
    secp: Secp256k1<All>,
    secret: SecretKey,
}

impl Owner {
    fn new() -> Self {
        Self { secp: Secp256k1::new(), secret: SecretKey::from_slice(&[3; 32]).expect("a secret") }
    }

    fn key(&self) -> PublicKey {
        self.secret.public_key(&self.secp)
    }

    fn pair(&self) -> Keypair {
        Keypair::from_secret_key(&self.secp, &self.secret)
    }

    fn ecdsa(&self, digest: [u8; 32], hash_type: u8) -> Vec<u8> {
        let mut signature = self.secp.sign_ecdsa(&Message::from_digest(digest), &self.secret).serialize_der().to_vec();
        signature.push(hash_type);
        signature
    }

    fn schnorr(&self, digest: [u8; 32]) -> Vec<u8> {
        self.secp.sign_schnorr_no_aux_rand(&Message::from_digest(digest), &self.pair()).serialize().to_vec()
    }
}

/// A taproot output with one leaf.
struct Tree {
    owner: Owner,
    leaf: ScriptBuf,
    locking: ScriptBuf,
    control: Vec<u8>,
}

impl Tree {
    fn of(leaf: &[u8]) -> Self {
        let (owner, leaf) = (Owner::new(), ScriptBuf::from_bytes(leaf.to_vec()));
        let key = owner.key().x_only_public_key().0;
        let builder = TaprootBuilder::new().add_leaf(0, leaf.clone()).expect("one leaf");
        let info = builder.finalize(&owner.secp, key).expect("a whole tree");
        let control =
            info.control_block(&(leaf.clone(), LeafVersion::TapScript)).expect("the leaf is there").serialize();
        let locking = ScriptBuf::new_p2tr_tweaked(info.output_key());
        Self { owner, leaf, locking, control }
    }

    /// A signature by the leaf's key, for a script of these separators.
    fn signature(&self, code_separator: u32, annex: Option<&[u8]>) -> Vec<u8> {
        let tx = transaction(1);
        let spent = [TxOut { value: Amount::from_sat(9), script_pubkey: self.locking.clone() }];
        let shared = SharedHashes::new(&tx, &spent).expect("an output for each input");
        let hash = TapLeafHash::from_script(&self.leaf, LeafVersion::TapScript).to_byte_array();
        let annex = annex.map(|annex| sha256::Hash::hash(&[&[annex.len() as u8], annex].concat()).to_byte_array());
        let spend = shared.spend(0).expect("the first input");
        self.owner.schnorr(spend.taproot(0, annex, Some(Leaf { hash, code_separator })).expect("it means something"))
    }

    fn verdict(&self, elements: &[&[u8]], annex: Option<&[u8]>, flags: Flags) -> &'static str {
        let mut witness = Witness::from_slice(elements);
        witness.push(&self.leaf);
        witness.push(&self.control);
        annex.iter().for_each(|annex| witness.push(annex));
        let mut tx = transaction(1);
        tx.input[0].witness = witness;
        verdict(&tx, &self.locking, flags)
    }
}

/// The rules of blocks that matter here.
const BLOCKS: Flags = Flags::from_bits(Flags::TAPROOT.bits() | Flags::WITNESS.bits() | Flags::P2SH.bits());

/// The leaf's key, pushed.
fn key() -> Vec<u8> {
    [&[32][..], &Owner::new().key().x_only_public_key().0.serialize()].concat()
}

#[test]
fn a_tapscript_checks_signatures() {
    let tree = Tree::of(&[&key()[..], &[0xac]].concat());
    let good = tree.signature(u32::MAX, None);
    assert_eq!(tree.verdict(&[&good], None, Flags::ALL), "OK");
    assert_eq!(tree.verdict(&[&[]], None, Flags::ALL), "EVAL_FALSE");
    assert_eq!(tree.verdict(&[&good[..63]], None, Flags::ALL), "SCHNORR_SIG_SIZE");
    assert_eq!(tree.verdict(&[&[&good[..], &[0]].concat()], None, Flags::ALL), "SCHNORR_SIG_HASHTYPE");
    assert_eq!(tree.verdict(&[&[&good[..], &[4]].concat()], None, Flags::ALL), "SCHNORR_SIG_HASHTYPE");
    assert_eq!(tree.verdict(&[&[&good[..], &[1]].concat()], None, Flags::ALL), "SCHNORR_SIG");
    assert_eq!(tree.verdict(&[&[7; 64]], None, Flags::ALL), "SCHNORR_SIG");
    // The annex is signed.
    assert_eq!(tree.verdict(&[&good], Some(&[0x50]), Flags::ALL), "SCHNORR_SIG");
    let annexed = tree.signature(u32::MAX, Some(&[0x50, 1]));
    assert_eq!(tree.verdict(&[&annexed], Some(&[0x50, 1]), Flags::ALL), "OK");
    // Without the flag, anybody may spend it.
    assert_eq!(tree.verdict(&[], None, Flags::P2SH | Flags::WITNESS), "OK");
}

#[test]
fn separators_are_signed_by_their_place() {
    let tree = Tree::of(&[&[0x51, 0x75, 0xab][..], &key(), &[0xac]].concat());
    assert_eq!(tree.verdict(&[&tree.signature(2, None)], None, Flags::ALL), "OK");
    assert_eq!(tree.verdict(&[&tree.signature(u32::MAX, None)], None, Flags::ALL), "SCHNORR_SIG");
}

#[test]
fn signatures_are_counted_by_checksigadd() {
    // Two of three, the third of which did not sign.
    let tree = Tree::of(&[&[0x00][..], &key(), &[0xba], &key(), &[0xba], &key(), &[0xba, 0x52, 0x9c]].concat());
    let good = tree.signature(u32::MAX, None);
    assert_eq!(tree.verdict(&[&[], &good, &good], None, Flags::ALL), "OK");
    assert_eq!(tree.verdict(&[&[], &[], &good], None, Flags::ALL), "EVAL_FALSE");
    assert_eq!(tree.verdict(&[&good, &good], None, Flags::ALL), "INVALID_STACK_OPERATION");
}

#[test]
fn signatures_weigh_no_more_than_their_witness() {
    // DUP <key> CHECKSIGVERIFY so many times: the witness has room for a count of them, and not for another.
    let tree = |count: usize| {
        let one = [&[0x76][..], &key(), &[0xad]].concat();
        Tree::of(&[&one.repeat(count)[..], &[0x75, 0x51]].concat())
    };
    let said = |count: usize, padding: usize| {
        let tree = tree(count);
        let annex = [&[0x50][..], &vec![0; padding]].concat();
        let annex = (padding > 0).then_some(&annex[..]);
        tree.verdict(&[&tree.signature(u32::MAX, annex)], annex, Flags::ALL)
    };
    // Each check brings 35 bytes and takes 50, and 50 are given: 50 + 1 + 65 + (3 + 35 n + 2) + 34 >= 50 n.
    assert_eq!((said(10, 0), said(11, 0)), ("OK", "TAPSCRIPT_VALIDATION_WEIGHT"));
    // An annex is room as well: it brings its length, 0x50 and its padding.
    assert_eq!((said(11, 7), said(11, 8)), ("TAPSCRIPT_VALIDATION_WEIGHT", "OK"));
}

#[test]
fn tapscript_has_rules_of_its_own() {
    let said = |leaf: &[u8], elements: &[&[u8]], flags| Tree::of(leaf).verdict(elements, None, flags);
    assert_eq!(said(&[0x00, 0x00, 0x00, 0xae], &[], BLOCKS), "TAPSCRIPT_CHECKMULTISIG");
    assert_eq!(said(&[0x63, 0x51, 0x67, 0x51, 0x68], &[&[2]], BLOCKS), "TAPSCRIPT_MINIMALIF");
    assert_eq!(said(&[0x63, 0x51, 0x67, 0x51, 0x68], &[&[1]], BLOCKS), "OK");
    assert_eq!(said(&[0x00, 0xac], &[&[]], BLOCKS), "TAPSCRIPT_EMPTY_PUBKEY");
    // A key of another kind lets anything pass that is not empty.
    let other = [1, 0x20, 0xac];
    assert_eq!(said(&other, &[&[1]], BLOCKS), "OK");
    assert_eq!(said(&other, &[&[]], BLOCKS), "EVAL_FALSE");
    assert_eq!(said(&other, &[&[1]], Flags::ALL), "DISCOURAGE_UPGRADABLE_PUBKEYTYPE");
    // Success wherever it stands, if what stands before it can be read.
    for success in [80, 98, 126, 137, 153, 187, 254] {
        assert_eq!(said(&[0x6a, success, 0x4c], &[], BLOCKS), "OK", "{success}");
        assert_eq!(said(&[0x6a, success], &[], Flags::ALL), "DISCOURAGE_OP_SUCCESS", "{success}");
    }
    assert_eq!(said(&[0x4c, 2, 80], &[], BLOCKS), "BAD_OPCODE");
    assert_eq!(said(&[0xff], &[], BLOCKS), "BAD_OPCODE");
    // Neither operations nor the script's length are counted.
    let long = [&[0x61; 10_001][..], &[0x51]].concat();
    assert_eq!(said(&long, &[], BLOCKS), "OK");
    assert_eq!(said(&[0x51], &[&[1]], BLOCKS), "CLEANSTACK");
    assert_eq!(said(&[0x75, 0x51], &[&[0; 521]], BLOCKS), "PUSH_SIZE");
    let elements = [&[][..]; 1_001];
    assert_eq!(said(&[0x51], &elements, BLOCKS), "STACK_SIZE");
}

#[test]
fn other_leaves_mean_nothing_yet() {
    let owner = Owner::new();
    let (leaf, version) = (ScriptBuf::from_bytes(vec![0x6a]), LeafVersion::from_consensus(0xc2).expect("a version"));
    let builder = TaprootBuilder::new().add_leaf_with_ver(0, leaf.clone(), version).expect("one leaf");
    let info = builder.finalize(&owner.secp, owner.key().x_only_public_key().0).expect("a whole tree");
    let control = info.control_block(&(leaf.clone(), version)).expect("the leaf is there").serialize();
    let locking = ScriptBuf::new_p2tr_tweaked(info.output_key());
    let said = |control: &[u8], flags| {
        let mut tx = transaction(1);
        tx.input[0].witness = Witness::from_slice(&[leaf.as_bytes(), control]);
        verdict(&tx, &locking, flags)
    };
    assert_eq!(said(&control, BLOCKS), "OK");
    assert_eq!(said(&control, Flags::ALL), "DISCOURAGE_UPGRADABLE_TAPROOT_VERSION");
    assert_eq!(said(&control[..32], BLOCKS), "TAPROOT_WRONG_CONTROL_SIZE");
    assert_eq!(said(&[&control[..], &[0]].concat(), BLOCKS), "TAPROOT_WRONG_CONTROL_SIZE");
    assert_eq!(said(&[&control[..], &[0; 129 * 32]].concat(), BLOCKS), "TAPROOT_WRONG_CONTROL_SIZE");
    assert_eq!(said(&[&control[..], &[0; 128 * 32]].concat(), BLOCKS), "WITNESS_PROGRAM_MISMATCH");
}

#[test]
fn single_without_its_output_signs_the_number_one() {
    let owner = Owner::new();
    let mut tx = transaction(2);
    let mut one = [0; 32];
    one[0] = 1;
    let locking = ScriptBuf::from_bytes([&[33][..], &owner.key().serialize(), &[0xac]].concat());
    let spent = vec![TxOut { value: Amount::from_sat(9), script_pubkey: locking }; 2];
    let signature = owner.ecdsa(one, 3);
    tx.input[1].script_sig = ScriptBuf::from_bytes([&[signature.len() as u8][..], &signature].concat());
    let shared = SharedHashes::new(&tx, &spent).expect("an output for each input");
    assert_eq!(shared.spend(1).expect("the second input").legacy(&[], 3), one);
    assert_eq!(shared.spend(1).expect("the second input").verify(Flags::ALL), Ok(()));
    assert_ne!(shared.spend(0).expect("the first input").legacy(&[], 3), one);
}

#[test]
fn what_is_shared_must_fit() {
    let tx = transaction(2);
    assert!(SharedHashes::new(&tx, &[TxOut::NULL]).is_none());
    let spent = [TxOut::NULL, TxOut::NULL];
    assert!(SharedHashes::new(&tx, &spent).expect("it fits").spend(2).is_none());
}

/// Two thousand inputs hash what they share once: what an input signs does not make it longer.
#[test]
fn many_inputs_are_as_good_as_one() {
    const INPUTS: u32 = 2_000;
    let owner = Owner::new();
    let locking = ScriptBuf::new_p2wpkh(&bitcoin::CompressedPublicKey(owner.key()).wpubkey_hash());
    let code = [&[0x76, 0xa9][..], &locking.as_bytes()[1..], &[0x88, 0xac]].concat();
    let spent = vec![TxOut { value: Amount::from_sat(9), script_pubkey: locking }; INPUTS as usize];
    let mut tx = transaction(INPUTS);
    let unsigned = tx.clone();
    let shared = SharedHashes::new(&unsigned, &spent).expect("an output for each input");
    for (at, input) in tx.input.iter_mut().enumerate() {
        let digest = shared.spend(at).expect("it is there").witness_v0(&code, 1);
        input.witness = Witness::from_slice(&[owner.ecdsa(digest, 1), owner.key().serialize().to_vec()]);
    }
    let shared = SharedHashes::new(&tx, &spent).expect("an output for each input");
    for at in 0..tx.input.len() {
        assert_eq!(shared.spend(at).expect("it is there").verify(Flags::ALL), Ok(()), "{at}");
    }
}
