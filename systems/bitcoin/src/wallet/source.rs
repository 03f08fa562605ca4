//! Where addresses come from: a descriptor, how far it was used, and how far ahead it is watched.
//!
//! The text without private keys derives all addresses; the one with them only signs. So a locked wallet gives out addresses.
//!
//! HAZARD: a range of hardened steps cannot be derived without private keys: such a descriptor is derived from those, and a
//! locked wallet does not see further than it saw when it was unlocked.

use bitcoin::bip32::Xpub;
use bitcoin::{Network, ScriptBuf};

use crate::session::rpc::descriptor::{self, Descriptor, Known};

/// Types of addresses, as clients name them.
pub(crate) const KINDS: [&str; 4] = ["legacy", "p2sh-segwit", "bech32", "bech32m"];

/// A descriptor of a wallet.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// From its last hardened step on, without private keys, with its checksum.
    pub(crate) text: String,
    public: Descriptor,
    /// With private keys, while they are at hand.
    private: Option<Descriptor>,
    /// The text with private keys, under the master key.
    pub(crate) sealed: Option<Vec<u8>>,
    /// It may have been paid since then.
    pub(crate) timestamp: u64,
    /// What was watched first.
    pub(crate) begin: u32,
    /// One behind the last that is watched.
    pub(crate) end: u32,
    /// The next that is given out.
    pub(crate) next: u32,
    /// New addresses come from it.
    pub(crate) active: bool,
    /// It is for change.
    pub(crate) internal: bool,
    /// One behind the last whose scripts are derived.
    pub(crate) derived: u32,
    /// Its extended keys before any step, and whether their private keys are the wallet's.
    pub(crate) roots: Vec<(Xpub, bool)>,
}

impl Source {
    /// Of a descriptor, which may have private keys.
    pub(crate) fn new(full: Descriptor, network: Network, timestamp: u64) -> Result<Self, String> {
        let text = full.normal_text();
        let (public, roots) = (one(&text, network)?, roots_of(&full));
        let private = full.has_private().then_some(full);
        Ok(Self {
            text,
            public,
            private,
            sealed: None,
            timestamp,
            begin: 0,
            end: 0,
            next: 0,
            active: false,
            internal: false,
            derived: 0,
            roots,
        })
    }

    /// As it was written down: the text, and the one with private keys if it is not sealed.
    pub(crate) fn restore(text: &str, private: Option<&str>, network: Network) -> Result<Self, String> {
        let mut source = Self::new(one(text, network)?, network, 0)?;
        if let Some(text) = private {
            source.set_private(Some(one(text, network)?));
        }
        source.text = text.to_owned();
        Ok(source)
    }

    pub(crate) fn is_range(&self) -> bool {
        self.public.is_range()
    }

    pub(crate) fn is_solvable(&self) -> bool {
        self.public.is_solvable()
    }

    /// Its addresses' type.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        self.public.address_type()
    }

    /// It has private keys, at hand or sealed.
    pub(crate) fn has_private(&self) -> bool {
        self.private.is_some() || self.sealed.is_some()
    }

    pub(crate) fn private(&self) -> Option<&Descriptor> {
        self.private.as_ref()
    }

    /// Private keys come, from a text or from another descriptor.
    pub(crate) fn set_private(&mut self, private: Option<Descriptor>) {
        if let Some(full) = &private {
            self.roots = roots_of(full);
        }
        self.private = private;
    }

    /// Private keys are at hand again.
    pub(crate) fn unlock(&mut self, text: &str, network: Network) -> bool {
        self.set_private(one(text, network).ok());
        self.private.is_some()
    }

    /// Private keys are not at hand any more.
    pub(crate) fn lock(&mut self) {
        if self.sealed.is_some() {
            self.private = None;
        }
    }

    /// The scripts at this place of its range.
    pub(crate) fn expand(&self, index: u32, known: &mut Known) -> Option<Vec<ScriptBuf>> {
        self.public
            .expand(index, known)
            .or_else(|| self.private.as_ref().and_then(|private| private.expand(index, known)))
    }

    /// The same, with private keys if they are at hand.
    pub(crate) fn expand_private(&self, index: u32, known: &mut Known) -> Option<Vec<ScriptBuf>> {
        match &self.private {
            Some(private) => private.expand(index, known),
            None => self.expand(index, known),
        }
    }

    /// How many addresses are ready to be given out.
    pub(crate) fn ready(&self) -> u32 {
        if self.is_range() { self.end.saturating_sub(self.next) } else { 0 }
    }

    /// Watches so many beyond the next, and one at the least. True if that is further than before.
    pub(crate) fn reach(&mut self, ahead: u32) -> bool {
        let end =
            if self.is_range() { self.next.saturating_add(ahead.max(1)).min(i32::MAX.cast_unsigned()) } else { 1 };
        let more = end > self.end;
        self.end = self.end.max(end);
        more
    }
}

fn roots_of(full: &Descriptor) -> Vec<(Xpub, bool)> {
    full.extended_keys().into_iter().map(|(xpub, private)| (xpub, private.is_some())).collect()
}

fn one(text: &str, network: Network) -> Result<Descriptor, String> {
    descriptor::parse(text, network, true)?.pop().ok_or_else(|| "no descriptor".to_owned())
}

/// The text of the descriptor that wallets have for a type of addresses.
pub(crate) fn standard(master: &bitcoin::bip32::Xpriv, kind: &str, internal: bool, network: Network) -> String {
    let purpose = match kind {
        "legacy" => 44,
        "p2sh-segwit" => 49,
        "bech32" => 84,
        _ => 86,
    };
    let coin = u8::from(network != Network::Bitcoin);
    let key = format!("{master}/{purpose}h/{coin}h/0h/{}/*", u8::from(internal));
    let text = match kind {
        "legacy" => format!("pkh({key})"),
        "p2sh-segwit" => format!("sh(wpkh({key}))"),
        "bech32" => format!("wpkh({key})"),
        _ => format!("tr({key})"),
    };
    descriptor::with_checksum(text)
}

#[cfg(test)]
mod tests {
    use bitcoin::bip32::Xpriv;

    use super::*;
    use crate::session::rpc::render::script::address;

    fn first(kind: &str, internal: bool, index: u32) -> String {
        // The seed of "abandon ... about", which the BIPs take.
        let master = "xprv9s21ZrQH143K3GJpoapnV8SFfukcVBSfeCficPSGfubmSFDxo1kuHnLisriDvSnRRuL2Qrg5ggqHKNVpxR86QEC8w35uxmGoggxtQTPvfUu";
        let master: Xpriv = master.parse().expect("a key");
        let text = standard(&master, kind, internal, Network::Bitcoin);
        let source = Source::new(one(&text, Network::Bitcoin).expect("valid"), Network::Bitcoin, 0).expect("valid");
        assert!(!source.text.contains("xprv"));
        let script = source.expand(index, &mut Known::default()).expect("derived").remove(0);
        let signs = source.expand_private(index, &mut Known::default()).expect("derived").remove(0);
        assert_eq!(script, signs);
        address(&script, Network::Bitcoin).expect("an address").to_string()
    }

    #[test]
    fn addresses_are_those_of_the_bips() {
        assert_eq!(first("bech32", false, 0), "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
        assert_eq!(first("bech32", false, 1), "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g");
        assert_eq!(first("bech32", true, 0), "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el");
        assert_eq!(first("bech32m", false, 0), "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr");
        assert_eq!(first("bech32m", false, 1), "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh");
        assert_eq!(first("bech32m", true, 0), "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7");
        assert_eq!(first("legacy", false, 0), "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA");
        assert_eq!(first("p2sh-segwit", false, 0), "37VucYSaXLCAsxYyAPfbSi9eh4iEcbShgf");
    }
}
