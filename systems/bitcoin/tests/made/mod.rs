//! Transactions that bytes make up, for two interpreters to agree on.
//!
//! Bytes choose everything, so that a search through bytes is one through transactions, and shorter bytes are simpler ones.
//! What a blind choice would not meet is built in: keys, signatures that are good for what the locking script turned out to be,
//! the many encodings of a signature, numbers at their bounds, and every kind of output.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, hash160, sha256};
use bitcoin::secp256k1::{Keypair, Message, PublicKey, Scalar, Secp256k1, SecretKey, SignOnly};
use bitcoin::taproot::{LeafVersion, TapLeafHash, TapTweakHash};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, consensus};
use bitcoinconsensus::{Utxo, verify_with_flags};
use verity_bitcoin::script::{Flags, Leaf, ScriptError, SharedHashes};

/// The rules that the library knows.
const KNOWN: u32 = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT;
/// Scripts have no more atoms.
const ATOMS_MAX: u8 = 24;
/// The secrets.
const KEYS: u8 = 3;

/// An input that spends an output.
#[derive(Debug)]
pub(crate) struct Case {
    /// The transaction.
    pub(crate) tx: Transaction,
    /// What its inputs spend.
    pub(crate) spent: Vec<TxOut>,
    /// Which input is looked at.
    pub(crate) input: usize,
    /// By which rules.
    pub(crate) flags: Flags,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bare,
    ScriptHash,
    WitnessScript,
    NestedWitnessScript,
    WitnessKey,
    NestedWitnessKey,
    TaprootKey,
    Tapscript,
    Unknown,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Bare,
        Self::ScriptHash,
        Self::WitnessScript,
        Self::NestedWitnessScript,
        Self::WitnessKey,
        Self::NestedWitnessKey,
        Self::TaprootKey,
        Self::Tapscript,
        Self::Unknown,
    ];
}

/// What is left of the bytes; zeros without end behind them.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below this one.
    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    fn some(&mut self, max: u8) -> Vec<u8> {
        let count = self.below(max + 1);
        (0..count).map(|_| self.byte()).collect()
    }
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_slice(&[number % KEYS + 1; 32]).expect("a small number is a secret")
}

fn signer() -> Secp256k1<SignOnly> {
    Secp256k1::signing_only()
}

/// A key in one of its forms, some of them wrong.
fn key(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let key = PublicKey::from_secret_key(&signer(), &secret(bytes.byte()));
    let (short, mut long) = (key.serialize(), key.serialize_uncompressed());
    match bytes.below(12) {
        0..=4 => short.to_vec(),
        5 | 6 => short[1..].to_vec(),
        7 => long.to_vec(),
        8 | 9 => {
            long[0] = 6 + (bytes.byte() & 1);
            long.to_vec()
        }
        10 => bytes.some(70),
        _ => {
            let mut wrong = short;
            wrong[usize::from(bytes.below(33))] ^= bytes.byte();
            wrong.to_vec()
        }
    }
}

fn push(script: &mut Vec<u8>, element: &[u8]) {
    let length = element.len();
    match length {
        0..=75 => script.push(length as u8),
        76..=255 => script.extend([0x4c, length as u8]),
        _ => script.extend([0x4d, length as u8, (length >> 8) as u8]),
    }
    script.extend(element);
}

/// One element: a number, or bytes.
fn element(bytes: &mut Bytes<'_>) -> Vec<u8> {
    match bytes.below(10) {
        0 => Vec::new(),
        1..=3 => vec![bytes.below(6)],
        4 => bytes
            .pick(&[&[0x80][..], &[0], &[0, 0x80], &[1, 0], &[0xff, 0xff, 0xff, 0x7f], &[0xff; 4], &[0; 5]])
            .to_vec(),
        5 => (u32::from(bytes.byte()) << 22 | u32::from(bytes.byte())).to_le_bytes().to_vec(),
        6 => key(bytes),
        7 => vec![bytes.byte(); 2 * usize::from(bytes.byte()) + 12],
        8 => hash160::Hash::hash(&bytes.some(3)).to_byte_array().to_vec(),
        _ => bytes.some(8),
    }
}

/// A script, and whose signatures it asks for in which order, if that is known.
struct Plan {
    script: Vec<u8>,
    signers: Vec<u8>,
    /// Whether `OP_CHECKMULTISIG` takes one element more.
    dummy: bool,
    /// Behind the last `OP_CODESEPARATOR` that runs, and at which opcode that stands.
    code_from: usize,
    separator: u32,
}

/// Half of them are atoms, half of them ask for signatures.
fn plan(bytes: &mut Bytes<'_>, kind: Kind) -> Plan {
    let mut plan = Plan { script: Vec::new(), signers: Vec::new(), dummy: false, code_from: 0, separator: u32::MAX };
    if bytes.below(2) == 0 {
        plan.script = atoms(bytes);
        return plan;
    }
    let script = &mut plan.script;
    match bytes.below(5) {
        0 => {
            script.push(0xab);
            plan.separator = 0;
        }
        1 => {
            script.extend([0x51, 0x75, 0xab]);
            plan.separator = 2;
        }
        2 => {
            push(script, &one_signature(bytes.byte()));
            script.push(0x75);
        }
        _ => {}
    }
    if plan.separator != u32::MAX {
        plan.code_from = script.len();
    }
    let (first, count) = (bytes.below(KEYS), 1 + bytes.below(KEYS));
    let ask = |script: &mut Vec<u8>, bytes: &mut Bytes<'_>, number: u8| push(script, &form(bytes, number, kind));
    if kind == Kind::Tapscript {
        script.push(0);
        for number in first..first + count {
            ask(script, bytes, number);
            script.push(0xba);
        }
        script.extend([0x50 + count, 0x9c]);
        plan.signers.extend((first..first + count).rev());
    } else if bytes.below(2) == 0 {
        ask(script, bytes, first);
        script.push(0xac);
        plan.signers.push(first);
    } else {
        let (signatures, skipped) = (1 + bytes.below(count), bytes.below(count));
        script.push(0x50 + signatures);
        (first..first + count).for_each(|number| ask(script, bytes, number));
        script.extend([0x50 + count, 0xae]);
        plan.dummy = true;
        plan.signers.extend((0..count).filter(|at| signatures == count || *at != skipped).map(|at| first + at));
        plan.signers.truncate(usize::from(signatures));
    }
    if bytes.below(6) == 1 {
        // Behind all signatures, and signed before it runs.
        plan.script.extend([0xab, 0x61]);
    }
    plan
}

/// The key of this number, in a form that is right most times.
fn form(bytes: &mut Bytes<'_>, number: u8, kind: Kind) -> Vec<u8> {
    let key = PublicKey::from_secret_key(&signer(), &secret(number));
    let mut long = key.serialize_uncompressed();
    match bytes.below(10) {
        _ if kind == Kind::Tapscript => key.serialize()[1..].to_vec(),
        0 => long.to_vec(),
        1 | 2 => {
            long[0] = 6 + ((long[64] ^ (bytes.below(3) / 2)) & 1);
            long.to_vec()
        }
        _ => key.serialize().to_vec(),
    }
}

/// A script of some atoms.
fn atoms(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut script = Vec::new();
    for _ in 0..bytes.below(ATOMS_MAX) {
        match bytes.below(12) {
            // Stack, numbers, hashes, signatures and what became of unused opcodes.
            0..=2 => script.push(0x61 + bytes.below(0x5a)),
            3 | 4 => script.push(0x50 + bytes.below(0x11)),
            5 => push(&mut script, &element(bytes)),
            6 => {
                push(&mut script, &key(bytes));
                script.push(bytes.pick(&[0xac, 0xad, 0xba]));
            }
            7 => multisig(&mut script, bytes),
            8 => script.push(bytes.pick(&[0x63, 0x64, 0x67, 0x68, 0x68, 0xab, 0xab, 0xb1, 0xb2, 0x75])),
            9 => {
                let constant = one_signature(bytes.byte());
                push(&mut script, &constant);
            }
            10 => script.push(bytes.byte()),
            _ => script.extend([0x63, 0x51 + bytes.below(4), 0x67, bytes.byte(), 0x68]),
        }
    }
    script
}

fn multisig(script: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let (keys, signatures) = (bytes.below(4), bytes.below(4));
    script.push(if signatures == 0 { 0 } else { 0x50 + signatures });
    (0..keys).for_each(|_| push(script, &key(bytes)));
    script.push(if keys == 0 { 0 } else { 0x50 + keys });
    script.push(bytes.pick(&[0xae, 0xaf]));
}

/// Signs the number one, which every script signs upon `SIGHASH_SINGLE` without its output: so that a signature may stand in
/// the script that it signs.
fn one_signature(number: u8) -> Vec<u8> {
    let mut one = [0; 32];
    one[0] = 1;
    let mut signature = signer().sign_ecdsa(&Message::from_digest(one), &secret(number)).serialize_der().to_vec();
    signature.push(3);
    signature
}

/// Writes R and S in a way that few would.
fn encode(bytes: &mut Bytes<'_>, compact: [u8; 64]) -> Vec<u8> {
    let (r, s) = compact.split_at(32);
    let mut integers = Vec::new();
    for digits in [r, s] {
        let zeros = bytes.below(4);
        let digits = [&vec![0; usize::from(zeros)], digits].concat();
        integers.push(2);
        match bytes.below(5) {
            0 => integers.extend([0x81, digits.len() as u8]),
            1 => integers.extend([0x84, 0, 0, 0, digits.len() as u8]),
            2 => integers.extend([0x85, 0, bytes.below(2), 0, 0, digits.len() as u8]),
            _ => integers.push(digits.len() as u8),
        }
        integers.extend(digits);
    }
    let mut der = vec![0x30];
    match bytes.below(4) {
        0 => der.push(bytes.byte()),
        1 => der.extend([0x82, bytes.byte(), bytes.byte()]),
        _ => der.push(integers.len() as u8),
    }
    der.extend(integers);
    der.extend(bytes.some(3));
    der
}

/// A signature over what the digest function says about a hash type.
fn ecdsa(bytes: &mut Bytes<'_>, who: u8, digest: impl Fn(u8) -> [u8; 32]) -> Vec<u8> {
    let hash_type = if bytes.below(4) == 0 { bytes.byte() } else { bytes.pick(&[1, 2, 3, 0x81, 0x82, 0x83]) };
    let signature = signer().sign_ecdsa(&Message::from_digest(digest(hash_type)), &secret(who));
    let mut der = match bytes.below(8) {
        0 => encode(bytes, signature.serialize_compact()),
        1 => encode(bytes, negated(signature.serialize_compact())),
        2 => {
            let mut wrong = signature.serialize_der().to_vec();
            let place = usize::from(bytes.byte()) % wrong.len();
            wrong[place] ^= bytes.byte();
            wrong
        }
        _ => signature.serialize_der().to_vec(),
    };
    der.push(hash_type);
    der
}

/// The higher S.
fn negated(mut compact: [u8; 64]) -> [u8; 64] {
    let low = SecretKey::from_slice(&compact[32..]).expect("S is a number of the group");
    compact[32..].copy_from_slice(&low.negate().secret_bytes());
    compact
}

fn schnorr(bytes: &mut Bytes<'_>, who: u8, tweak: Option<Scalar>, digest: impl Fn(u8) -> Option<[u8; 32]>) -> Vec<u8> {
    let hash_type = if bytes.below(8) == 0 { bytes.byte() } else { bytes.pick(&[0, 1, 2, 3, 0x81, 0x82, 0x83]) };
    let mut pair = Keypair::from_secret_key(&signer(), &secret(who));
    if let Some(tweak) = tweak {
        pair = pair.add_xonly_tweak(&Secp256k1::new(), &tweak).expect("a hash is no key's negative");
    }
    let digest = digest(hash_type).unwrap_or([7; 32]);
    let mut signature = signer().sign_schnorr_no_aux_rand(&Message::from_digest(digest), &pair).serialize().to_vec();
    if hash_type != 0 || bytes.below(16) == 1 {
        signature.push(hash_type);
    }
    if bytes.below(8) == 1 {
        let place = usize::from(bytes.byte()) % signature.len();
        signature[place] ^= bytes.byte();
    }
    signature
}

impl Case {
    /// Makes a case of bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let bytes = &mut Bytes(bytes);
        let kind = bytes.pick(&Kind::ALL);
        let flags = match bytes.below(4) {
            0 => Flags::from_bits(u32::from_le_bytes([bytes.byte(), bytes.byte(), bytes.byte(), 0])),
            _ => Flags::ALL,
        };
        let plan = plan(bytes, kind);
        let script = &plan.script;
        let path = (0..bytes.below(3)).map(|_| [bytes.byte(); 32]).collect::<Vec<_>>().concat();
        let version = if bytes.below(8) == 1 { bytes.byte() & 0xfe } else { 0xc0 };
        let number = bytes.below(KEYS);
        let owner = secret(number);
        let tree = Tree::of(&owner, kind == Kind::Tapscript, script, version, path);
        let locking = locking(bytes, kind, script, &owner, &tree);
        let (mut tx, mut spent) = transaction(bytes);
        let input = usize::from(bytes.byte()) % tx.input.len();
        spent[input].script_pubkey = ScriptBuf::from_bytes(locking);
        let annex = (bytes.below(6) == 1).then(|| [&[0x50][..], &bytes.some(4)].concat());
        let elements = unlock(bytes, kind, number, &tx, &spent, input, &plan, &tree, annex.as_deref());
        let (script_sig, mut witness) = unlocking(kind, script, &owner, &tree, elements);
        witness.extend(annex.filter(|_| matches!(kind, Kind::TaprootKey | Kind::Tapscript)));
        if bytes.below(24) == 1 {
            witness.push(element(bytes));
        }
        tx.input[input].script_sig = ScriptBuf::from_bytes(script_sig);
        tx.input[input].witness = Witness::from_slice(&witness);
        Self { tx, spent, input, flags: flags.supported() }
    }

    /// What we say, by these rules.
    fn ours(&self, flags: Flags) -> Result<(), ScriptError> {
        let shared = SharedHashes::new(&self.tx, &self.spent).expect("an output for each input");
        shared.spend(self.input).expect("the input is there").verify(flags)
    }

    /// What Bitcoin Core's library says.
    fn theirs(&self, flags: Flags) -> bool {
        let utxos = self.spent.iter().map(|output| Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(output.script_pubkey.len()).expect("a script is short"),
            value: i64::try_from(output.value.to_sat()).expect("an amount is small"),
        });
        let utxos: Vec<Utxo> = utxos.collect();
        let (spent, tx) = (&self.spent[self.input], consensus::serialize(&self.tx));
        let (script, amount) = (spent.script_pubkey.as_bytes(), spent.value.to_sat());
        verify_with_flags(script, amount, &tx, Some(&utxos), self.input, flags.bits()).is_ok()
    }

    /// What both say by those of the rules that the library knows, which are the rules of blocks.
    ///
    /// # Panics
    /// If the two differ, or if a policy lets something pass that the rules of blocks do not.
    pub(crate) fn agreed(&self) -> Result<(), ScriptError> {
        let flags = Flags::from_bits(self.flags.bits() & KNOWN).supported();
        let ours = self.ours(flags);
        assert_eq!(ours.is_ok(), self.theirs(flags), "ours is {ours:?}: {self:?}");
        assert!(ours.is_ok() || self.ours(self.flags).is_err(), "{self:?}");
        ours
    }
}

/// A taproot output: one leaf, or none.
struct Tree {
    leaf: [u8; 32],
    tweak: Scalar,
    output: [u8; 32],
    control: Vec<u8>,
}

impl Tree {
    fn of(owner: &SecretKey, has_leaf: bool, script: &[u8], version: u8, path: Vec<u8>) -> Self {
        let secp = Secp256k1::new();
        let internal = owner.x_only_public_key(&secp).0;
        let script = ScriptBuf::from_bytes(script.to_vec());
        let leaf = LeafVersion::from_consensus(version)
            .map_or([0; 32], |version| TapLeafHash::from_script(&script, version).to_byte_array());
        let root = path.chunks_exact(32).fold(leaf, |below, beside| {
            let beside: [u8; 32] = beside.try_into().expect("of 32 bytes");
            let nodes = [below, beside].map(bitcoin::TapNodeHash::from_byte_array);
            bitcoin::TapNodeHash::from_node_hashes(nodes[0], nodes[1]).to_byte_array()
        });
        let root = has_leaf.then(|| bitcoin::TapNodeHash::from_byte_array(root));
        let tweak = TapTweakHash::from_key_and_tweak(internal, root).to_scalar();
        let (output, parity) = internal.add_tweak(&secp, &tweak).expect("a hash is no key's negative");
        let control = [&[version | parity.to_u8()][..], &internal.serialize(), &path].concat();
        Self { leaf, tweak, output: output.serialize(), control }
    }
}

fn key_hash(owner: &SecretKey) -> [u8; 20] {
    hash160::Hash::hash(&PublicKey::from_secret_key(&signer(), owner).serialize()).to_byte_array()
}

/// What stands behind BIP 16's hash.
fn redeem(kind: Kind, script: &[u8], owner: &SecretKey) -> Vec<u8> {
    match kind {
        Kind::NestedWitnessScript | Kind::WitnessScript => {
            [&[0, 32][..], &sha256::Hash::hash(script).to_byte_array()].concat()
        }
        Kind::NestedWitnessKey | Kind::WitnessKey => [&[0, 20][..], &key_hash(owner)].concat(),
        _ => script.to_vec(),
    }
}

fn locking(bytes: &mut Bytes<'_>, kind: Kind, script: &[u8], owner: &SecretKey, tree: &Tree) -> Vec<u8> {
    let redeem = redeem(kind, script, owner);
    match kind {
        Kind::Bare | Kind::WitnessScript | Kind::WitnessKey => redeem,
        Kind::ScriptHash | Kind::NestedWitnessScript | Kind::NestedWitnessKey => {
            [&[0xa9, 20][..], &hash160::Hash::hash(&redeem).to_byte_array(), &[0x87]].concat()
        }
        Kind::TaprootKey | Kind::Tapscript => [&[0x51, 32][..], &tree.output].concat(),
        Kind::Unknown => {
            let program = bytes.some(41);
            [&[bytes.pick(&[0, 0x51, 0x52, 0x60])][..], &[program.len() as u8], &program].concat()
        }
    }
}

fn transaction(bytes: &mut Bytes<'_>) -> (Transaction, Vec<TxOut>) {
    let input = |number: u8, bytes: &mut Bytes<'_>| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([number + 1; 32]), vout: u32::from(number) },
        script_sig: ScriptBuf::new(),
        sequence: Sequence(bytes.pick(&[u32::MAX, 0, 5, 0x40_0005, 0x8000_0005, u32::MAX - 1])),
        witness: Witness::new(),
    };
    let output = |number: u8| TxOut {
        value: Amount::from_sat(u64::from(number) << number),
        script_pubkey: ScriptBuf::from_bytes(vec![number; usize::from(number)]),
    };
    let inputs = 1 + bytes.below(3);
    let tx = Transaction {
        version: Version(bytes.pick(&[2, 1, 0, -1])),
        lock_time: LockTime::from_consensus(bytes.pick(&[0, 5, 500_000_000, 500_000_005, u32::MAX])),
        input: (0..inputs).map(|number| input(number, bytes)).collect(),
        output: (0..bytes.below(4)).map(output).collect(),
    };
    (tx, (0..inputs).map(|number| output(number + 7)).collect())
}

/// The elements that the script finds: some of them good signatures.
#[expect(clippy::too_many_arguments, reason = "all that a signature signs")]
fn unlock(
    bytes: &mut Bytes<'_>,
    kind: Kind,
    owner: u8,
    tx: &Transaction,
    spent: &[TxOut],
    input: usize,
    plan: &Plan,
    tree: &Tree,
    annex: Option<&[u8]>,
) -> Vec<Vec<u8>> {
    let shared = SharedHashes::new(tx, spent).expect("an output for each input");
    let spend = shared.spend(input).expect("the input is there");
    let annex = annex.map(|annex| sha256::Hash::hash(&[&[annex.len() as u8], annex].concat()).to_byte_array());
    let code = &plan.script[plan.code_from..];
    let own = |bytes: &mut Bytes<'_>, who: u8| match kind {
        Kind::Bare | Kind::ScriptHash | Kind::Unknown => ecdsa(bytes, who, |kind| spend.legacy(code, kind.into())),
        Kind::WitnessScript | Kind::NestedWitnessScript => {
            ecdsa(bytes, who, |kind| spend.witness_v0(code, kind.into()))
        }
        Kind::WitnessKey | Kind::NestedWitnessKey => {
            let code = [&[0x76, 0xa9, 20][..], &key_hash(&secret(owner)), &[0x88, 0xac]].concat();
            ecdsa(bytes, who, |kind| spend.witness_v0(&code, kind.into()))
        }
        Kind::TaprootKey => schnorr(bytes, who, Some(tree.tweak), |kind| spend.taproot(kind, annex, None)),
        Kind::Tapscript => {
            let leaf = Leaf { hash: tree.leaf, code_separator: plan.separator };
            schnorr(bytes, who, None, |kind| spend.taproot(kind, annex, Some(leaf)))
        }
    };
    match kind {
        Kind::WitnessKey | Kind::NestedWitnessKey | Kind::TaprootKey if bytes.below(8) != 1 => {
            let who = if bytes.below(8) == 1 { bytes.byte() } else { owner };
            vec![own(bytes, who)]
        }
        _ if !plan.signers.is_empty() && bytes.below(8) != 1 => {
            let dummy = plan.dummy.then(|| if bytes.below(8) == 1 { element(bytes) } else { Vec::new() });
            let mut signature = |who: &u8| match bytes.below(16) {
                1 => element(bytes),
                2 => one_signature(*who),
                _ => own(bytes, *who),
            };
            let signatures: Vec<_> = plan.signers.iter().map(&mut signature).collect();
            dummy.into_iter().chain(signatures).collect()
        }
        _ => {
            let some = |bytes: &mut Bytes<'_>| match bytes.below(2) {
                0 => {
                    let who = bytes.byte();
                    own(bytes, who)
                }
                _ => element(bytes),
            };
            (0..bytes.below(6)).map(|_| some(bytes)).collect()
        }
    }
}

fn unlocking(
    kind: Kind,
    script: &[u8],
    owner: &SecretKey,
    tree: &Tree,
    mut elements: Vec<Vec<u8>>,
) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut script_sig = Vec::new();
    match kind {
        Kind::Bare | Kind::Unknown => {
            elements.iter().for_each(|element| push(&mut script_sig, element));
            elements.clear();
        }
        Kind::ScriptHash => {
            elements.iter().for_each(|element| push(&mut script_sig, element));
            elements.clear();
            push(&mut script_sig, script);
        }
        Kind::WitnessScript => elements.push(script.to_vec()),
        Kind::NestedWitnessScript => {
            elements.push(script.to_vec());
            push(&mut script_sig, &redeem(kind, script, owner));
        }
        Kind::WitnessKey => elements.push(PublicKey::from_secret_key(&signer(), owner).serialize().to_vec()),
        Kind::NestedWitnessKey => {
            elements.push(PublicKey::from_secret_key(&signer(), owner).serialize().to_vec());
            push(&mut script_sig, &redeem(kind, script, owner));
        }
        Kind::TaprootKey => {}
        Kind::Tapscript => elements.extend([script.to_vec(), tree.control.clone()]),
    }
    (script_sig, elements)
}
