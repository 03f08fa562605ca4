//! ABCI 2.0 as CometBFT 0.38 speaks it over a socket: `tendermint.abci.Request` and `Response`, each with its length in
//! front (`abci/client/socket_client.go`).
//!
//! Deliberately absent: vote extensions, which nobody here votes with, and snapshots of applications.

use bytes::Bytes;

use super::abci::{AbciEvent, CheckTx, ExecTxResult, Info, ProofOp, QueryResponse};
use super::block::{Block, Commit, Flag};
use super::genesis::Genesis;
use super::json::{B64, Int, Uint};
use super::merkle::Hash;
use super::proto::{ProtoError, Reader, Writer, put_varint};
use super::time::Time;
use super::validator::{Address, PublicKey};

/// `maxMsgSize`.
pub const MESSAGE_SIZE_MAX: usize = 100 << 20;
/// Of the requests.
mod ask {
    pub(super) const FLUSH: u64 = 2;
    pub(super) const INFO: u64 = 3;
    pub(super) const INIT_CHAIN: u64 = 5;
    pub(super) const QUERY: u64 = 6;
    pub(super) const CHECK_TX: u64 = 8;
    pub(super) const COMMIT: u64 = 11;
    pub(super) const PREPARE_PROPOSAL: u64 = 16;
    pub(super) const PROCESS_PROPOSAL: u64 = 17;
    pub(super) const FINALIZE_BLOCK: u64 = 20;
}
/// Of the responses.
const EXCEPTION: u64 = 1;

/// With its length in front.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 5);
    put_varint(&mut out, message.len() as u64);
    out.extend_from_slice(message);
    out
}

fn request(field: u64, write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut out = Writer::new();
    out.message(field, write);
    out.out.into()
}

/// What ends each batch of requests: only then does an application write its answers.
#[must_use]
pub fn flush() -> Bytes {
    request(ask::FLUSH, |_| {})
}

/// What are you, and what did you run last?
#[must_use]
pub fn info(version: &str, abci_version: &str) -> Bytes {
    request(ask::INFO, |out| {
        out.bytes(1, version.as_bytes())
            .uint(2, super::block::BLOCK_PROTOCOL)
            .uint(3, 8)
            .bytes(4, abci_version.as_bytes());
    })
}

/// A chain begins.
#[must_use]
pub fn init_chain(genesis: &Genesis) -> Bytes {
    request(ask::INIT_CHAIN, |out| {
        out.message(1, |out| genesis.time.write(out)).bytes(2, genesis.chain_id.as_bytes());
        out.message(3, |out| super::genesis::ConsensusParams::default().write(out));
        for validator in &genesis.validators {
            out.message(4, |out| {
                out.message(1, |out| validator.key.write(out)).int(2, 1);
            });
        }
        out.bytes(5, genesis.app_state.as_bytes()).int(6, 1);
    })
}

/// May this transaction be ordered?
#[must_use]
pub fn check_tx(tx: &[u8]) -> Bytes {
    request(ask::CHECK_TX, |out| _ = out.bytes(1, tx))
}

/// What is known of this?
#[must_use]
pub fn query(path: &str, data: &[u8], height: i64, prove: bool) -> Bytes {
    request(ask::QUERY, |out| {
        out.bytes(1, data).bytes(2, path.as_bytes()).int(3, height).uint(4, prove.into());
    })
}

/// What was run is to stay.
#[must_use]
pub fn commit() -> Bytes {
    request(ask::COMMIT, |_| {})
}

/// A block that is to be made, judged or run.
#[derive(Clone, Debug)]
pub struct BlockAsk<'a> {
    /// In their order.
    pub txs: &'a [Bytes],
    /// Of the block before.
    pub last_commit: &'a Commit,
    /// Who may vote, in the order of the commit.
    pub validators: Vec<Address>,
    /// The block's; none for one that is still to be made.
    pub hash: &'a [u8],
    /// Which.
    pub height: u64,
    /// When.
    pub time: Time,
    /// Of those who sign the next one.
    pub next_validators_hash: Hash,
    /// Whose turn it is.
    pub proposer: Address,
}

impl<'a> BlockAsk<'a> {
    /// Of a block that is made.
    #[must_use]
    pub fn of(block: &'a Block, hash: &'a [u8], validators: Vec<Address>) -> Self {
        let header = &block.header;
        Self {
            txs: &block.txs,
            last_commit: &block.last_commit,
            validators,
            hash,
            height: header.height,
            time: header.time,
            next_validators_hash: header.validators_hash,
            proposer: header.proposer,
        }
    }

    /// `CommitInfo`, or `ExtendedCommitInfo`: what the validators did at the height before.
    fn write_commit(&self, out: &mut Writer, flag_field: u64) {
        for (address, signature) in self.validators.iter().zip(&self.last_commit.signatures) {
            out.message(2, |out| {
                out.message(1, |out| _ = out.bytes(1, address).int(3, 1));
                out.uint(flag_field, if signature.flag() == Flag::Commit { 2 } else { 1 });
            });
        }
    }

    fn write_rest(&self, out: &mut Writer) {
        out.uint(5, self.height)
            .message(6, |out| self.time.write(out))
            .bytes(7, &self.next_validators_hash)
            .bytes(8, &self.proposer);
    }

    /// Make its transactions of those that wait.
    #[must_use]
    pub fn prepare(&self, bytes_max: usize) -> Bytes {
        request(ask::PREPARE_PROPOSAL, |out| {
            out.uint(1, bytes_max as u64);
            self.txs.iter().for_each(|tx| _ = out.item(2, tx));
            out.message(3, |out| self.write_commit(out, 5));
            self.write_rest(out);
        })
    }

    fn write_whole(&self, out: &mut Writer) {
        self.txs.iter().for_each(|tx| _ = out.item(1, tx));
        out.message(2, |out| self.write_commit(out, 3)).bytes(4, self.hash);
        self.write_rest(out);
    }

    /// May it stand?
    #[must_use]
    pub fn process(&self) -> Bytes {
        request(ask::PROCESS_PROPOSAL, |out| self.write_whole(out))
    }

    /// Run it.
    #[must_use]
    pub fn finalize(&self) -> Bytes {
        request(ask::FINALIZE_BLOCK, |out| self.write_whole(out))
    }
}

/// What a response says. An exception is an error.
///
/// # Errors
/// What the application says, or that it is no response.
pub fn response(bytes: Bytes) -> Result<Bytes, String> {
    let field = Reader::new(bytes).next_field().map_err(|error| error.to_string())?;
    let field = field.ok_or("its answer is empty")?;
    let is_exception = field.number == EXCEPTION;
    let body = field.bytes().map_err(|error| error.to_string())?;
    if !is_exception {
        return Ok(body);
    }
    let mut why = String::new();
    let read = Reader::new(body).fields(|field| {
        if field.number == 1 {
            why = field.text()?;
        }
        Ok(())
    });
    Err(read.map_or_else(|error| error.to_string(), |()| why))
}

/// Reads `ResponseInfo`.
///
/// # Errors
/// [`ProtoError`].
pub fn read_info(bytes: Bytes) -> Result<Info, ProtoError> {
    let mut info = Info::default();
    Reader::new(bytes).fields(|field| {
        match field.number {
            1 => info.data = field.text()?,
            2 => info.version = field.text()?,
            3 => info.app_version = Uint(field.uint()?),
            4 => info.last_block_height = Int(field.int()?),
            5 => info.last_block_app_hash = B64(field.bytes()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(info)
}

/// Reads `ResponseInitChain`: the validators that the application wants instead, and the hash of its state.
///
/// # Errors
/// [`ProtoError`].
pub fn read_init_chain(bytes: Bytes) -> Result<(Vec<PublicKey>, Bytes), ProtoError> {
    let (mut keys, mut app_hash) = (Vec::new(), Bytes::new());
    Reader::new(bytes).fields(|field| {
        match field.number {
            2 => keys.push(read_key(field.message()?)?),
            3 => app_hash = field.bytes()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((keys, app_hash))
}

/// The key of a `ValidatorUpdate` that has a power of 1; any other change is none that can be made.
fn read_key(update: Reader) -> Result<PublicKey, ProtoError> {
    let (mut key, mut power) = (None, 0);
    update.fields(|field| {
        match field.number {
            1 => field.message()?.fields(|field| {
                if field.number == 1 {
                    key = <[u8; 32]>::try_from(&field.bytes()?[..]).ok();
                }
                Ok(())
            })?,
            2 => power = field.int()?,
            _ => {}
        }
        Ok(())
    })?;
    key.filter(|_| power == 1).map(PublicKey).ok_or(ProtoError("a validator that has no ed25519 key or another power"))
}

/// Reads `ResponsePrepareProposal`.
///
/// # Errors
/// [`ProtoError`].
pub fn read_prepared(bytes: Bytes) -> Result<Vec<Bytes>, ProtoError> {
    let mut txs = Vec::new();
    Reader::new(bytes).fields(|field| {
        if field.number == 1 {
            txs.push(field.bytes()?);
        }
        Ok(())
    })?;
    Ok(txs)
}

/// Reads `ResponseProcessProposal`: may it stand?
///
/// # Errors
/// [`ProtoError`].
pub fn read_processed(bytes: Bytes) -> Result<bool, ProtoError> {
    let mut status = 0;
    Reader::new(bytes).fields(|field| {
        if field.number == 1 {
            status = field.uint()?;
        }
        Ok(())
    })?;
    match status {
        1 => Ok(true),
        2 => Ok(false),
        _ => Err(ProtoError("a proposal is neither accepted nor rejected")),
    }
}

/// What `ResponseFinalizeBlock` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finalized {
    /// What happened beside the transactions.
    pub events: Vec<AbciEvent>,
    /// One for each transaction.
    pub tx_results: Vec<ExecTxResult>,
    /// The application wants other validators.
    pub changes_validators: bool,
    /// Of the state behind it.
    pub app_hash: Bytes,
}

/// Reads it.
///
/// # Errors
/// [`ProtoError`].
pub fn read_finalized(bytes: Bytes) -> Result<Finalized, ProtoError> {
    let mut done = Finalized::default();
    Reader::new(bytes).fields(|field| {
        match field.number {
            1 => done.events.push(AbciEvent::read(field.message()?)?),
            2 => done.tx_results.push(ExecTxResult::decode(field.bytes()?)?),
            3 => done.changes_validators = true,
            5 => done.app_hash = field.bytes()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(done)
}

/// Reads `ResponseCheckTx`.
///
/// # Errors
/// [`ProtoError`].
pub fn read_check_tx(bytes: Bytes) -> Result<CheckTx, ProtoError> {
    ExecTxResult::decode(bytes)
}

/// Reads `ResponseQuery`.
///
/// # Errors
/// [`ProtoError`].
pub fn read_query(bytes: Bytes) -> Result<QueryResponse, ProtoError> {
    let mut answer = QueryResponse::default();
    Reader::new(bytes).fields(|field| {
        match field.number {
            1 => answer.code = field.small()?,
            3 => answer.log = field.text()?,
            4 => answer.info = field.text()?,
            5 => answer.index = field.int()?,
            6 => answer.key = field.bytes()?,
            7 => answer.value = field.bytes()?,
            8 => field.message()?.fields(|field| {
                if field.number == 1 {
                    answer.proof.push(read_op(field.message()?)?);
                }
                Ok(())
            })?,
            9 => answer.height = field.int()?,
            10 => answer.codespace = field.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(answer)
}

fn read_op(reader: Reader) -> Result<ProofOp, ProtoError> {
    let mut op = ProofOp { r#type: String::new(), key: B64::default(), data: B64::default() };
    reader.fields(|field| {
        match field.number {
            1 => op.r#type = field.text()?,
            2 => op.key = B64(field.bytes()?),
            3 => op.data = B64(field.bytes()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(op)
}
