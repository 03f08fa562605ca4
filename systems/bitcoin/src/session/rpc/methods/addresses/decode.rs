//! What is wrong with a text that should be an address, and where.
//!
//! A bech32 checksum tells which of up to two characters were mistyped (BIP 173), and never what they should be: whoever has the
//! address should look at it again.

use std::collections::BTreeMap;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network, base58};

/// No bech32 address is longer.
const BECH32_CHARS_MAX: usize = 90;
const CHECKSUM_CHARS: usize = 6;
const CHARSET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const BASE58_BYTES_MAX: usize = 100;
/// What a checksum comes to (BIP 173, BIP 350).
const BECH32: u32 = 1;
const BECH32M: u32 = 0x2bc8_30a3;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) words: String,
    /// Which characters, from 0.
    pub(crate) places: Vec<usize>,
}

fn wrong(words: impl Into<String>) -> Wrong {
    Wrong { words: words.into(), places: Vec::new() }
}

fn prefixes(network: Network) -> (&'static str, [u8; 2]) {
    match network {
        Network::Bitcoin => ("bc", [0, 5]),
        Network::Regtest => ("bcrt", [111, 196]),
        _ => ("tb", [111, 196]),
    }
}

/// The address.
pub(crate) fn decode(text: &str, network: Network) -> Result<Address, Wrong> {
    let (hrp, versions) = prefixes(network);
    let bech32 = text.get(..hrp.len()).is_some_and(|head| head.eq_ignore_ascii_case(hrp));
    let parsed = text.parse::<Address<NetworkUnchecked>>().ok();
    if let Some(address) = parsed.and_then(|address| address.require_network(network).ok()) {
        return Ok(address);
    }
    Err(if bech32 { why_not_bech32(text, hrp) } else { why_not_base58(text, versions) })
}

fn why_not_base58(text: &str, versions: [u8; 2]) -> Wrong {
    let Ok(bytes) = base58::decode(text) else {
        return wrong("Invalid or unsupported Segwit (Bech32) or Base58 encoding.");
    };
    if bytes.len() > BASE58_BYTES_MAX {
        return wrong("Invalid or unsupported Segwit (Bech32) or Base58 encoding.");
    }
    match base58::decode_check(text) {
        Ok(data) if data.len() <= 21 => match data.first() {
            Some(version) if versions.contains(version) => wrong("Invalid length for Base58 address (P2PKH or P2SH)"),
            _ => wrong("Invalid or unsupported Base58-encoded address."),
        },
        _ => wrong("Invalid checksum or length of Base58 address (P2PKH or P2SH)"),
    }
}

/// What the checksum of a bech32 text comes to: 1 for BIP 173, another constant for BIP 350.
fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum, value| {
        let top = sum >> 25;
        let next = ((sum & 0x01ff_ffff) << 5) ^ u32::from(value);
        (0..5).filter(|bit| (top >> bit) & 1 == 1).fold(next, |next, bit| next ^ GENERATOR[bit])
    })
}

fn why_not_bech32(text: &str, hrp: &str) -> Wrong {
    let chars = text.len();
    if chars > BECH32_CHARS_MAX {
        return Wrong { words: "Bech32 string too long".into(), places: (BECH32_CHARS_MAX..chars).collect() };
    }
    let (mut places, mut lower, mut upper) = (Vec::new(), false, false);
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' if upper => places.push(place),
            b'a'..=b'z' => lower = true,
            b'A'..=b'Z' if lower => places.push(place),
            b'A'..=b'Z' => upper = true,
            33..=126 => {}
            _ => places.push(place),
        }
    }
    if !places.is_empty() {
        return Wrong { words: "Invalid character or mixed case".into(), places };
    }
    let Some(at) = text.rfind('1') else { return wrong("Missing separator") };
    if at == 0 || at + CHECKSUM_CHARS >= chars {
        return Wrong { words: "Invalid separator position".into(), places: vec![at] };
    }
    let lower = text.to_ascii_lowercase();
    let mut data = Vec::new();
    for (place, char) in lower.char_indices().skip(at + 1) {
        match CHARSET.find(char).and_then(|value| u8::try_from(value).ok()) {
            Some(value) => data.push(value),
            None => return Wrong { words: "Invalid Base 32 character".into(), places: vec![place] },
        }
    }
    let head = &lower[..at];
    let expanded: Vec<u8> =
        head.bytes().map(|byte| byte >> 5).chain([0]).chain(head.bytes().map(|byte| byte & 31)).collect();
    let sum = polymod(expanded.into_iter().chain(data.iter().copied()));
    if sum != BECH32 && sum != BECH32M {
        return why_not_checksum(sum, data.len(), at + 1);
    }
    let encoded_m = sum == BECH32M;
    data.truncate(data.len() - CHECKSUM_CHARS);
    why_not_program(&data, encoded_m, head, hrp)
}

/// Which of `count` characters, the first of which stands at `from`, are wrong, by what the checksum comes to.
fn why_not_checksum(sum: u32, count: usize, from: usize) -> Wrong {
    let (mut words, mut places) = ("Invalid checksum", Vec::new());
    for (constant, told) in [(BECH32, "Invalid Bech32 checksum"), (BECH32M, "Invalid Bech32m checksum")] {
        let found = mistyped(sum ^ constant, count);
        if places.is_empty() || (!found.is_empty() && found.len() < places.len()) {
            places = found;
            if !places.is_empty() {
                words = told;
            }
        }
    }
    Wrong { words: words.into(), places: places.into_iter().map(|place| place + from).collect() }
}

/// The one or two places where other characters would make up for this difference; nothing if there are none.
fn mistyped(difference: u32, count: usize) -> Vec<usize> {
    // What one wrong character at each place comes to: checksums are linear, so two of them come to the sum of both.
    let effect = |place: usize, value: u8| {
        let difference = (0..count).map(|at| if at == place { value } else { 0 });
        let (own, none) = (polymod(difference), polymod(std::iter::repeat_n(0, count)));
        own ^ none
    };
    let mut effects: BTreeMap<u32, usize> = BTreeMap::new();
    for place in 0..count {
        for value in 1..32 {
            effects.insert(effect(place, value), place);
        }
    }
    if let Some(place) = effects.get(&difference) {
        return vec![*place];
    }
    let pair = effects.iter().find_map(|(own, first)| {
        let second = effects.get(&(own ^ difference)).filter(|second| *second != first)?;
        Some(vec![*first.min(second), *first.max(second)])
    });
    pair.unwrap_or_default()
}

fn why_not_program(data: &[u8], encoded_m: bool, head: &str, hrp: &str) -> Wrong {
    let Some((version, data)) = data.split_first() else { return wrong("Empty Bech32 data section") };
    if head != hrp {
        return wrong(format!(
            "Invalid or unsupported prefix for Segwit (Bech32) address (expected {hrp}, got {head})."
        ));
    }
    if *version == 0 && encoded_m {
        return wrong("Version 0 witness address must use Bech32 checksum");
    }
    if *version != 0 && !encoded_m {
        return wrong("Version 1+ witness address must use Bech32m checksum");
    }
    let padding = data.len() * 5 % 8;
    let last = data.last().copied().unwrap_or(0);
    if padding >= 5 || last & ((1 << padding) - 1) != 0 {
        return wrong("Invalid padding in Bech32 data section");
    }
    let size = data.len() * 5 / 8;
    let unit = if size == 1 { "byte" } else { "bytes" };
    match version {
        0 => wrong(format!("Invalid Bech32 v0 address program size ({size} {unit}), per BIP141")),
        17.. => wrong("Invalid Bech32 address witness version"),
        _ => wrong(format!("Invalid Bech32 address program size ({size} {unit})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("asfah14i8fajz0123f", "Invalid or unsupported Segwit (Bech32) or Base58 encoding."),
            (
                "2VKf7XKMrp4bVNVmuRbyCewkP8FhGLP2E54LHDPakr9Sq5mtU2",
                "Invalid checksum or length of Base58 address (P2PKH or P2SH)",
            ),
            ("17VZNX1SN5NtKa8UQFxwQbFeFc3iqRYhem", "Invalid or unsupported Base58-encoded address."),
            ("bcrt1q049edschfnwystcqnsvyfpj23mpsg3jcedq9xv", "Invalid Bech32 checksum"),
            (
                "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq0000000000000000000000000000000000000000000000000000000000000",
                "Bech32 string too long",
            ),
            ("bcrt1QQ", "Invalid character or mixed case"),
            ("bcrt", "Missing separator"),
            ("bcrt1b00000000", "Invalid Base 32 character"),
        ] {
            assert_eq!(decode(text, Network::Regtest).expect_err("refused").words, words, "{text}");
        }
        for (text, places) in [
            ("bcrt1q049edschfnwystcqnsvyfpj23mpsg3jcedq9xv", &[9][..]),
            ("bcrt1qax9suht3qv95sw33xavx8crpxduefdrsvgsklu", &[22, 43]),
        ] {
            assert_eq!(decode(text, Network::Regtest).expect_err("refused").places, places, "{text}");
        }
        assert!(decode("bcrt1q049ldschfnwystcqnsvyfpj23mpsg3jcedq9xv", Network::Regtest).is_ok());
    }
}
