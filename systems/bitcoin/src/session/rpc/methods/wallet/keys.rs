//! Extended keys of a wallet (BIP 32): which it has, and new descriptors upon them.

use std::collections::BTreeMap;

use bitcoin::bip32::{Xpriv, Xpub};

use super::{bool_of, failed, given, here, save};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor;
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::wallet::{KINDS, Source, Wallet, standard};

/// The private key of an extended key, if any descriptor of the wallet has it at hand.
fn private_key(wallet: &Wallet, xpub: &Xpub) -> Option<Xpriv> {
    let known = wallet.sources.iter().filter_map(Source::private).flat_map(|full| full.extended_keys());
    let mut known = known.filter_map(|(own, private)| private.filter(|_| own.public_key == xpub.public_key));
    // The same key may stand under another chain code, by which it is another extended key.
    known.next().map(|private| Xpriv { chain_code: xpub.chain_code, ..private })
}

/// Which keys a wallet has, and the descriptors that take them.
pub(super) fn gethdkeys(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    #[derive(Default)]
    struct Row {
        text: String,
        private: bool,
        descriptors: Vec<(String, bool)>,
    }
    let options = args.at(0).clone();
    let (active_only, private) = (bool_of(&options, "active_only", false)?, bool_of(&options, "private", false)?);
    let here = here(call)?;
    if private {
        here.unlocked()?;
    }
    let mut keys: BTreeMap<([u8; 33], [u8; 32]), Row> = BTreeMap::new();
    let mut xprivs = BTreeMap::new();
    for source in here.wallet.sources.iter().filter(|source| source.active || !active_only) {
        for (xpub, has_private) in &source.roots {
            let key = (xpub.public_key.serialize(), xpub.chain_code.to_bytes());
            let row = keys.entry(key).or_default();
            row.text = xpub.to_string();
            row.private |= has_private;
            row.descriptors.push((source.text.clone(), source.active));
            if private && let Some(xpriv) = private_key(here.wallet, xpub) {
                xprivs.insert(key, xpriv.to_string());
            }
        }
    }
    let mut rows = Vec::new();
    for (key, mut row) in keys {
        row.descriptors.sort_unstable();
        row.descriptors.dedup();
        let shown = |(text, active): (String, bool)| Json::obj().with("desc", text).with("active", active);
        let mut json = Json::obj().with("xpub", row.text).with("has_private", row.private);
        if let Some(xpriv) = xprivs.remove(&key) {
            json.put("xprv", xpriv);
        }
        rows.push(json.with("descriptors", Json::Arr(row.descriptors.into_iter().map(shown).collect())));
    }
    Ok(Json::Arr(rows))
}

/// New descriptors for a type of addresses, upon a key that the wallet has.
pub(super) fn createwalletdescriptor(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let kind = args.text(0)?.to_owned();
    if !KINDS.contains(&kind.as_str()) {
        return Err(RpcError::key(format!("Unknown address type '{kind}'")));
    }
    let options = args.at(1).clone();
    let internals = match given(&options, "internal") {
        Some(internal) => vec![internal.bool()?],
        None => vec![false, true],
    };
    let mut here = here(call)?;
    here.unlocked()?;
    let xpub = match given(&options, "hdkey") {
        Some(text) => {
            let network = here.network();
            let xpub = text.text()?.parse::<Xpub>().ok().filter(|xpub| xpub.network == network.into());
            xpub.ok_or_else(|| RpcError::key("Unable to parse HD key. Please provide a valid xpub"))?
        }
        None => {
            let active = here.wallet.sources.iter().filter(|source| source.active);
            let mut all = active.flat_map(|source| source.roots.iter().map(|(xpub, _)| *xpub));
            let first = all.next();
            first.filter(|first| all.all(|other| other == *first)).ok_or_else(|| {
                RpcError::key(
                    "Unable to determine which HD key to use from active descriptors. Please specify with 'hdkey'",
                )
            })?
        }
    };
    let unknown = || RpcError::key(format!("Private key for {xpub} is not known"));
    let master = private_key(here.wallet, &xpub).ok_or_else(unknown)?;
    let added = add(&mut here, &master, &kind, &internals)?;
    if added.is_empty() {
        return Err(failed("Descriptor already exists"));
    }
    here.wallet.flags.blank = false;
    here.wallet.derive();
    save(call)?;
    Ok(Json::obj().with("descs", Json::arr(added)))
}

/// Adds the descriptors that the wallet does not have yet; their texts.
fn add(here: &mut super::Here<'_>, master: &Xpriv, kind: &str, internals: &[bool]) -> Result<Vec<String>, RpcError> {
    let (network, now, mut added) = (here.network(), here.node.time(), Vec::new());
    for internal in internals {
        let text = standard(master, kind, *internal, network);
        let full = descriptor::parse(&text, network, true).map_err(RpcError::key)?.remove(0);
        let mut source = Source::new(full, network, now).map_err(RpcError::key)?;
        if here.wallet.sources.iter().any(|own| own.text == source.text) {
            continue;
        }
        (source.active, source.internal) = (true, *internal);
        added.push(source.text.clone());
        here.wallet.add_source(source, here.entropy);
    }
    Ok(added)
}
