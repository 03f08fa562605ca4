//! All coins as of the tip, as others write and load them (`dumptxoutset`; version 2 of the form).
//!
//! ```text
//! snapshot    = "utxo" ff version:u16 magic tip:hash count:u64 { tx }     numbers little-endian; counts as in transactions
//! tx          = txid count { vout coin }                                  by txid; vout as a count, by the order of its varint
//! coin        = varint(height * 2 + coinbase) varint(amount) script
//! amount      = 0, or by how often ten divides it, at nine times at the most: what is left, shortened
//! script      = 00 hash20 | 01 hash20 | 02..05 x32 | varint(size + 6) bytes  a key's hash, a script's, a key (4, 5: uncompressed)
//! ```
//!
//! The varints are base 128, the highest digit first, each digit but the last one less than it counts.
//!
//! Deliberately absent: reading one. Whoever trusts a snapshot owes the check of all blocks below it.

use bitcoin::consensus::encode::{Encodable as _, VarInt};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};
use bitcoin::{OutPoint, PublicKey, Script, Txid};

use super::{Chain, ChainError, Coin};
use crate::index::coin_bytes;

const HEAD: &[u8] = b"utxo\xff";
const VERSION: u16 = 2;
/// So many bytes are handed on at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// Coins.
    pub count: u64,
    /// The hash of all of them (`hash_serialized_3`).
    pub hash: sha256d::Hash,
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut count) = ([0; 10], 0);
    loop {
        let more = if count == 0 { 0 } else { 0x80 };
        digits[count] = (number & 0x7f) as u8 | more;
        count += 1;
        if number <= 0x7f {
            break;
        }
        number = (number >> 7) - 1;
    }
    out.extend(digits[..count].iter().rev());
}

/// Amounts that people pay are round.
fn compressed(mut amount: u64) -> u64 {
    if amount == 0 {
        return 0;
    }
    let mut tens = 0;
    while amount.is_multiple_of(10) && tens < 9 {
        amount /= 10;
        tens += 1;
    }
    if tens == 9 {
        return 1 + (amount - 1) * 10 + 9;
    }
    let digit = amount % 10;
    1 + ((amount / 10) * 9 + digit - 1) * 10 + tens
}

/// The usual scripts, without what is the same in all of them.
fn put_script(script: &Script, out: &mut Vec<u8>) {
    const PLAIN: u64 = 6;
    match script.as_bytes() {
        [0x76, 0xa9, 20, hash @ .., 0x88, 0xac] if hash.len() == 20 => {
            out.push(0);
            out.extend_from_slice(hash);
        }
        [0xa9, 20, hash @ .., 0x87] if hash.len() == 20 => {
            out.push(1);
            out.extend_from_slice(hash);
        }
        [33, sign @ (2 | 3), x @ .., 0xac] if x.len() == 32 => {
            out.push(*sign);
            out.extend_from_slice(x);
        }
        [65, key @ .., 0xac] if key.len() == 65 && key[0] == 4 && PublicKey::from_slice(key).is_ok() => {
            out.push(4 | (key[64] & 1));
            out.extend_from_slice(&key[1..33]);
        }
        bytes => {
            varint(bytes.len() as u64 + PLAIN, out);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_count(count: u64, out: &mut Vec<u8>) {
    VarInt(count).consensus_encode(out).expect("a vector takes all that is written to it");
}

/// The coins of one transaction, until the next one's come.
#[derive(Debug, Default)]
struct Group {
    txid: Option<Txid>,
    /// By the varint of their places, as the network's node has them in its database.
    coins: Vec<(Vec<u8>, u32, Vec<u8>)>,
}

impl Group {
    fn put(&mut self, out: &mut Vec<u8>) {
        let Some(txid) = self.txid.take() else { return };
        out.extend_from_slice(txid.as_byte_array());
        put_count(self.coins.len() as u64, out);
        self.coins.sort_unstable();
        for (_, vout, coin) in self.coins.drain(..) {
            put_count(vout.into(), out);
            out.extend_from_slice(&coin);
        }
    }

    fn add(&mut self, outpoint: &OutPoint, coin: &Coin, out: &mut Vec<u8>) {
        if self.txid != Some(outpoint.txid) {
            self.put(out);
            self.txid = Some(outpoint.txid);
        }
        let (mut key, mut bytes) = (Vec::new(), Vec::new());
        varint(outpoint.vout.into(), &mut key);
        varint(u64::from(coin.height) * 2 + u64::from(coin.coinbase), &mut bytes);
        varint(compressed(coin.out.value.to_sat()), &mut bytes);
        put_script(&coin.out.script_pubkey, &mut bytes);
        self.coins.push((key, outpoint.vout, bytes));
    }
}

impl Chain {
    /// Hands all coins to `write`, a piece at a time.
    ///
    /// # Errors
    /// The disk's. The inner error is that of `write`, which is not called again.
    pub fn dump_coins<E>(
        &mut self,
        write: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<Dumped, E>, ChainError> {
        let (mut count, mut engine, mut bytes) = (0, sha256d::Hash::engine(), Vec::new());
        self.each_coin(&mut |outpoint, coin| {
            count += 1;
            coin_bytes(outpoint, coin, &mut bytes);
            engine.input(&bytes);
        })?;
        let mut out = HEAD.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.params().magic);
        out.extend_from_slice(self.entry(self.tip()).hash.as_byte_array());
        out.extend_from_slice(&u64::to_le_bytes(count));
        let (mut group, mut failed) = (Group::default(), None);
        self.each_coin(&mut |outpoint, coin| {
            if failed.is_some() {
                return;
            }
            group.add(outpoint, coin, &mut out);
            if out.len() >= CHUNK_BYTES {
                failed = write(&out).err();
                out.clear();
            }
        })?;
        group.put(&mut out);
        let written = failed.map_or_else(|| write(&out), Err);
        Ok(written.map(|()| Dumped { count, hash: sha256d::Hash::from_engine(engine) }))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hex::DisplayHex as _;
    use bitcoin::{Amount, ScriptBuf, TxOut};

    use super::*;

    fn hex(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        out.to_lower_hex_string()
    }

    #[test]
    fn numbers_are_as_short_as_can_be() {
        for (number, text) in [(0, "00"), (127, "7f"), (128, "8000"), (255, "807f"), (256, "8100"), (16_511, "ff7f")] {
            assert_eq!(hex(|out| varint(number, out)), text, "{number}");
        }
        assert_eq!(hex(|out| varint(16_512, out)), "808000");
        assert_eq!(hex(|out| varint(u64::MAX, out)), "80fefefefefefefefe7f");
        for (amount, short) in [(0, 0), (1, 1), (1_000_000, 7), (100_000_000, 9), (5_000_000_000, 50)] {
            assert_eq!(compressed(amount), short, "{amount}");
        }
        assert_eq!(compressed(2_100_000_000_000_000), 21_000_000);
    }

    #[test]
    fn usual_scripts_are_short() {
        let of = |text: &str| {
            let script = ScriptBuf::from_hex(text).expect("it is hex");
            hex(|out| put_script(&script, out))
        };
        let (hash, x) = ("11".repeat(20), "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
        let y = "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
        assert_eq!(of(&format!("76a914{hash}88ac")), format!("00{hash}"));
        assert_eq!(of(&format!("a914{hash}87")), format!("01{hash}"));
        assert_eq!(of(&format!("2103{x}ac")), format!("03{x}"));
        assert_eq!(of(&format!("4104{x}{y}ac")), format!("04{x}"));
        // Not on the curve: it is kept as it is.
        assert_eq!(of(&format!("4104{x}{x}ac")), format!("4904{x}{x}ac").replacen("49", "4941", 1));
        assert_eq!(of("51"), "0751");
        assert_eq!(of(""), "06");
    }

    #[test]
    fn coins_of_a_transaction_are_ordered_by_the_bytes_of_their_places() {
        let mut group = Group::default();
        let (txid, mut out) = (Txid::from_byte_array([7; 32]), Vec::new());
        let value = TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() };
        let coin = Coin { out: value, height: 1, coinbase: true };
        for vout in [0, 256, 16_512] {
            group.add(&OutPoint { txid, vout }, &coin, &mut out);
        }
        group.put(&mut out);
        let expected = format!("{}03{}{}{}", "07".repeat(32), "00030106", "fd8040030106", "fd0001030106");
        assert_eq!(out.to_lower_hex_string(), expected);
    }
}
