//! Blocks: headers, commits, and how they are hashed (CometBFT `types/block.go`).

use bytes::Bytes;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::json::{B64, Hex, Int, Uint};
use super::merkle::{self, Hash, sha256};
use super::proto::{ProtoError, Reader, Writer};
use super::time::Time;
use super::validator::{Address, Validators};

/// `version.BlockProtocol`.
pub(crate) const BLOCK_PROTOCOL: u64 = 11;
/// A block is cut into parts of this size to be hashed (`BlockPartSizeBytes`).
const PART_SIZE: usize = 64 << 10;

fn hash_of(bytes: Bytes) -> Result<Hash, ProtoError> {
    Hash::try_from(&bytes[..]).map_err(|_| ProtoError("a hash has 32 bytes"))
}

/// How a block is cut into parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PartSetHeader {
    /// How many parts there are.
    pub total: u32,
    /// The root over them.
    pub hash: Hash,
}

/// A block's name: the hash of its header, and of its bytes. The default names no block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// The hash of its header.
    pub hash: Hash,
    /// Of its bytes.
    pub parts: PartSetHeader,
}

impl BlockId {
    /// True if it names no block.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.parts.total == 0
    }

    /// `tendermint.types.BlockID`.
    pub fn write(&self, out: &mut Writer) {
        let (hash, parts): (&[u8], &[u8]) = if self.is_none() { (&[], &[]) } else { (&self.hash, &self.parts.hash) };
        out.bytes(1, hash).message(2, |out| {
            out.uint(1, self.parts.total.into()).bytes(2, parts);
        });
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn read(reader: Reader) -> Result<Self, ProtoError> {
        let mut id = Self::default();
        reader.fields(|field| {
            match field.number {
                1 => id.hash = hash_of(field.bytes()?)?,
                2 => field.message()?.fields(|field| {
                    match field.number {
                        1 => id.parts.total = field.small()?,
                        2 => id.parts.hash = hash_of(field.bytes()?)?,
                        _ => {}
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(id)
    }
}

impl Serialize for BlockId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Parts {
            total: u32,
            hash: Hex,
        }
        let hex = |hash: &Hash| if self.is_none() { Hex::default() } else { hash.into() };
        let mut out = serializer.serialize_struct("BlockID", 2)?;
        out.serialize_field("hash", &hex(&self.hash))?;
        out.serialize_field("parts", &Parts { total: self.parts.total, hash: hex(&self.parts.hash) })?;
        out.end()
    }
}

impl From<&Hash> for Hex {
    fn from(hash: &Hash) -> Self {
        Hex(Bytes::copy_from_slice(hash))
    }
}

impl From<&Address> for Hex {
    fn from(address: &Address) -> Self {
        Hex(Bytes::copy_from_slice(address))
    }
}

/// A block's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The application's protocol; the block's is always the same.
    pub app_version: u64,
    /// Which chain.
    pub chain_id: String,
    /// From 1.
    pub height: u64,
    /// The median of the times in the last commit.
    pub time: Time,
    /// The block before.
    pub last_block_id: BlockId,
    /// Of the commit of the block before.
    pub last_commit_hash: Hash,
    /// Of the transactions.
    pub data_hash: Hash,
    /// Of those who sign this block. The next ones are the same.
    pub validators_hash: Hash,
    /// Of the limits.
    pub consensus_hash: Hash,
    /// Of the application's state before this block.
    pub app_hash: Bytes,
    /// Of the results of the block before.
    pub last_results_hash: Hash,
    /// Whose turn it was.
    pub proposer: Address,
}

/// A value in the wrapper in which a header's fields are hashed; nothing for the zero value.
fn wrapped(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    write(&mut out);
    out.out
}

impl Header {
    /// The block's hash: the root over its fields.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let blob = |bytes: &[u8]| wrapped(|out| _ = out.bytes(1, bytes));
        let no_evidence = sha256(b"");
        merkle::root(&[
            wrapped(|out| _ = out.uint(1, BLOCK_PROTOCOL).uint(2, self.app_version)),
            blob(self.chain_id.as_bytes()),
            wrapped(|out| _ = out.uint(1, self.height)),
            wrapped(|out| self.time.write(out)),
            wrapped(|out| self.last_block_id.write(out)),
            blob(&self.last_commit_hash),
            blob(&self.data_hash),
            blob(&self.validators_hash),
            blob(&self.validators_hash),
            blob(&self.consensus_hash),
            blob(&self.app_hash),
            blob(&self.last_results_hash),
            blob(&no_evidence),
            blob(&self.proposer),
        ])
    }

    /// `tendermint.types.Header`.
    pub fn write(&self, out: &mut Writer) {
        out.message(1, |out| _ = out.uint(1, BLOCK_PROTOCOL).uint(2, self.app_version))
            .bytes(2, self.chain_id.as_bytes())
            .uint(3, self.height)
            .message(4, |out| self.time.write(out))
            .message(5, |out| self.last_block_id.write(out))
            .bytes(6, &self.last_commit_hash)
            .bytes(7, &self.data_hash)
            .bytes(8, &self.validators_hash)
            .bytes(9, &self.validators_hash)
            .bytes(10, &self.consensus_hash)
            .bytes(11, &self.app_hash)
            .bytes(12, &self.last_results_hash)
            .bytes(13, &sha256(b""))
            .bytes(14, &self.proposer);
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn read(reader: Reader) -> Result<Self, ProtoError> {
        let none = Hash::default();
        let mut header = Self {
            app_version: 0,
            chain_id: String::new(),
            height: 0,
            time: Time::ZERO,
            last_block_id: BlockId::default(),
            last_commit_hash: none,
            data_hash: none,
            validators_hash: none,
            consensus_hash: none,
            app_hash: Bytes::new(),
            last_results_hash: none,
            proposer: Address::default(),
        };
        reader.fields(|field| {
            match field.number {
                1 => field.message()?.fields(|field| {
                    if field.number == 2 {
                        header.app_version = field.uint()?;
                    }
                    Ok(())
                })?,
                2 => header.chain_id = field.text()?,
                3 => header.height = field.uint()?,
                4 => header.time = Time::read(field.message()?)?,
                5 => header.last_block_id = BlockId::read(field.message()?)?,
                6 => header.last_commit_hash = hash_of(field.bytes()?)?,
                7 => header.data_hash = hash_of(field.bytes()?)?,
                8 => header.validators_hash = hash_of(field.bytes()?)?,
                10 => header.consensus_hash = hash_of(field.bytes()?)?,
                11 => header.app_hash = field.bytes()?,
                12 => header.last_results_hash = hash_of(field.bytes()?)?,
                14 => header.proposer = address_of(&field.bytes()?)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(header)
    }
}

fn address_of(bytes: &Bytes) -> Result<Address, ProtoError> {
    Address::try_from(&bytes[..]).map_err(|_| ProtoError("an address has 20 bytes"))
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Version {
            block: Uint,
            app: Uint,
        }
        let mut out = serializer.serialize_struct("Header", 14)?;
        out.serialize_field("version", &Version { block: Uint(BLOCK_PROTOCOL), app: Uint(self.app_version) })?;
        out.serialize_field("chain_id", &self.chain_id)?;
        out.serialize_field("height", &Uint(self.height))?;
        out.serialize_field("time", &self.time)?;
        out.serialize_field("last_block_id", &self.last_block_id)?;
        out.serialize_field("last_commit_hash", &Hex::from(&self.last_commit_hash))?;
        out.serialize_field("data_hash", &Hex::from(&self.data_hash))?;
        out.serialize_field("validators_hash", &Hex::from(&self.validators_hash))?;
        out.serialize_field("next_validators_hash", &Hex::from(&self.validators_hash))?;
        out.serialize_field("consensus_hash", &Hex::from(&self.consensus_hash))?;
        out.serialize_field("app_hash", &Hex(self.app_hash.clone()))?;
        out.serialize_field("last_results_hash", &Hex::from(&self.last_results_hash))?;
        out.serialize_field("evidence_hash", &Hex::from(&sha256(b"")))?;
        out.serialize_field("proposer_address", &Hex::from(&self.proposer))?;
        out.end()
    }
}

/// What a validator did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Its vote was not there in time.
    Absent,
    /// It voted for the block.
    Commit,
}

/// A validator's part of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitSig {
    /// When it voted, who it is, what it signed with; `None` if it is absent.
    pub vote: Option<(Time, Address, Bytes)>,
}

impl CommitSig {
    /// What the validator did.
    #[must_use]
    pub fn flag(&self) -> Flag {
        if self.vote.is_some() { Flag::Commit } else { Flag::Absent }
    }

    fn parts(&self) -> (u64, &[u8], Time, &[u8]) {
        match &self.vote {
            Some((time, address, signature)) => (2, address, *time, signature),
            None => (1, &[], Time::ZERO, &[]),
        }
    }

    /// `tendermint.types.CommitSig`.
    pub fn write(&self, out: &mut Writer) {
        let (flag, address, time, signature) = self.parts();
        out.uint(1, flag).bytes(2, address).message(3, |out| time.write(out)).bytes(4, signature);
    }

    fn read(reader: Reader) -> Result<Self, ProtoError> {
        let (mut flag, mut address, mut time, mut signature) = (0, Bytes::new(), Time::ZERO, Bytes::new());
        reader.fields(|field| {
            match field.number {
                1 => flag = field.uint()?,
                2 => address = field.bytes()?,
                3 => time = Time::read(field.message()?)?,
                4 => signature = field.bytes()?,
                _ => {}
            }
            Ok(())
        })?;
        match flag {
            1 => Ok(Self { vote: None }),
            2 => Ok(Self { vote: Some((time, address_of(&address)?, signature)) }),
            _ => Err(ProtoError("a vote that is neither for a block nor absent")),
        }
    }
}

impl Serialize for CommitSig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (flag, address, time, signature) = self.parts();
        let mut out = serializer.serialize_struct("CommitSig", 4)?;
        out.serialize_field("block_id_flag", &flag)?;
        out.serialize_field("validator_address", &Hex(Bytes::copy_from_slice(address)))?;
        out.serialize_field("timestamp", &time)?;
        out.serialize_field("signature", &B64(Bytes::copy_from_slice(signature)))?;
        out.end()
    }
}

/// That more than two thirds of the power signed a block. The default stands before the first block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Of this height.
    pub height: u64,
    /// It.
    pub block_id: BlockId,
    /// In the order of the validators.
    pub signatures: Vec<CommitSig>,
}

impl Commit {
    /// The root over its signatures.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let leaves: Vec<Vec<u8>> =
            self.signatures.iter().map(|signature| wrapped(|out| signature.write(out))).collect();
        merkle::root(&leaves)
    }

    /// How many signed.
    #[must_use]
    pub fn votes(&self) -> usize {
        self.signatures.iter().filter(|signature| signature.flag() == Flag::Commit).count()
    }

    /// The median of the times of its votes, as CometBFT weighs it; every vote weighs the same.
    #[must_use]
    pub fn median_time(&self) -> Option<Time> {
        let mut times: Vec<Time> = self.signatures.iter().filter_map(|sig| Some(sig.vote.as_ref()?.0)).collect();
        times.sort_unstable();
        let median = times.len() / 2;
        times.get(median.max(1) - 1).copied()
    }

    /// `tendermint.types.Commit`; its round is always 0.
    pub fn write(&self, out: &mut Writer) {
        out.uint(1, self.height).message(3, |out| self.block_id.write(out));
        self.signatures.iter().for_each(|signature| {
            out.message(4, |out| signature.write(out));
        });
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn read(reader: Reader) -> Result<Self, ProtoError> {
        let mut commit = Self::default();
        reader.fields(|field| {
            match field.number {
                1 => commit.height = field.uint()?,
                3 => commit.block_id = BlockId::read(field.message()?)?,
                4 if commit.signatures.len() == Validators::COUNT_MAX => {
                    return Err(ProtoError("a commit has too many signatures"));
                }
                4 => commit.signatures.push(CommitSig::read(field.message()?)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(commit)
    }
}

impl Serialize for Commit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Commit", 4)?;
        out.serialize_field("height", &Uint(self.height))?;
        out.serialize_field("round", &0)?;
        out.serialize_field("block_id", &self.block_id)?;
        out.serialize_field("signatures", &self.signatures)?;
        out.end()
    }
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is signed.
    pub header: Header,
    /// In their order.
    pub txs: Vec<Bytes>,
    /// Of the block before.
    pub last_commit: Commit,
}

impl Block {
    /// `tendermint.types.Block`.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.message(1, |out| self.header.write(out));
        out.message(2, |out| {
            self.txs.iter().for_each(|tx| {
                out.item(1, tx);
            });
        });
        out.message(3, |_| {}).message(4, |out| self.last_commit.write(out));
        out.out.into()
    }

    /// Reads one. Its transactions are slices of `bytes`.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn decode(bytes: Bytes) -> Result<Self, ProtoError> {
        let (mut header, mut txs, mut last_commit) = (None, Vec::new(), Commit::default());
        Reader::new(bytes).fields(|field| {
            match field.number {
                1 => header = Some(Header::read(field.message()?)?),
                2 => field.message()?.fields(|field| {
                    if field.number == 1 {
                        txs.push(field.bytes()?);
                    }
                    Ok(())
                })?,
                4 => last_commit = Commit::read(field.message()?)?,
                _ => {}
            }
            Ok(())
        })?;
        let header = header.ok_or(ProtoError("a block without a header"))?;
        Ok(Self { header, txs, last_commit })
    }

    /// Its name; `encoded` is what [`Block::encode`] gave.
    #[must_use]
    pub fn id(&self, encoded: &[u8]) -> BlockId {
        let parts: Vec<&[u8]> = encoded.chunks(PART_SIZE).collect();
        let total = u32::try_from(parts.len()).expect("a block is bounded");
        BlockId { hash: self.header.hash(), parts: PartSetHeader { total, hash: merkle::root(&parts) } }
    }

    /// The root over the hashes of transactions.
    #[must_use]
    pub fn data_hash(txs: &[Bytes]) -> Hash {
        let hashes: Vec<Hash> = txs.iter().map(|tx| sha256(tx)).collect();
        merkle::root(&hashes)
    }
}

impl Serialize for Block {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Data<'a> {
            txs: Vec<Tx<'a>>,
        }
        #[derive(Serialize)]
        struct Evidence {
            evidence: [Int; 0],
        }
        let mut out = serializer.serialize_struct("Block", 4)?;
        out.serialize_field("header", &self.header)?;
        out.serialize_field("data", &Data { txs: self.txs.iter().map(|tx| Tx(tx)).collect() })?;
        out.serialize_field("evidence", &Evidence { evidence: [] })?;
        out.serialize_field("last_commit", &self.last_commit)?;
        out.end()
    }
}

/// A transaction as base64, even if it is empty.
pub(crate) struct Tx<'a>(pub(crate) &'a [u8]);

impl Serialize for Tx<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::json::base64(self.0))
    }
}
