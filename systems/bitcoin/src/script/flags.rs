//! Which rules hold.
//!
//! Each soft fork added one, and relaying nodes hold to some that blocks need not. The bits are those of the nodes' own
//! library, so that one number means the same to both.

use std::ops::{BitOr, BitOrAssign};

/// A set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Every flag with its name, as the nodes' vectors have it.
            pub const NAMED: &[(&str, Self)] = &[$((stringify!($name), Self::$name)),*];

            /// All rules.
            pub const ALL: Self = Self($(1 << $bit)|*);
        }
    };
}

flags! {
    /// Scripts behind a hash run (BIP 16).
    P2SH = 0;
    /// Signatures are strict DER, of a known hash type, by keys of a known form (policy).
    STRICTENC = 1;
    /// Signatures are strict DER (BIP 66).
    DERSIG = 2;
    /// A signature's S is the lower of two (BIP 62, rule 5; policy).
    LOW_S = 3;
    /// The element that `OP_CHECKMULTISIG` takes too many is empty (BIP 147).
    NULLDUMMY = 4;
    /// The input's script only pushes (BIP 62, rule 2; policy).
    SIGPUSHONLY = 5;
    /// Pushes and numbers take as few bytes as they can (BIP 62, rules 3 and 4; policy).
    MINIMALDATA = 6;
    /// `OP_NOP1` and its like are kept for later (policy).
    DISCOURAGE_UPGRADABLE_NOPS = 7;
    /// Nothing is left but what is true (BIP 62, rule 6; policy).
    CLEANSTACK = 8;
    /// `OP_CHECKLOCKTIMEVERIFY` (BIP 65).
    CHECKLOCKTIMEVERIFY = 9;
    /// `OP_CHECKSEQUENCEVERIFY` (BIP 112).
    CHECKSEQUENCEVERIFY = 10;
    /// Witnesses (BIP 141, BIP 143).
    WITNESS = 11;
    /// Witness versions without a meaning are kept for later (policy).
    DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM = 12;
    /// `OP_IF` of a witness script takes nothing or 1 (policy; in tapscript a rule).
    MINIMALIF = 13;
    /// What fails as a signature is empty (BIP 146; policy).
    NULLFAIL = 14;
    /// Keys of witness scripts are compressed (policy).
    WITNESS_PUBKEYTYPE = 15;
    /// `OP_CODESEPARATOR` and signatures in the signed script are refused outside of witnesses (policy).
    CONST_SCRIPTCODE = 16;
    /// Taproot and tapscript (BIP 341, BIP 342).
    TAPROOT = 17;
    /// Leaf versions without a meaning are kept for later (policy).
    DISCOURAGE_UPGRADABLE_TAPROOT_VERSION = 18;
    /// `OP_SUCCESSx` is kept for later (policy).
    DISCOURAGE_OP_SUCCESS = 19;
    /// Kinds of keys without a meaning are kept for later (policy).
    DISCOURAGE_UPGRADABLE_PUBKEYTYPE = 20;
}

impl Flags {
    /// No rule that ever was added.
    pub const NONE: Self = Self(0);

    /// The rules with these bits; those without a meaning are left out.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// True if one of these rules holds.
    #[must_use]
    pub const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// These rules without those.
    #[must_use]
    pub const fn without(self, those: Self) -> Self {
        Self(self.0 & !those.0)
    }

    /// These rules without the ones that rest on others which are not set: no network ever had one without the other, and
    /// the nodes refuse to think about it.
    #[must_use]
    pub const fn supported(self) -> Self {
        let mut flags = self;
        if !flags.has(Self::P2SH) {
            flags = flags.without(Self::WITNESS);
        }
        if !flags.has(Self::WITNESS) {
            flags = flags.without(Self(Self::CLEANSTACK.0 | Self::TAPROOT.0));
        }
        flags
    }

    /// The rule of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(named, _)| *named == name).map(|(_, flag)| *flag)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
