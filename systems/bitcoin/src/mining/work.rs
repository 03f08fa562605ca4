//! From a template (BIP 22, BIP 23) to a block that lacks its nonce alone: what a miner does that is no node.
//!
//! - the first transaction pays the reward to the miner, names its height (BIP 34) and bears a number of the miner's own, so that
//!   two miners, or two rounds of one, never search the same header;
//! - the output that commits to witnesses is the template's (BIP 141).
//!
//! Deliberately absent: asking for templates, and the search.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Block, Header, Version};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{
    Amount, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
    transaction,
};
use serde_json::Value;
use thiserror::Error;

/// A template says something that it cannot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the template's {0} is missing or odd")]
pub struct TemplateError(&'static str);

/// A block to search for, and how low its hash must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Complete but for its nonce.
    pub block: Block,
    /// Its height.
    pub height: u32,
    /// The target, lowest byte first, as headers' hashes are.
    pub target: [u8; 32],
}

fn number(template: &Value, name: &'static str) -> Result<u64, TemplateError> {
    template[name].as_u64().ok_or(TemplateError(name))
}

fn text<'a>(template: &'a Value, name: &'static str) -> Result<&'a str, TemplateError> {
    template[name].as_str().ok_or(TemplateError(name))
}

impl Work {
    /// The block of a template, which pays to `script`; `extra` is the miner's own number.
    ///
    /// # Errors
    /// What the template lacks.
    pub fn new(template: &Value, script: &ScriptBuf, extra: u64) -> Result<Self, TemplateError> {
        let height = u32::try_from(number(template, "height")?).map_err(|_| TemplateError("height"))?;
        let value = Amount::from_sat(number(template, "coinbasevalue")?);
        let bits = u32::from_str_radix(text(template, "bits")?, 16).map_err(|_| TemplateError("bits"))?;
        let version = template["version"].as_i64().and_then(|version| i32::try_from(version).ok());
        let time = u32::try_from(number(template, "curtime")?).map_err(|_| TemplateError("curtime"))?;
        let prev = text(template, "previousblockhash")?.parse().map_err(|_| TemplateError("previousblockhash"))?;
        let mut outputs = vec![TxOut { value, script_pubkey: script.clone() }];
        let mut witness = Witness::new();
        if let Some(commitment) = template["default_witness_commitment"].as_str() {
            let script = ScriptBuf::from_hex(commitment).map_err(|_| TemplateError("default_witness_commitment"))?;
            outputs.push(TxOut { value: Amount::ZERO, script_pubkey: script });
            witness.push([0; 32]);
        }
        let mark = PushBytesBuf::from(extra.to_le_bytes());
        let script_sig = Builder::new().push_int(i64::from(height)).push_slice(mark).into_script();
        let input = TxIn { previous_output: OutPoint::null(), script_sig, sequence: Sequence::MAX, witness };
        let coinbase = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input],
            output: outputs,
        };
        let mut txdata = vec![coinbase];
        for tx in template["transactions"].as_array().ok_or(TemplateError("transactions"))? {
            txdata.push(deserialize_hex(text(tx, "data")?).map_err(|_| TemplateError("transactions"))?);
        }
        let header = Header {
            version: Version::from_consensus(version.ok_or(TemplateError("version"))?),
            prev_blockhash: prev,
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: CompactTarget::from_consensus(bits),
            nonce: 0,
        };
        let mut block = Block { header, txdata };
        block.header.merkle_root = block.compute_merkle_root().ok_or(TemplateError("transactions"))?;
        let target = Target::from_compact(block.header.bits).to_le_bytes();
        Ok(Self { block, height, target })
    }

    /// The header's 80 bytes, as they are hashed.
    #[must_use]
    pub fn header_bytes(&self) -> [u8; 80] {
        let bytes = bitcoin::consensus::serialize(&self.block.header);
        bytes.try_into().expect("a header has 80 bytes")
    }

    /// The block with its nonce, in hex, for `submitblock`.
    #[must_use]
    pub fn solved(&self, nonce: u32) -> String {
        let mut block = self.block.clone();
        block.header.nonce = nonce;
        bitcoin::consensus::encode::serialize_hex(&block)
    }
}

/// The script of an address, of any network.
///
/// # Errors
/// It is none.
pub fn script_of_address(address: &str) -> Result<ScriptBuf, String> {
    let parsed = address.parse::<bitcoin::Address<bitcoin::address::NetworkUnchecked>>();
    parsed
        .map(|address| address.assume_checked().script_pubkey())
        .map_err(|error| format!("{address} is no address: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        json!({
            "version": 0x2000_0000, "height": 7, "coinbasevalue": 5_000_000_000u64, "bits": "207fffff", "curtime": 1_700_000_000,
            "previousblockhash": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
            "default_witness_commitment":
                "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9",
            "transactions": [],
        })
    }

    #[test]
    fn a_template_becomes_a_block_that_differs_by_miner() {
        let script = script_of_address("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080").expect("an address");
        let (one, other) = (Work::new(&template(), &script, 1), Work::new(&template(), &script, 2));
        let (one, other) = (one.expect("it is whole"), other.expect("it is whole"));
        assert_ne!(one.block.header.merkle_root, other.block.header.merkle_root);
        assert!(one.block.check_merkle_root() && one.block.check_witness_commitment());
        let script = one.block.txdata[0].input[0].script_sig.as_bytes();
        assert!(script.starts_with(&crate::chain::height_push(7)) && script.len() >= 2);
        assert_eq!(one.target[31], 0x7f);
        let nonce = (0..).find(|nonce| {
            let mut header = one.block.header;
            header.nonce = *nonce;
            verity_nakamoto::has_work(header.block_hash(), header.bits, Target::from_le_bytes(one.target))
        });
        let block: Block = deserialize_hex(&one.solved(nonce.expect("half of all hold"))).expect("it is a block");
        assert!(block.header.validate_pow(block.header.target()).is_ok());
    }

    #[test]
    fn what_a_template_lacks_is_named() {
        let script = ScriptBuf::new();
        for name in ["height", "bits", "curtime", "previousblockhash", "coinbasevalue", "version", "transactions"] {
            let mut template = template();
            template.as_object_mut().expect("an object").remove(name);
            assert_eq!(Work::new(&template, &script, 0), Err(TemplateError(name)));
        }
        assert!(script_of_address("bc1qnothing").is_err());
    }
}
