//! Opcodes, and how a script is read.
//!
//! - 0x01 to 0x4b push as many bytes; `OP_PUSHDATA1`, `2` and `4` say how many in one, two or four bytes, the lowest first.
//! - Everything else is one byte.
//! - A push that reaches beyond the script's end cannot be read; a script may well end before it, in an error or in a
//!   signature that leaves it out, so that reading goes on step by step.
//!
//! Deliberately absent: what they do ([`machine`](super::machine)), and their names as text.

/// One byte each, as the network numbers them.
macro_rules! opcodes {
    ($($name:ident = $byte:literal,)*) => { $(pub(crate) const $name: u8 = $byte;)* };
}

opcodes! {
    PUSHDATA1 = 0x4c, PUSHDATA2 = 0x4d, PUSHDATA4 = 0x4e, NEGATIVE_1 = 0x4f, NUMBER_1 = 0x51, NUMBER_16 = 0x60,
    NOP = 0x61, IF = 0x63, NOTIF = 0x64, ELSE = 0x67, ENDIF = 0x68, VERIFY = 0x69, RETURN = 0x6a,
    TOALTSTACK = 0x6b, FROMALTSTACK = 0x6c, DROP_2 = 0x6d, DUP_2 = 0x6e, DUP_3 = 0x6f, OVER_2 = 0x70, ROT_2 = 0x71,
    SWAP_2 = 0x72, IFDUP = 0x73, DEPTH = 0x74, DROP = 0x75, DUP = 0x76, NIP = 0x77, OVER = 0x78, PICK = 0x79, ROLL = 0x7a,
    ROT = 0x7b, SWAP = 0x7c, TUCK = 0x7d, CAT = 0x7e, RIGHT = 0x81, SIZE = 0x82, INVERT = 0x83, XOR = 0x86,
    EQUAL = 0x87, EQUALVERIFY = 0x88, ADD_1 = 0x8b, SUB_1 = 0x8c, MUL_2 = 0x8d, DIV_2 = 0x8e, NEGATE = 0x8f, ABS = 0x90,
    NOT = 0x91, NOT_EQUAL_0 = 0x92, ADD = 0x93, SUB = 0x94, MUL = 0x95, RSHIFT = 0x99, BOOLAND = 0x9a, BOOLOR = 0x9b,
    NUMEQUAL = 0x9c, NUMEQUALVERIFY = 0x9d, NUMNOTEQUAL = 0x9e, LESSTHAN = 0x9f, GREATERTHAN = 0xa0,
    LESSTHANOREQUAL = 0xa1, GREATERTHANOREQUAL = 0xa2, MIN = 0xa3, MAX = 0xa4, WITHIN = 0xa5,
    RIPEMD160 = 0xa6, SHA1 = 0xa7, SHA256 = 0xa8, HASH160 = 0xa9, HASH256 = 0xaa, CODESEPARATOR = 0xab,
    CHECKSIG = 0xac, CHECKSIGVERIFY = 0xad, CHECKMULTISIG = 0xae, CHECKMULTISIGVERIFY = 0xaf,
    NOP_1 = 0xb0, CHECKLOCKTIMEVERIFY = 0xb1, CHECKSEQUENCEVERIFY = 0xb2, NOP_4 = 0xb3, NOP_10 = 0xb9, CHECKSIGADD = 0xba,
}

/// What one step of reading gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction<'a> {
    pub(crate) opcode: u8,
    /// What is pushed, where the opcode carries it.
    pub(crate) push: &'a [u8],
}

/// The push reaches beyond the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutShort;

/// A place in a script.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    script: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(script: &'a [u8]) -> Self {
        Self { script, at: 0 }
    }

    /// How many bytes were read. Behind a push that is cut short, its opcode and what there is of its length count.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Goes on from here.
    pub(crate) fn skip_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The next instruction, or nothing at the end.
    pub(crate) fn step(&mut self) -> Option<Result<Instruction<'a>, CutShort>> {
        let opcode = *self.script.get(self.at)?;
        self.at += 1;
        Some(self.push_of(opcode).map(|push| Instruction { opcode, push }).ok_or(CutShort))
    }

    fn push_of(&mut self, opcode: u8) -> Option<&'a [u8]> {
        let length = match opcode {
            PUSHDATA1 => self.length(1)?,
            PUSHDATA2 => self.length(2)?,
            PUSHDATA4 => self.length(4)?,
            0..PUSHDATA1 => usize::from(opcode),
            _ => 0,
        };
        self.take(length)
    }

    /// A length of so many bytes. On a machine whose addresses are shorter, one beyond them is cut short as well.
    fn length(&mut self, bytes: usize) -> Option<usize> {
        let low_first = self.take(bytes)?;
        let length = low_first.iter().rev().fold(0u64, |high, low| (high << 8) | u64::from(*low));
        usize::try_from(length).ok()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.script.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }
}

/// True if this does nothing but push. `OP_RESERVED` counts, though it cannot run.
pub(crate) fn is_push_only(script: &[u8]) -> bool {
    let mut reader = Reader::new(script);
    std::iter::from_fn(|| reader.step()).all(|step| step.is_ok_and(|instruction| instruction.opcode <= NUMBER_16))
}

/// True if there is no shorter way to push these bytes than by this opcode.
pub(crate) fn is_minimal_push(opcode: u8, push: &[u8]) -> bool {
    match push {
        // There are opcodes for these numbers.
        [1..=16 | 0x81] => false,
        _ => push_of(push).first() == Some(&opcode),
    }
}

/// The push of these bytes, by the length that fits; the opcodes that stand for numbers are not used.
pub(crate) fn push_of(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u64;
    let mut script = match bytes.len() {
        0..=0x4b => vec![length as u8],
        0x4c..=0xff => vec![PUSHDATA1, length as u8],
        0x100..=0xffff => vec![PUSHDATA2, length as u8, (length >> 8) as u8],
        _ => [&[PUSHDATA4], &length.to_le_bytes()[..4]].concat(),
    };
    script.extend_from_slice(bytes);
    script
}

/// `HASH160 <20 bytes> EQUAL` in exactly these bytes (BIP 16).
pub(crate) fn is_pay_to_script_hash(script: &[u8]) -> bool {
    matches!(script, [HASH160, 20, hash @ .., EQUAL] if hash.len() == 20)
}

/// A version and a program of 2 to 40 bytes, pushed in the only way (BIP 141).
pub(crate) fn witness_program(script: &[u8]) -> Option<(u8, &[u8])> {
    let [version, length @ 2..=40, program @ ..] = script else { return None };
    let version = match version {
        0 => 0,
        NUMBER_1..=NUMBER_16 => version - NUMBER_1 + 1,
        _ => return None,
    };
    (program.len() == usize::from(*length)).then_some((version, program))
}

/// Opcodes that end a tapscript with success (BIP 342).
pub(crate) fn is_success(opcode: u8) -> bool {
    matches!(opcode, 80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 187..=254)
}

/// Opcodes that were taken away in 2010: not even unexecuted may they stand in a script before tapscript.
pub(crate) fn is_disabled(opcode: u8) -> bool {
    matches!(opcode, CAT..=RIGHT | INVERT..=XOR | MUL_2 | DIV_2 | MUL..=RSHIFT)
}

/// Takes every occurrence of `needle` out, where it begins at an instruction. Nothing if there is none.
pub(crate) fn find_and_delete(script: &[u8], needle: &[u8]) -> Option<Vec<u8>> {
    if needle.is_empty() || needle.len() > script.len() {
        return None;
    }
    let (mut reader, mut kept, mut from, mut found) = (Reader::new(script), Vec::new(), 0, false);
    loop {
        // Up to here, instructions stay.
        kept.extend_from_slice(&script[from..reader.at()]);
        while script[reader.at()..].starts_with(needle) {
            reader.skip_to(reader.at() + needle.len());
            found = true;
        }
        from = reader.at();
        if !matches!(reader.step(), Some(Ok(_))) {
            break;
        }
    }
    kept.extend_from_slice(&script[from..]);
    found.then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_read() {
        for length in [0, 1, 75, 76, 255, 256, 65_535, 65_536] {
            let bytes = vec![7; length];
            let script = push_of(&bytes);
            let mut reader = Reader::new(&script);
            let read = reader.step().expect("there is one").expect("it is whole");
            assert_eq!(read.push, bytes);
            assert_eq!(reader.step(), None);
            let (length, opcode) = (script.len() - 1, script[0]);
            assert!(length == 1 || is_minimal_push(opcode, &bytes));
            if !bytes.is_empty() {
                assert_eq!(Reader::new(&script[..length]).step(), Some(Err(CutShort)));
            }
        }
    }

    #[test]
    fn numbers_have_opcodes_of_their_own() {
        assert!(!is_minimal_push(1, &[16]) && !is_minimal_push(1, &[0x81]) && is_minimal_push(1, &[17]));
        assert!(is_minimal_push(0, &[]) && !is_minimal_push(PUSHDATA1, &[]) && !is_minimal_push(PUSHDATA2, &[9; 200]));
    }

    #[test]
    fn deletion_keeps_to_instructions() {
        // A push of two bytes that look like the needle stays; the needle behind it goes, twice.
        assert_eq!(find_and_delete(&[2, 0xab, 0xab, 0xab, 0xab, 0x51], &[0xab]), Some(vec![2, 0xab, 0xab, 0x51]));
        assert_eq!(find_and_delete(&[1, 0xab], &[0xab]), None);
        // What cannot be read stays whole.
        assert_eq!(find_and_delete(&[0xab, 5, 0xab], &[0xab]), Some(vec![5, 0xab]));
        // A deletion may join what was apart, which is not looked at again.
        assert_eq!(find_and_delete(&[0x51, 0x51, 0x52, 0x52], &[0x51, 0x52]), Some(vec![0x51, 0x52]));
        assert_eq!(find_and_delete(&[0x51], &[]), None);
    }

    #[test]
    fn programs_have_one_form() {
        assert_eq!(witness_program(&[0x51, 2, 0x4e, 0x73]), Some((1, &[0x4e, 0x73][..])));
        assert_eq!(witness_program(&[0x60, 2, 0, 0]), Some((16, &[0, 0][..])));
        for script in [&[0x51, 1, 0][..], &[0x51, 2, 0], &[0x51, 2, 0, 0, 0], &[0x4f, 2, 0, 0], &[0x50, 2, 0, 0]] {
            assert_eq!(witness_program(script), None, "{script:?}");
        }
        assert_eq!(witness_program(&[&[0, 41][..], &[0; 41]].concat()), None);
    }
}
