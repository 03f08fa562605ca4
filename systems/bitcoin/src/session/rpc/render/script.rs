//! How a script looks in JSON: its opcodes by name, its template, its address, and the descriptor that it fits.

use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Network, Script};

use crate::chain::is_unspendable;
use crate::script::is_like_signature;
use crate::session::rpc::descriptor;
use crate::session::rpc::json::Json;

/// No bare multisig has more keys.
const MULTISIG_KEYS_MAX: i64 = 20;

/// One step of a script: an opcode, what it pushes, and where it ends.
struct Step<'a> {
    opcode: u8,
    push: &'a [u8],
    end: usize,
}

/// The step that begins at `at`; none if it is cut short.
fn step(script: &[u8], at: usize) -> Option<Step<'_>> {
    let opcode = *script.get(at)?;
    let mut from = at + 1;
    let mut size_bytes = |count: usize| {
        let bytes = script.get(from..from + count)?;
        from += count;
        Some(bytes.iter().rev().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)))
    };
    let size = match opcode {
        0..=0x4b => usize::from(opcode),
        0x4c => size_bytes(1)?,
        0x4d => size_bytes(2)?,
        0x4e => size_bytes(4)?,
        _ => 0,
    };
    let end = from.checked_add(size)?;
    Some(Step { opcode, push: script.get(from..end)?, end })
}

/// A script's number of up to four bytes, the lowest first, the sign in the highest bit.
fn number(bytes: &[u8]) -> i64 {
    let Some((last, rest)) = bytes.split_last() else { return 0 };
    let mut value = i64::from(last & 0x7f);
    for byte in rest.iter().rev() {
        value = (value << 8) | i64::from(*byte);
    }
    if last & 0x80 != 0 { -value } else { value }
}

/// Opcodes by their names; signatures with their hash types in words if it `unlocks` something.
pub(crate) fn asm(script: &Script, unlocks: bool) -> String {
    let bytes = script.as_bytes();
    let unspendable = is_unspendable(script);
    let (mut words, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let Some(step) = step(bytes, at) else {
            words.push("[error]".to_string());
            break;
        };
        at = step.end;
        words.push(match step.opcode {
            0..=0x4e if step.push.len() <= 4 => number(step.push).to_string(),
            0..=0x4e if unlocks && !unspendable => signature_word(step.push),
            0..=0x4e => step.push.to_lower_hex_string(),
            opcode => opcode_name(opcode),
        });
    }
    words.join(" ")
}

fn signature_word(push: &[u8]) -> String {
    let (Some((last, rest)), true) = (push.split_last(), is_like_signature(push)) else {
        return push.to_lower_hex_string();
    };
    match sighash_name(*last) {
        Some(name) => format!("{}[{name}]", rest.to_lower_hex_string()),
        None => push.to_lower_hex_string(),
    }
}

/// The word for a hash type.
pub(crate) fn sighash_name(sighash: u8) -> Option<&'static str> {
    Some(match sighash {
        0x01 => "ALL",
        0x81 => "ALL|ANYONECANPAY",
        0x02 => "NONE",
        0x82 => "NONE|ANYONECANPAY",
        0x03 => "SINGLE",
        0x83 => "SINGLE|ANYONECANPAY",
        _ => return None,
    })
}

const CONTROL: [&str; 10] = ["NOP", "VER", "IF", "NOTIF", "VERIF", "VERNOTIF", "ELSE", "ENDIF", "VERIFY", "RETURN"];
/// From 0x6b on.
const OPERATIONS: [&str; 68] = [
    "TOALTSTACK",
    "FROMALTSTACK",
    "2DROP",
    "2DUP",
    "3DUP",
    "2OVER",
    "2ROT",
    "2SWAP",
    "IFDUP",
    "DEPTH",
    "DROP",
    "DUP",
    "NIP",
    "OVER",
    "PICK",
    "ROLL",
    "ROT",
    "SWAP",
    "TUCK",
    "CAT",
    "SUBSTR",
    "LEFT",
    "RIGHT",
    "SIZE",
    "INVERT",
    "AND",
    "OR",
    "XOR",
    "EQUAL",
    "EQUALVERIFY",
    "RESERVED1",
    "RESERVED2",
    "1ADD",
    "1SUB",
    "2MUL",
    "2DIV",
    "NEGATE",
    "ABS",
    "NOT",
    "0NOTEQUAL",
    "ADD",
    "SUB",
    "MUL",
    "DIV",
    "MOD",
    "LSHIFT",
    "RSHIFT",
    "BOOLAND",
    "BOOLOR",
    "NUMEQUAL",
    "NUMEQUALVERIFY",
    "NUMNOTEQUAL",
    "LESSTHAN",
    "GREATERTHAN",
    "LESSTHANOREQUAL",
    "GREATERTHANOREQUAL",
    "MIN",
    "MAX",
    "WITHIN",
    "RIPEMD160",
    "SHA1",
    "SHA256",
    "HASH160",
    "HASH256",
    "CODESEPARATOR",
    "CHECKSIG",
    "CHECKSIGVERIFY",
    "CHECKMULTISIG",
];

fn opcode_name(opcode: u8) -> String {
    let index = usize::from(opcode);
    match opcode {
        0x4f => "-1".into(),
        0x50 => "OP_RESERVED".into(),
        0x51..=0x60 => (opcode - 0x50).to_string(),
        0x61..=0x6a => format!("OP_{}", CONTROL[index - 0x61]),
        0x6b..=0xae => format!("OP_{}", OPERATIONS[index - 0x6b]),
        0xaf => "OP_CHECKMULTISIGVERIFY".into(),
        0xb1 => "OP_CHECKLOCKTIMEVERIFY".into(),
        0xb2 => "OP_CHECKSEQUENCEVERIFY".into(),
        0xb0..=0xb9 => format!("OP_NOP{}", opcode - 0xaf),
        0xba => "OP_CHECKSIGADD".into(),
        0xff => "OP_INVALIDOPCODE".into(),
        _ => "OP_UNKNOWN".into(),
    }
}

/// Which template an output's script fits, with what it is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    Nonstandard,
    Pubkey(Vec<u8>),
    PubkeyHash([u8; 20]),
    ScriptHash([u8; 20]),
    Multisig { required: usize, keys: Vec<Vec<u8>> },
    NullData,
    Anchor,
    WitnessKeyHash([u8; 20]),
    WitnessScriptHash([u8; 32]),
    Taproot([u8; 32]),
    WitnessUnknown,
}

impl Template {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Nonstandard => "nonstandard",
            Self::Pubkey(_) => "pubkey",
            Self::PubkeyHash(_) => "pubkeyhash",
            Self::ScriptHash(_) => "scripthash",
            Self::Multisig { .. } => "multisig",
            Self::NullData => "nulldata",
            Self::Anchor => "anchor",
            Self::WitnessKeyHash(_) => "witness_v0_keyhash",
            Self::WitnessScriptHash(_) => "witness_v0_scripthash",
            Self::Taproot(_) => "witness_v1_taproot",
            Self::WitnessUnknown => "witness_unknown",
        }
    }

    pub(crate) fn of(script: &Script) -> Self {
        let bytes = script.as_bytes();
        let array = |from: usize| <[u8; 20]>::try_from(&bytes[from..from + 20]).expect("twenty bytes");
        let wide = |from: usize| <[u8; 32]>::try_from(&bytes[from..from + 32]).expect("thirty-two bytes");
        if script.is_p2sh() {
            return Self::ScriptHash(array(2));
        }
        if let Some(version) = script.witness_version() {
            return match (version.to_num(), bytes.len()) {
                (0, 22) => Self::WitnessKeyHash(array(2)),
                (0, 34) => Self::WitnessScriptHash(wide(2)),
                (1, 34) => Self::Taproot(wide(2)),
                (1, 4) if bytes[2..] == [0x4e, 0x73] => Self::Anchor,
                (0, _) => Self::Nonstandard,
                _ => Self::WitnessUnknown,
            };
        }
        if bytes.first() == Some(&0x6a) && only_pushes(&bytes[1..]) {
            return Self::NullData;
        }
        if let [35 | 67 | 33 | 65, ..] = bytes
            && bytes.len() == usize::from(bytes[0]) + 2
            && bytes.last() == Some(&0xac)
            && is_key_sized(&bytes[1..bytes.len() - 1])
        {
            return Self::Pubkey(bytes[1..bytes.len() - 1].into());
        }
        if script.is_p2pkh() {
            return Self::PubkeyHash(array(3));
        }
        multisig(bytes).unwrap_or(Self::Nonstandard)
    }
}

fn only_pushes(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        match step(bytes, at) {
            Some(step) if step.opcode <= 0x60 => at = step.end,
            _ => return false,
        }
    }
    true
}

/// As many bytes as its first says that it has.
fn is_key_sized(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(2 | 3) => bytes.len() == 33,
        Some(4 | 6 | 7) => bytes.len() == 65,
        _ => false,
    }
}

fn small_number(step: &Step<'_>) -> Option<i64> {
    match step.opcode {
        0x51..=0x60 => Some(i64::from(step.opcode - 0x50)),
        // A number above sixteen stands in one byte.
        1 if step.push[0] > 16 && step.push[0] < 0x80 => Some(i64::from(step.push[0])),
        _ => None,
    }
}

fn multisig(bytes: &[u8]) -> Option<Template> {
    if bytes.last() != Some(&0xae) {
        return None;
    }
    let first = step(bytes, 0)?;
    let required = small_number(&first).filter(|count| *count <= MULTISIG_KEYS_MAX)?;
    let (mut keys, mut at) = (Vec::new(), first.end);
    let count = loop {
        let step = step(bytes, at)?;
        at = step.end;
        if !is_key_sized(step.push) {
            break small_number(&step).filter(|count| (required..=MULTISIG_KEYS_MAX).contains(count))?;
        }
        keys.push(step.push.to_vec());
    };
    let fits = usize::try_from(count).ok() == Some(keys.len()) && at + 1 == bytes.len();
    fits.then(|| Template::Multisig { required: usize::try_from(required).unwrap_or(0), keys })
}

/// The address of an output, if it has one.
pub(crate) fn address(script: &Script, network: Network) -> Option<Address> {
    Address::from_script(script, network).ok()
}

/// An output's script.
pub(crate) fn output(script: &Script, network: Network) -> Json {
    fields(script, network, true)
}

/// The same, with or without the bytes.
pub(crate) fn fields(script: &Script, network: Network, with_hex: bool) -> Json {
    let mut json = Json::obj()
        .with("asm", asm(script, false))
        .with("desc", descriptor::infer(script, &descriptor::Known::default(), network));
    if with_hex {
        json.put("hex", script.to_hex_string());
    }
    if let Some(address) = address(script, network) {
        json.put("address", address.to_string());
    }
    json.with("type", Template::of(script).name())
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;

    use super::*;

    fn script(hex: &str) -> ScriptBuf {
        ScriptBuf::from_hex(hex).expect("hexadecimal")
    }

    #[test]
    fn opcodes_have_their_names() {
        for (hex, words) in [
            ("", ""),
            ("00", "0"),
            ("5152606a", "1 2 16 OP_RETURN"),
            ("4f", "-1"),
            ("0181", "-1"),
            ("02e803", "1000"),
            ("05e803000000", "e803000000"),
            (
                "76a914000000000000000000000000000000000000000088ac",
                "OP_DUP OP_HASH160 0000000000000000000000000000000000000000 OP_EQUALVERIFY OP_CHECKSIG",
            ),
            (
                "b0b1b2b3b9baae",
                "OP_NOP1 OP_CHECKLOCKTIMEVERIFY OP_CHECKSEQUENCEVERIFY OP_NOP4 OP_NOP10 OP_CHECKSIGADD OP_CHECKMULTISIG",
            ),
            ("bbff", "OP_UNKNOWN OP_INVALIDOPCODE"),
            ("02ff", "[error]"),
            ("4c", "[error]"),
            ("4e01000000", "[error]"),
        ] {
            assert_eq!(asm(&script(hex), false), words, "{hex}");
        }
    }

    #[test]
    fn templates_are_known() {
        let key = format!("02{}", "11".repeat(32));
        for (hex, name) in [
            (format!("21{key}ac"), "pubkey"),
            (format!("5121{key}51ae"), "multisig"),
            (format!("5221{key}51ae"), "nonstandard"),
            (format!("51{}51ae", format!("21{key}").repeat(2)), "nonstandard"),
            ("51024e73".into(), "anchor"),
            ("6a0401020304".into(), "nulldata"),
            ("6a76".into(), "nonstandard"),
            (format!("0014{}", "00".repeat(20)), "witness_v0_keyhash"),
            (format!("0020{}", "00".repeat(32)), "witness_v0_scripthash"),
            (format!("0015{}", "00".repeat(21)), "nonstandard"),
            (format!("5120{}", "00".repeat(32)), "witness_v1_taproot"),
            (format!("5220{}", "00".repeat(32)), "witness_unknown"),
            (format!("a914{}87", "00".repeat(20)), "scripthash"),
            (String::new(), "nonstandard"),
        ] {
            assert_eq!(Template::of(&script(&hex)).name(), name, "{hex}");
        }
    }

    #[test]
    fn anchors_have_an_address() {
        assert_eq!(
            address(&script("51024e73"), Network::Regtest).map(|address| address.to_string()).as_deref(),
            Some("bcrt1pfeesnyr2tx")
        );
    }
}
