//! CometBFT v0.38's bytes: protobuf as its hashes take it, Merkle trees, JSON as its RPC answers it, queries.
//!
//! What is written here is what a light client hashes; a bit that differs is a signature that does not verify. The tests
//! therefore compare every encoding with the `tendermint` crates.
//!
//! Deliberately absent: evidence (nobody's vote is accepted twice) and vote extensions.

mod abci;
mod block;
mod genesis;
mod json;
mod merkle;
mod proto;
mod query;
mod rpc;
pub mod socket;
mod time;
mod validator;
mod vote;

#[cfg(test)]
mod tests;

pub use abci::{AbciEvent, Attribute, CheckTx, ExecTxResult, Info, ProofOp, QueryResponse, Text};
pub use block::{Block, BlockId, Commit, CommitSig, Flag, Header, PartSetHeader};
pub use genesis::{ConsensusParams, Genesis, GenesisError, GenesisValidator};
pub use json::{base64, from_base64, hex_upper};
pub use merkle::{Hash, Proof, inner_hash, leaf_hash, root, sha256};
pub use proto::{Field, ProtoError, Reader, Writer};
pub(crate) use proto::{put_varint, varint_size};
pub use query::{QUERY_SIZE_MAX, Query, QueryError, Tags};
pub use rpc::{Id, Request, RequestError, RpcError, answer, refusal};
pub use time::Time;
pub use validator::{Address, PublicKey, Validators};
pub use vote::{SignBytes, Vote};

pub(crate) use block::Tx;
pub(crate) use json::{B64, Hex, Int, Uint, from_hex};
pub(crate) use merkle::split;
pub(crate) use query::{Condition, Operand, Operator};
pub(crate) use validator::Shown;
