//! Scripts and flags as the nodes' vectors write them.
//!
//! Words of a script, apart by blanks: a decimal number is pushed, `0x..` stands as these bytes, `'..'` is pushed as text,
//! and opcodes have their names, with or without `OP_`.

use bitcoin::hex::FromHex;
use bitcoin::opcodes::Opcode;
use bitcoin::script::{Builder, PushBytesBuf, ScriptBuf};
use verity_bitcoin::script::Flags;

/// Opcodes from `OP_NOP` (0x61) on.
const NAMES: &str = "NOP VER IF NOTIF VERIF VERNOTIF ELSE ENDIF VERIFY RETURN TOALTSTACK FROMALTSTACK 2DROP 2DUP 3DUP 2OVER \
    2ROT 2SWAP IFDUP DEPTH DROP DUP NIP OVER PICK ROLL ROT SWAP TUCK CAT SUBSTR LEFT RIGHT SIZE INVERT AND OR XOR EQUAL \
    EQUALVERIFY RESERVED1 RESERVED2 1ADD 1SUB 2MUL 2DIV NEGATE ABS NOT 0NOTEQUAL ADD SUB MUL DIV MOD LSHIFT RSHIFT BOOLAND \
    BOOLOR NUMEQUAL NUMEQUALVERIFY NUMNOTEQUAL LESSTHAN GREATERTHAN LESSTHANOREQUAL GREATERTHANOREQUAL MIN MAX WITHIN \
    RIPEMD160 SHA1 SHA256 HASH160 HASH256 CODESEPARATOR CHECKSIG CHECKSIGVERIFY CHECKMULTISIG CHECKMULTISIGVERIFY NOP1 \
    CHECKLOCKTIMEVERIFY CHECKSEQUENCEVERIFY NOP4 NOP5 NOP6 NOP7 NOP8 NOP9 NOP10 CHECKSIGADD";

fn opcode(name: &str) -> Option<u8> {
    let name = name.strip_prefix("OP_").unwrap_or(name);
    if name == "RESERVED" {
        return Some(0x50);
    }
    let place = NAMES.split_whitespace().position(|known| known == name)?;
    u8::try_from(0x61 + place).ok()
}

fn pushed(bytes: &[u8]) -> Vec<u8> {
    let bytes = PushBytesBuf::try_from(bytes.to_vec()).expect("a vector's push is short");
    Builder::new().push_slice(bytes).into_bytes()
}

/// A script of its words.
pub(crate) fn script(text: &str) -> ScriptBuf {
    let bytes = text.split_whitespace().flat_map(|word| {
        if let Ok(number) = word.parse::<i64>() {
            Builder::new().push_int(number).into_bytes()
        } else if let Some(raw) = word.strip_prefix("0x") {
            bytes(raw)
        } else if let Some(quoted) = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
            pushed(quoted.as_bytes())
        } else {
            let byte = opcode(word).unwrap_or_else(|| panic!("{word} is no opcode"));
            vec![Opcode::from(byte).to_u8()]
        }
    });
    ScriptBuf::from_bytes(bytes.collect())
}

/// Bytes of their hexadecimal digits.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    Vec::from_hex(hex).unwrap_or_else(|error| panic!("{hex}: {error}"))
}

/// A set of flags of their names, apart by commas.
pub(crate) fn flags(text: &str) -> Flags {
    let names = text.split(',').filter(|name| !name.is_empty() && *name != "NONE");
    names.fold(Flags::NONE, |flags, name| flags | Flags::named(name).unwrap_or_else(|| panic!("{name} is no flag")))
}
