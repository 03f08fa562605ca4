//! Makes the blocks.
//!
//! ```text
//! file = { size:u32 block }       little-endian; the first block's is not in it
//! ```
//!
//! Each full block spends all that the one before it made, so that the coins neither grow nor shrink.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use bitcoin::absolute::LockTime;
use bitcoin::block::{Block, Header, Version};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::key::Secp256k1;
use bitcoin::secp256k1::{All, Message, PublicKey, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness, WitnessMerkleNode,
    transaction,
};
use verity_bitcoin::Params;
use verity_bitcoin::chain::height_push;
use verity_nakamoto::has_work;

/// Payments of a full block, of about 833 weight units each.
pub(super) const PAYMENTS: usize = 4_780;
/// Inputs of the one wide transaction.
pub(super) const WIDE: usize = 2_000;
/// Until a reward may be spent.
const MATURITY: u32 = 100;

/// A coin that is to be spent.
#[derive(Clone, Copy, Debug)]
struct Coin {
    outpoint: OutPoint,
    value: Amount,
}

/// Who signs everything.
struct Owner {
    secp: Secp256k1<All>,
    secret: SecretKey,
    public: PublicKey,
    script: ScriptBuf,
}

impl Owner {
    fn new() -> Self {
        let secp = Secp256k1::new();
        let secret = SecretKey::from_slice(&[7; 32]).expect("it is a key");
        let public = secret.public_key(&secp);
        let script = ScriptBuf::new_p2wpkh(&bitcoin::CompressedPublicKey(public).wpubkey_hash());
        Self { secp, secret, public, script }
    }

    /// Spends these coins into outputs of these values.
    fn pay(&self, coins: &[Coin], values: &[Amount]) -> Transaction {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let mut tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: values.iter().map(|value| TxOut { value: *value, script_pubkey: self.script.clone() }).collect(),
        };
        let mut cache = SighashCache::new(&mut tx);
        for (at, coin) in coins.iter().enumerate() {
            let hash = cache.p2wpkh_signature_hash(at, &self.script, coin.value, EcdsaSighashType::All);
            let digest = Message::from_digest(hash.expect("it is one of its inputs").to_byte_array());
            let signature = bitcoin::ecdsa::Signature::sighash_all(self.secp.sign_ecdsa(&digest, &self.secret));
            *cache.witness_mut(at).expect("it is one of its inputs") = Witness::p2wpkh(&signature, &self.public);
        }
        tx
    }
}

struct Chain {
    params: Params,
    owner: Owner,
    tip: Header,
    height: u32,
    out: BufWriter<File>,
}

fn coins_of(tx: &Transaction) -> Vec<Coin> {
    let txid = tx.compute_txid();
    let coin =
        |(vout, output): (usize, &TxOut)| Coin { outpoint: OutPoint::new(txid, vout as u32), value: output.value };
    tx.output.iter().enumerate().map(coin).collect()
}

impl Chain {
    /// Adds a block with these transactions, and answers with its coinbase's coin.
    fn add(&mut self, txs: Vec<Transaction>) -> Result<Coin> {
        self.height += 1;
        let mut coinbase = self.owner.pay(&[], &[Amount::from_sat(self.params.subsidy(self.height))]);
        coinbase.input.push(TxIn {
            previous_output: OutPoint::null(),
            script_sig: [height_push(self.height), vec![1, 0]].concat().into(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        });
        let mut block = Block {
            header: Header {
                version: Version::from_consensus(0x2000_0000),
                prev_blockhash: self.tip.block_hash(),
                merkle_root: TxMerkleNode::all_zeros(),
                time: self.tip.time + 1,
                bits: self.tip.bits,
                nonce: 0,
            },
            txdata: std::iter::once(coinbase).chain(txs).collect(),
        };
        let root = block.witness_root().unwrap_or_else(WitnessMerkleNode::all_zeros);
        let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
        let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &commitment.to_byte_array()[..]].concat();
        block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: script.into() });
        block.header.merkle_root = block.compute_merkle_root().context("a block has transactions")?;
        while !has_work(block.block_hash(), block.header.bits, self.params.headers.pow.limit) {
            block.header.nonce += 1;
        }
        ensure!(block.weight().to_wu() <= 4_000_000, "a block is too heavy: {}", block.weight());
        let bytes = serialize(&block);
        self.out.write_all(&u32::try_from(bytes.len())?.to_le_bytes())?;
        self.out.write_all(&bytes)?;
        self.tip = block.header;
        Ok(coins_of(&block.txdata[0])[0])
    }
}

/// Writes so many full blocks, and what comes before and behind them.
pub(super) fn make(file: &Path, blocks: usize) -> Result<String> {
    let params = Params::regtest();
    let out = BufWriter::new(File::create(file).with_context(|| format!("cannot write {}", file.display()))?);
    let mut chain = Chain { tip: params.genesis.header, params, owner: Owner::new(), height: 0, out };
    let first = chain.add(Vec::new())?;
    for _ in 0..MATURITY {
        chain.add(Vec::new())?;
    }
    let each = first.value / (2 * PAYMENTS as u64);
    let split = chain.owner.pay(&[first], &vec![each; 2 * PAYMENTS]);
    let mut coins = coins_of(&split);
    chain.add(vec![split])?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..blocks {
        let made = Mutex::new(vec![None; PAYMENTS]);
        verity_node::parallel(threads, PAYMENTS, &|at| {
            let pair = [coins[at], coins[at + PAYMENTS]];
            let tx = chain.owner.pay(&pair, &pair.map(|coin| coin.value));
            made.lock().expect("nobody panics while holding it")[at] = Some(tx);
        });
        let txs: Option<Vec<Transaction>> = made.into_inner().expect("nobody holds it").into_iter().collect();
        let txs = txs.context("each was made")?;
        coins = txs.iter().flat_map(coins_of).collect();
        chain.add(txs)?;
    }
    let all = &coins[..WIDE];
    let value = all.iter().map(|coin| coin.value).sum();
    let wide = chain.owner.pay(all, &[value]);
    chain.add(vec![wide])?;
    chain.out.flush()?;
    Ok(format!("blocks={} height={}", blocks, chain.height))
}

/// The blocks of a file, in order.
pub(super) fn read(file: &Path) -> Result<Vec<Block>> {
    let mut from = BufReader::new(File::open(file).with_context(|| format!("cannot read {}", file.display()))?);
    let (mut blocks, mut size) = (Vec::new(), [0; 4]);
    while from.read_exact(&mut size).is_ok() {
        let mut bytes = vec![0; u32::from_le_bytes(size) as usize];
        from.read_exact(&mut bytes)?;
        blocks.push(deserialize(&bytes)?);
    }
    Ok(blocks)
}
