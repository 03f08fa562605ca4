//! Each message's content.
//!
//! What the network's nodes ignore, decodes to [`Message::Unknown`]; what they give up on, is an error, and the message is
//! dropped. Counts that are too many for their message, but can be read, are the receiver's to judge.

use std::sync::Arc;

use bitcoin::block::{Block, Header};
use bitcoin::hashes::Hash;
use bitcoin::merkle_tree::MerkleBlock;
use bitcoin::{BlockHash, Transaction};

use super::address::{NetAddress, PeerAddress, Services};
use super::codec::{DecodeError, Reader, TRANSACTION_BYTES_MIN, put_bytes, put_compact, put_hashes, put_inner};
use super::compact::{BlockTxns, CompactBlock, GetBlockTxns};
use super::filter::FilterRange;
use super::inventory::Inventory;

/// Who says he is called more than this, is not heard.
const USER_AGENT_SIZE_MAX: usize = 256;

/// How a peer introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The protocol's version.
    pub version: u32,
    /// What it offers.
    pub services: Services,
    /// Its clock, in seconds since 1970.
    pub time: i64,
    /// What we offer, as it thinks.
    pub receiver_services: Services,
    /// Where we are, as it thinks.
    pub receiver: NetAddress,
    /// By which it knows itself.
    pub nonce: u64,
    /// What it is called.
    pub user_agent: String,
    /// The height of its chain.
    pub height: i32,
    /// It wants to hear of transactions.
    pub relay: bool,
}

impl Version {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u32()?;
        let services = Services(reader.u64()?);
        let time = i64::from_le_bytes(reader.array()?).max(0);
        let receiver_services = Services(reader.u64()?);
        let receiver = NetAddress::decode_v1(reader)?;
        let mut this = Self {
            version,
            services,
            time,
            receiver_services,
            receiver,
            nonce: 1,
            user_agent: String::new(),
            height: -1,
            relay: true,
        };
        if !reader.is_empty() {
            reader.take(26)?;
            this.nonce = reader.u64()?;
        }
        if !reader.is_empty() {
            this.user_agent = sanitized(reader.bytes(USER_AGENT_SIZE_MAX)?);
        }
        if !reader.is_empty() {
            this.height = i32::from_le_bytes(reader.array()?);
        }
        if !reader.is_empty() {
            this.relay = reader.u8()? != 0;
        }
        Ok(this)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.services.0.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.receiver_services.0.to_le_bytes());
        self.receiver.encode_v1(out);
        out.extend_from_slice(&self.services.0.to_le_bytes());
        NetAddress::NONE.encode_v1(out);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        put_bytes(out, self.user_agent.as_bytes());
        out.extend_from_slice(&self.height.to_le_bytes());
        out.push(u8::from(self.relay));
    }
}

/// Letters that can be shown without harm.
fn sanitized(bytes: &[u8]) -> String {
    let safe = |byte: &&u8| byte.is_ascii_alphanumeric() || b" .,;-_/:?@()".contains(byte);
    bytes.iter().filter(safe).map(|byte| char::from(*byte)).collect()
}

/// Says where one's chain is: hashes from the tip down, ever wider apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Them.
    pub hashes: Vec<BlockHash>,
    /// Where the answer may end; zeros for no such place.
    pub stop: BlockHash,
}

impl Locator {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // Of whom the locator is: once a version of the protocol, of no use to anyone.
        reader.u32()?;
        Ok(Self { hashes: reader.list(32, Reader::hash)?, stop: reader.hash()? })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&super::PROTOCOL_VERSION.to_le_bytes());
        put_hashes(out, &self.hashes);
        out.extend_from_slice(self.stop.as_byte_array());
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the protocol's message of that name, and its fields are those of its page")]
pub enum Message {
    Version(Version),
    Verack,
    WtxidRelay,
    SendAddrV2,
    SendHeaders,
    SendCompact {
        announce: u8,
        version: u64,
    },
    Addr(Vec<PeerAddress>),
    /// Besides what is known, how many were of networks that are not.
    AddrV2(Vec<PeerAddress>, usize),
    GetAddr,
    Inv(Vec<Inventory>),
    GetData(Vec<Inventory>),
    NotFound(Vec<Inventory>),
    GetBlocks(Locator),
    GetHeaders(Locator),
    Headers(Vec<Header>),
    Block {
        block: Arc<Block>,
        witness: bool,
    },
    Tx {
        tx: Arc<Transaction>,
        witness: bool,
    },
    Mempool,
    /// `None` before BIP 31.
    Ping(Option<u64>),
    /// `None` if it is too short for one.
    Pong(Option<u64>),
    FeeFilter(i64),
    CompactBlock(CompactBlock),
    GetBlockTxns(GetBlockTxns),
    BlockTxns(BlockTxns),
    FilterLoad {
        bits: Vec<u8>,
        hashes: u32,
        tweak: u32,
        flags: u8,
    },
    FilterAdd(Vec<u8>),
    FilterClear,
    MerkleBlock(MerkleBlock),
    GetFilters(FilterRange),
    Filter {
        kind: u8,
        block: BlockHash,
        content: Vec<u8>,
    },
    GetFilterHeaders(FilterRange),
    FilterHeaders {
        kind: u8,
        stop: BlockHash,
        prev: [u8; 32],
        hashes: Vec<[u8; 32]>,
    },
    GetFilterCheckpoints {
        kind: u8,
        stop: BlockHash,
    },
    FilterCheckpoints {
        kind: u8,
        stop: BlockHash,
        headers: Vec<[u8; 32]>,
    },
    /// Any other.
    Unknown(String),
}

impl Message {
    /// Its name on the wire.
    #[must_use]
    pub fn command(&self) -> &str {
        match self {
            Self::Version(_) => "version",
            Self::Verack => "verack",
            Self::WtxidRelay => "wtxidrelay",
            Self::SendAddrV2 => "sendaddrv2",
            Self::SendHeaders => "sendheaders",
            Self::SendCompact { .. } => "sendcmpct",
            Self::Addr(_) => "addr",
            Self::AddrV2(..) => "addrv2",
            Self::GetAddr => "getaddr",
            Self::Inv(_) => "inv",
            Self::GetData(_) => "getdata",
            Self::NotFound(_) => "notfound",
            Self::GetBlocks(_) => "getblocks",
            Self::GetHeaders(_) => "getheaders",
            Self::Headers(_) => "headers",
            Self::Block { .. } => "block",
            Self::Tx { .. } => "tx",
            Self::Mempool => "mempool",
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::FeeFilter(_) => "feefilter",
            Self::CompactBlock(_) => "cmpctblock",
            Self::GetBlockTxns(_) => "getblocktxn",
            Self::BlockTxns(_) => "blocktxn",
            Self::FilterLoad { .. } => "filterload",
            Self::FilterAdd(_) => "filteradd",
            Self::FilterClear => "filterclear",
            Self::MerkleBlock(_) => "merkleblock",
            Self::GetFilters(_) => "getcfilters",
            Self::Filter { .. } => "cfilter",
            Self::GetFilterHeaders(_) => "getcfheaders",
            Self::FilterHeaders { .. } => "cfheaders",
            Self::GetFilterCheckpoints { .. } => "getcfcheckpt",
            Self::FilterCheckpoints { .. } => "cfcheckpt",
            Self::Unknown(command) => command,
        }
    }

    /// Reads a message of this name.
    ///
    /// # Errors
    /// It ends early, or a field is not what it may be.
    pub fn decode(command: &str, payload: &[u8]) -> Result<Self, DecodeError> {
        let reader = &mut Reader::new(payload);
        Ok(match command {
            "version" => Self::Version(Version::decode(reader)?),
            "verack" => Self::Verack,
            "wtxidrelay" => Self::WtxidRelay,
            "sendaddrv2" => Self::SendAddrV2,
            "sendheaders" => Self::SendHeaders,
            "sendcmpct" => Self::SendCompact { announce: reader.u8()?, version: reader.u64()? },
            "addr" => Self::Addr(reader.list(PeerAddress::SIZE_V1, PeerAddress::decode_v1)?),
            "addrv2" => {
                let all = reader.list(PeerAddress::SIZE_V2_MIN, PeerAddress::decode_v2)?;
                let (count, known) = (all.len(), all.into_iter().flatten().collect::<Vec<_>>());
                let unknown = count - known.len();
                Self::AddrV2(known, unknown)
            }
            "getaddr" => Self::GetAddr,
            "inv" => Self::Inv(inventory(reader)?),
            "getdata" => Self::GetData(inventory(reader)?),
            "notfound" => Self::NotFound(inventory(reader)?),
            "getblocks" => Self::GetBlocks(Locator::decode(reader)?),
            "getheaders" => Self::GetHeaders(Locator::decode(reader)?),
            "headers" => Self::Headers(headers(reader)?),
            "block" => Self::Block { block: Arc::new(block(reader)?), witness: true },
            "tx" => Self::Tx { tx: Arc::new(reader.transaction()?), witness: true },
            "mempool" => Self::Mempool,
            "ping" => Self::Ping(if reader.is_empty() { None } else { Some(reader.u64()?) }),
            "pong" => Self::Pong(reader.u64().ok()),
            "feefilter" => Self::FeeFilter(reader.u64()?.cast_signed()),
            "cmpctblock" => Self::CompactBlock(CompactBlock::decode(reader)?),
            "getblocktxn" => Self::GetBlockTxns(GetBlockTxns::decode(reader)?),
            "blocktxn" => Self::BlockTxns(BlockTxns::decode(reader)?),
            _ => return Self::decode_filters(command, reader),
        })
    }

    fn decode_filters(command: &str, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match command {
            "filterload" => {
                let bits = reader.bytes(usize::MAX)?.to_vec();
                Self::FilterLoad { bits, hashes: reader.u32()?, tweak: reader.u32()?, flags: reader.u8()? }
            }
            "filteradd" => Self::FilterAdd(reader.bytes(usize::MAX)?.to_vec()),
            "filterclear" => Self::FilterClear,
            "merkleblock" => Self::MerkleBlock(reader.inner()?),
            "getcfilters" => Self::GetFilters(FilterRange::decode(reader)?),
            "getcfheaders" => Self::GetFilterHeaders(FilterRange::decode(reader)?),
            "getcfcheckpt" => Self::GetFilterCheckpoints { kind: reader.u8()?, stop: reader.hash()? },
            "cfilter" => {
                Self::Filter { kind: reader.u8()?, block: reader.hash()?, content: reader.bytes(usize::MAX)?.to_vec() }
            }
            "cfheaders" => Self::FilterHeaders {
                kind: reader.u8()?,
                stop: reader.hash()?,
                prev: reader.array()?,
                hashes: reader.list(32, Reader::array)?,
            },
            "cfcheckpt" => Self::FilterCheckpoints {
                kind: reader.u8()?,
                stop: reader.hash()?,
                headers: reader.list(32, Reader::array)?,
            },
            other => Self::Unknown(other.to_owned()),
        })
    }

    /// Its content's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let out = &mut bytes;
        match self {
            Self::Version(version) => version.encode(out),
            Self::SendCompact { announce, version } => {
                out.push(*announce);
                out.extend_from_slice(&version.to_le_bytes());
            }
            Self::Addr(list) => {
                put_compact(out, list.len() as u64);
                list.iter().for_each(|addr| addr.encode_v1(out));
            }
            Self::AddrV2(list, _) => {
                put_compact(out, list.len() as u64);
                list.iter().for_each(|addr| addr.encode_v2(out));
            }
            Self::Inv(list) | Self::GetData(list) | Self::NotFound(list) => {
                put_compact(out, list.len() as u64);
                list.iter().for_each(|item| item.encode(out));
            }
            Self::GetBlocks(locator) | Self::GetHeaders(locator) => locator.encode(out),
            Self::Headers(headers) => {
                put_compact(out, headers.len() as u64);
                for header in headers {
                    put_inner(out, header);
                    // How many transactions follow: none ever do.
                    out.push(0);
                }
            }
            Self::Block { block, witness } => put_block(out, block, *witness),
            Self::Tx { tx, witness } => put_tx(out, tx, *witness),
            Self::Ping(nonce) | Self::Pong(nonce) => {
                nonce.iter().for_each(|nonce| out.extend_from_slice(&nonce.to_le_bytes()));
            }
            Self::FeeFilter(rate) => out.extend_from_slice(&rate.to_le_bytes()),
            Self::CompactBlock(block) => block.encode(out),
            Self::GetBlockTxns(request) => request.encode(out),
            Self::BlockTxns(response) => response.encode(out),
            _ => self.encode_filters(out),
        }
        bytes
    }

    fn encode_filters(&self, out: &mut Vec<u8>) {
        let put_all = |out: &mut Vec<u8>, hashes: &[[u8; 32]]| {
            put_compact(out, hashes.len() as u64);
            hashes.iter().for_each(|hash| out.extend_from_slice(hash));
        };
        match self {
            Self::FilterLoad { bits, hashes, tweak, flags } => {
                put_bytes(out, bits);
                out.extend_from_slice(&hashes.to_le_bytes());
                out.extend_from_slice(&tweak.to_le_bytes());
                out.push(*flags);
            }
            Self::FilterAdd(data) => put_bytes(out, data),
            Self::MerkleBlock(block) => put_inner(out, block),
            Self::GetFilters(range) | Self::GetFilterHeaders(range) => range.encode(out),
            Self::GetFilterCheckpoints { kind, stop } => {
                out.push(*kind);
                out.extend_from_slice(stop.as_byte_array());
            }
            Self::Filter { kind, block, content } => {
                out.push(*kind);
                out.extend_from_slice(block.as_byte_array());
                put_bytes(out, content);
            }
            Self::FilterHeaders { kind, stop, prev, hashes } => {
                out.push(*kind);
                out.extend_from_slice(stop.as_byte_array());
                out.extend_from_slice(prev);
                put_all(out, hashes);
            }
            Self::FilterCheckpoints { kind, stop, headers } => {
                out.push(*kind);
                out.extend_from_slice(stop.as_byte_array());
                put_all(out, headers);
            }
            _ => {}
        }
    }
}

/// A block, whose transactions are read as those are that come alone.
fn block(reader: &mut Reader<'_>) -> Result<Block, DecodeError> {
    let header = reader.inner()?;
    Ok(Block { header, txdata: reader.list(TRANSACTION_BYTES_MIN, Reader::transaction)? })
}

fn inventory(reader: &mut Reader<'_>) -> Result<Vec<Inventory>, DecodeError> {
    reader.list(Inventory::SIZE, Inventory::decode)
}

fn headers(reader: &mut Reader<'_>) -> Result<Vec<Header>, DecodeError> {
    reader.list(81, |reader| {
        let header = reader.inner()?;
        reader.compact()?;
        Ok(header)
    })
}

fn put_tx(out: &mut Vec<u8>, tx: &Transaction, witness: bool) {
    if witness || tx.input.iter().all(|input| input.witness.is_empty()) {
        put_inner(out, tx);
        return;
    }
    put_inner(out, &tx.version);
    put_inner(out, &tx.input);
    put_inner(out, &tx.output);
    put_inner(out, &tx.lock_time);
}

fn put_block(out: &mut Vec<u8>, block: &Block, witness: bool) {
    if witness {
        put_inner(out, block);
        return;
    }
    put_inner(out, &block.header);
    put_compact(out, block.txdata.len() as u64);
    block.txdata.iter().for_each(|tx| put_tx(out, tx, false));
}
