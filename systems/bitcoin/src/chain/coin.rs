//! An output that may still be spent, and what is kept of those that were.
//!
//! ```text
//! coin  = code:u32 value:u64 script           code = height * 2 + coinbase; little-endian; the script takes the rest
//! undo  = count { count { size coin } }       transactions but the first, their inputs; counts and sizes as in transactions
//! ```

use bitcoin::consensus::encode::{Decodable as _, Encodable as _, VarInt};
use bitcoin::{Amount, ScriptBuf, TxOut};

/// An unspent output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// What it is worth, and to whom.
    pub out: TxOut,
    /// The height of the block that made it.
    pub height: u32,
    /// A block's own reward made it.
    pub coinbase: bool,
}

/// The coins that a transaction spent, by its inputs' order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxUndo {
    /// Them.
    pub spent: Vec<Coin>,
}

/// The coins that a block spent: one [`TxUndo`] for each transaction but the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockUndo {
    /// Them.
    pub txs: Vec<TxUndo>,
}

const HEAD_BYTES: usize = 12;

impl Coin {
    /// Its bytes in the database.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let code = self.height * 2 + u32::from(self.coinbase);
        out.extend_from_slice(&code.to_le_bytes());
        out.extend_from_slice(&self.out.value.to_sat().to_le_bytes());
        out.extend_from_slice(self.out.script_pubkey.as_bytes());
    }

    /// `None` if these are no coin's bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, script) = bytes.split_at_checked(HEAD_BYTES)?;
        let code = u32::from_le_bytes(head[..4].try_into().ok()?);
        let value = u64::from_le_bytes(head[4..].try_into().ok()?);
        let out = TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from(script.to_vec()) };
        Some(Self { out, height: code / 2, coinbase: code % 2 == 1 })
    }
}

fn put_size(out: &mut Vec<u8>, size: usize) {
    VarInt(size as u64).consensus_encode(out).expect("a vector takes all");
}

fn take_size(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(VarInt::consensus_decode(bytes).ok()?.0).ok()
}

impl BlockUndo {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_size(&mut out, self.txs.len());
        let mut one = Vec::new();
        for tx in &self.txs {
            put_size(&mut out, tx.spent.len());
            for coin in &tx.spent {
                one.clear();
                coin.encode(&mut one);
                put_size(&mut out, one.len());
                out.extend_from_slice(&one);
            }
        }
        out
    }

    /// `None` if these are not its bytes. Counts are not trusted before what they count is there.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut txs = Vec::new();
        for _ in 0..take_size(&mut bytes)? {
            let mut spent = Vec::new();
            for _ in 0..take_size(&mut bytes)? {
                let size = take_size(&mut bytes)?;
                let (one, rest) = bytes.split_at_checked(size)?;
                spent.push(Coin::decode(one)?);
                bytes = rest;
            }
            txs.push(TxUndo { spent });
        }
        bytes.is_empty().then_some(Self { txs })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coin() -> impl Strategy<Value = Coin> {
        (0..1u32 << 30, any::<bool>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(height, coinbase, value, script)| Coin {
                out: TxOut { value: Amount::from_sat(value), script_pubkey: script.into() },
                height,
                coinbase,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(txs in proptest::collection::vec(proptest::collection::vec(coin(), 0..4), 0..5)) {
            let undo = BlockUndo { txs: txs.into_iter().map(|spent| TxUndo { spent }).collect() };
            let bytes = undo.encode();
            prop_assert_eq!(BlockUndo::decode(&bytes), Some(undo.clone()));
            if let Some((_, cut)) = bytes.split_last() {
                prop_assert_ne!(BlockUndo::decode(cut), Some(undo));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = BlockUndo::decode(&bytes);
        }
    }
}
