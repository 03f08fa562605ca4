//! A key as a descriptor writes it (BIP 380): in hexadecimal, in WIF, or extended, with where it comes from and where it goes.

use std::sync::OnceLock;

use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv, Xpub};
use bitcoin::hashes::Hash;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::{All, Secp256k1, XOnlyPublicKey};
use bitcoin::{NetworkKind, PrivateKey, PublicKey};

/// Where a key stands: what it may look like depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    Top,
    P2sh,
    P2wpkh,
    P2wsh,
    P2tr,
}

/// How much of a key a text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As it was given, without what is private.
    Public,
    /// With what is private.
    Private,
    /// From its last hardened step on, without what is private.
    Normal,
}

/// Tables for signing and for checking.
pub(crate) fn secp() -> &'static Secp256k1<All> {
    static SECP: OnceLock<Secp256k1<All>> = OnceLock::new();
    SECP.get_or_init(Secp256k1::new)
}

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) path: Vec<ChildNumber>,
}

impl Origin {
    fn text(&self, apostrophe: bool) -> String {
        format!("[{}{}]", self.fingerprint, path_text(&self.path, apostrophe))
    }
}

/// `/0/1h`.
pub(crate) fn path_text(path: &[ChildNumber], apostrophe: bool) -> String {
    let mark = if apostrophe { '\'' } else { 'h' };
    let step = |child: &ChildNumber| match child {
        ChildNumber::Normal { index } => format!("/{index}"),
        ChildNumber::Hardened { index } => format!("/{index}{mark}"),
    };
    path.iter().map(step).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    No,
    Normal,
    Hardened,
}

#[derive(Clone, Debug)]
enum Kind {
    Single { key: PublicKey, xonly: bool },
    Extended { xpub: Xpub, xpriv: Option<Xpriv>, path: Vec<ChildNumber>, range: Range },
}

/// A key of a descriptor.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    origin: Option<Origin>,
    kind: Kind,
    apostrophe: bool,
    /// The private key, if the descriptor has it.
    private: Option<PrivateKey>,
}

/// A key at one place of a range.
#[derive(Clone, Debug)]
pub(crate) struct Derived {
    pub(crate) key: PublicKey,
    pub(crate) origin: Origin,
    pub(crate) private: Option<PrivateKey>,
}

impl Key {
    pub(super) fn parse(text: &str, context: Context, kind: NetworkKind) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(']').collect();
        let mut apostrophe = false;
        let [first, inner] = parts[..] else {
            return match parts[..] {
                [inner] => Self::parse_inner(inner, context, kind, None, apostrophe),
                _ => Err("Multiple ']' characters found for a single pubkey".into()),
            };
        };
        let Some(origin) = first.strip_prefix('[') else {
            let got = first.chars().next().unwrap_or(']');
            return Err(format!("Key origin start '[ character expected but not found, got '{got}' instead"));
        };
        let mut steps = origin.split('/');
        let hex = steps.next().unwrap_or("");
        if hex.len() != 8 {
            let length = hex.len();
            return Err(format!("Fingerprint is not 4 bytes ({length} characters instead of 8 characters)"));
        }
        let bytes = <[u8; 4]>::from_hex(hex).map_err(|_| format!("Fingerprint '{hex}' is not hex"))?;
        let path = parse_path(steps, &mut apostrophe)?;
        let origin = Origin { fingerprint: Fingerprint::from(bytes), path };
        Self::parse_inner(inner, context, kind, Some(origin), apostrophe)
    }

    fn parse_inner(
        text: &str,
        context: Context,
        network: NetworkKind,
        origin: Option<Origin>,
        mut apostrophe: bool,
    ) -> Result<Self, String> {
        let mut steps: Vec<&str> = text.split('/').collect();
        let name = steps.remove(0);
        if name.is_empty() {
            return Err("No key provided".into());
        }
        if name.starts_with(|char: char| char.is_ascii_whitespace())
            || name.ends_with(|char: char| char.is_ascii_whitespace())
        {
            return Err(format!("Key '{name}' is invalid due to whitespace"));
        }
        if steps.is_empty()
            && let Some(single) = single(name, context, network)
        {
            let (key, xonly, private) = single?;
            return Ok(Self { origin, kind: Kind::Single { key, xonly }, apostrophe, private });
        }
        let xpriv = name.parse::<Xpriv>().ok().filter(|key| key.network == network);
        let xpub = match &xpriv {
            Some(key) => Some(Xpub::from_priv(secp(), key)),
            None => name.parse::<Xpub>().ok().filter(|key| key.network == network),
        };
        let Some(xpub) = xpub else { return Err(format!("key '{name}' is not valid")) };
        let range = match steps.last() {
            Some(&"*") => Range::Normal,
            Some(&("*'" | "*h")) => Range::Hardened,
            _ => Range::No,
        };
        if range != Range::No {
            let last = steps.pop().unwrap_or("");
            if range == Range::Hardened {
                apostrophe = last.ends_with('\'');
            }
        }
        let path = parse_path(steps.into_iter(), &mut apostrophe)?;
        let private = xpriv.map(|key| PrivateKey::new(key.private_key, network));
        Ok(Self { origin, kind: Kind::Extended { xpub, xpriv, path, range }, apostrophe, private })
    }

    pub(super) fn is_range(&self) -> bool {
        matches!(self.kind, Kind::Extended { range: Range::Normal | Range::Hardened, .. })
    }

    pub(super) fn has_private(&self) -> bool {
        self.private.is_some()
    }

    /// Bytes of the key in a script.
    pub(super) fn size(&self) -> usize {
        match &self.kind {
            Kind::Single { key, .. } if !key.compressed => 65,
            _ => 33,
        }
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.size() == 33
    }

    pub(super) fn extended(&self) -> Option<(Xpub, Option<Xpriv>)> {
        match &self.kind {
            Kind::Extended { xpub, xpriv, .. } => Some((*xpub, *xpriv)),
            Kind::Single { .. } => None,
        }
    }

    /// As a descriptor writes it.
    pub(super) fn text(&self, shape: Shape) -> String {
        let origin = |apostrophe| self.origin.as_ref().map_or(String::new(), |origin| origin.text(apostrophe));
        match &self.kind {
            Kind::Single { key, xonly } => {
                let private = self.private.filter(|_| shape == Shape::Private);
                let text = private.map_or_else(|| key_text(key, *xonly), |key| key.to_wif());
                format!("{}{text}", origin(self.apostrophe))
            }
            Kind::Extended { xpub, xpriv, path, range } => {
                if shape == Shape::Normal
                    && let Some(text) = self.normal_text(xpriv.as_ref(), path, *range)
                {
                    return text;
                }
                let key =
                    xpriv.filter(|_| shape == Shape::Private).map_or_else(|| xpub.to_string(), |key| key.to_string());
                let steps = path_text(path, self.apostrophe);
                format!("{}{key}{steps}{}", origin(self.apostrophe), range_text(*range, self.apostrophe))
            }
        }
    }

    /// From the last hardened step on; none if there is none before the range.
    fn normal_text(&self, xpriv: Option<&Xpriv>, path: &[ChildNumber], range: Range) -> Option<String> {
        let last = path.iter().rposition(|step| step.is_hardened())?;
        if range == Range::Hardened {
            return None;
        }
        let (hardened, rest) = path.split_at(last + 1);
        let xpriv = xpriv?;
        let child = xpriv.derive_priv(secp(), &DerivationPath::from(hardened.to_vec())).ok()?;
        let origin = match &self.origin {
            Some(origin) => {
                let path = origin.path.iter().chain(hardened).copied().collect();
                Origin { fingerprint: origin.fingerprint, path }
            }
            None => Origin { fingerprint: xpriv.fingerprint(secp()), path: hardened.to_vec() },
        };
        let xpub = Xpub::from_priv(secp(), &child);
        Some(format!("{}{xpub}{}{}", origin.text(false), path_text(rest, false), range_text(range, false)))
    }

    /// The key at this place of its range; none if that takes a private key that is not there.
    pub(super) fn derive(&self, index: u32) -> Option<Derived> {
        let mut derived = match &self.kind {
            Kind::Single { key, .. } => {
                let id = key.pubkey_hash().to_byte_array();
                let fingerprint = Fingerprint::from([id[0], id[1], id[2], id[3]]);
                Derived { key: *key, origin: Origin { fingerprint, path: Vec::new() }, private: self.private }
            }
            Kind::Extended { xpub, xpriv, path, range } => {
                let mut steps = path.clone();
                match range {
                    Range::No => {}
                    Range::Normal => steps.push(ChildNumber::from_normal_idx(index).ok()?),
                    Range::Hardened => steps.push(ChildNumber::from_hardened_idx(index).ok()?),
                }
                let whole = DerivationPath::from(steps.clone());
                let (key, private) = match xpriv {
                    Some(xpriv) => {
                        let child = xpriv.derive_priv(secp(), &whole).ok()?;
                        let private = PrivateKey::new(child.private_key, child.network);
                        (private.public_key(secp()), Some(private))
                    }
                    None => (PublicKey::new(xpub.derive_pub(secp(), &whole).ok()?.public_key), None),
                };
                Derived { key, origin: Origin { fingerprint: xpub.fingerprint(), path: steps }, private }
            }
        };
        if let Some(origin) = &self.origin {
            let path = origin.path.iter().chain(&derived.origin.path).copied().collect();
            derived.origin = Origin { fingerprint: origin.fingerprint, path };
        }
        Some(derived)
    }
}

fn range_text(range: Range, apostrophe: bool) -> &'static str {
    match (range, apostrophe) {
        (Range::No, _) => "",
        (Range::Normal, _) => "/*",
        (Range::Hardened, true) => "/*'",
        (Range::Hardened, false) => "/*h",
    }
}

fn key_text(key: &PublicKey, xonly: bool) -> String {
    let hex = key.to_bytes().to_lower_hex_string();
    if xonly { hex[2..].into() } else { hex }
}

/// A key with where it comes from, if that is known.
pub(super) fn origin_text(key: &PublicKey, origin: Option<&Origin>, xonly: bool) -> String {
    let origin = origin.map_or(String::new(), |origin| origin.text(false));
    format!("{origin}{}", key_text(key, xonly))
}

type Single = Result<(PublicKey, bool, Option<PrivateKey>), String>;

/// A key that has no children; none if it is something else.
fn single(name: &str, context: Context, network: NetworkKind) -> Option<Single> {
    let uncompressed_allowed = matches!(context, Context::Top | Context::P2sh);
    let refused = || Some(Err("Uncompressed keys are not allowed".into()));
    if let Ok(bytes) = Vec::<u8>::from_hex(name) {
        if matches!((bytes.first(), bytes.len()), (Some(6 | 7), 65)) {
            return Some(Err("Hybrid public keys are not allowed".into()));
        }
        if let Ok(key) = PublicKey::from_slice(&bytes) {
            return if key.compressed || uncompressed_allowed { Some(Ok((key, false, None))) } else { refused() };
        }
        let xonly = XOnlyPublicKey::from_slice(&bytes).ok().filter(|_| context == Context::P2tr);
        let even = |key: XOnlyPublicKey| PublicKey::new(key.public_key(bitcoin::secp256k1::Parity::Even));
        return Some(match xonly {
            Some(key) => Ok((even(key), true, None)),
            None => Err(format!("Pubkey '{name}' is invalid")),
        });
    }
    let private = private_key(name, network)?;
    if !private.compressed && !uncompressed_allowed {
        return refused();
    }
    Some(Ok((private.public_key(secp()), context == Context::P2tr, Some(private))))
}

/// A private key of this kind of network, as its owner writes it down (WIF).
pub(crate) fn private_key(text: &str, network: NetworkKind) -> Option<PrivateKey> {
    let key = PrivateKey::from_wif(text).ok().filter(|key| key.network == network)?;
    // The library takes any byte for the mark of a compressed key, and the network's nodes take 1 alone.
    (key.to_wif() == text).then_some(key)
}

fn parse_path<'a>(steps: impl Iterator<Item = &'a str>, apostrophe: &mut bool) -> Result<Vec<ChildNumber>, String> {
    steps.map(|step| parse_step(step, apostrophe)).collect()
}

fn parse_step(step: &str, apostrophe: &mut bool) -> Result<ChildNumber, String> {
    let (digits, hardened) = match step.strip_suffix(['\'', 'h']) {
        Some(digits) => {
            *apostrophe = step.ends_with('\'');
            (digits, true)
        }
        None => (step, false),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let index = digits.parse::<u32>().ok().filter(|_| plain);
    let index = index.ok_or_else(|| format!("Key path value '{digits}' is not a valid uint32"))?;
    let child = if hardened { ChildNumber::from_hardened_idx(index) } else { ChildNumber::from_normal_idx(index) };
    child.map_err(|_| format!("Key path value {index} is out of range"))
}
