//! The methods, with their parameters (CometBFT `rpc/core/routes.go`).

use super::params::{Kind, Params, Spec};
use crate::machine::{Page, Query};

/// How a transaction's sender is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broadcast {
    Async,
    Sync,
    Commit,
}

/// What a call wants.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Health,
    Status,
    NetInfo,
    Genesis,
    GenesisChunk(i64),
    Ask(Query),
    Broadcast(Broadcast, bytes::Bytes),
    Subscribe(String),
    Unsubscribe(String),
    UnsubscribeAll,
}

const NONE: Spec = &[];
const HEIGHT: Spec = &[("height", Kind::Int)];
const TX: Spec = &[("tx", Kind::Bytes)];
const QUERY: Spec = &[("query", Kind::Text)];

/// All methods: those that a WebSocket alone has first.
pub(super) const METHODS: &[(&str, Spec)] = &[
    ("subscribe", QUERY),
    ("unsubscribe", QUERY),
    ("unsubscribe_all", NONE),
    ("health", NONE),
    ("status", NONE),
    ("net_info", NONE),
    ("blockchain", &[("minHeight", Kind::Int), ("maxHeight", Kind::Int)]),
    ("genesis", NONE),
    ("genesis_chunked", &[("chunk", Kind::Int)]),
    ("block", HEIGHT),
    ("block_by_hash", &[("hash", Kind::Bytes)]),
    ("block_results", HEIGHT),
    ("commit", HEIGHT),
    ("header", HEIGHT),
    ("header_by_hash", &[("hash", Kind::Hex)]),
    ("check_tx", TX),
    ("tx", &[("hash", Kind::Bytes), ("prove", Kind::Flag)]),
    (
        "tx_search",
        &[
            ("query", Kind::Text),
            ("prove", Kind::Flag),
            ("page", Kind::Int),
            ("per_page", Kind::Int),
            ("order_by", Kind::Text),
        ],
    ),
    ("block_search", &[("query", Kind::Text), ("page", Kind::Int), ("per_page", Kind::Int), ("order_by", Kind::Text)]),
    ("validators", &[("height", Kind::Int), ("page", Kind::Int), ("per_page", Kind::Int)]),
    ("dump_consensus_state", NONE),
    ("consensus_state", NONE),
    ("consensus_params", HEIGHT),
    ("unconfirmed_txs", &[("limit", Kind::Int)]),
    ("num_unconfirmed_txs", NONE),
    ("broadcast_tx_commit", TX),
    ("broadcast_tx_sync", TX),
    ("broadcast_tx_async", TX),
    ("abci_query", &[("path", Kind::Text), ("data", Kind::Hex), ("height", Kind::Int), ("prove", Kind::Flag)]),
    ("abci_info", NONE),
];

/// A method's parameters; `None` if there is no such method on this way.
pub(super) fn spec(method: &str, by_socket: bool) -> Option<Spec> {
    let methods = if by_socket { METHODS } else { &METHODS[3..] };
    methods.iter().find(|(name, _)| *name == method).map(|(_, spec)| *spec)
}

/// What a call wants; the method is one of [`METHODS`].
pub(super) fn wish(method: &str, params: &mut Params) -> Wish {
    let height = params.clone().int(0);
    let page = |params: &mut Params, at| Page { page: params.int(at), per_page: params.int(at + 1) };
    Wish::Ask(match method {
        "subscribe" => return Wish::Subscribe(params.text(0)),
        "unsubscribe" => return Wish::Unsubscribe(params.text(0)),
        "unsubscribe_all" => return Wish::UnsubscribeAll,
        "health" => return Wish::Health,
        "status" => return Wish::Status,
        "net_info" => return Wish::NetInfo,
        "genesis" => return Wish::Genesis,
        "genesis_chunked" => return Wish::GenesisChunk(params.int(0).unwrap_or(0)),
        "broadcast_tx_commit" => return Wish::Broadcast(Broadcast::Commit, params.bytes(0)),
        "broadcast_tx_sync" => return Wish::Broadcast(Broadcast::Sync, params.bytes(0)),
        "broadcast_tx_async" => return Wish::Broadcast(Broadcast::Async, params.bytes(0)),
        "blockchain" => Query::Blockchain { min: params.int(0).unwrap_or(0), max: params.int(1).unwrap_or(0) },
        "block" => Query::Block { height },
        "block_by_hash" => Query::BlockByHash { hash: params.bytes(0) },
        "block_results" => Query::BlockResults { height },
        "commit" => Query::Commit { height },
        "header" => Query::Header { height },
        "header_by_hash" => Query::HeaderByHash { hash: params.bytes(0) },
        "check_tx" => Query::CheckTx { tx: params.bytes(0) },
        "tx" => Query::Tx { hash: params.bytes(0), prove: params.flag(1) },
        "tx_search" => Query::TxSearch {
            query: params.text(0),
            prove: params.flag(1),
            page: page(params, 2),
            order_by: params.text(4),
        },
        "block_search" => Query::BlockSearch { query: params.text(0), page: page(params, 1), order_by: params.text(3) },
        "validators" => Query::Validators { height, page: page(params, 1) },
        "dump_consensus_state" => Query::DumpConsensusState,
        "consensus_state" => Query::ConsensusState,
        "consensus_params" => Query::ConsensusParams { height },
        "unconfirmed_txs" => Query::UnconfirmedTxs { limit: height },
        "num_unconfirmed_txs" => Query::NumUnconfirmedTxs,
        "abci_query" => Query::AbciQuery {
            path: params.text(0),
            data: params.bytes(1),
            height: params.int(2).unwrap_or(0),
            prove: params.flag(3),
        },
        "abci_info" => Query::AbciInfo,
        other => unreachable!("{other} is in the table and is known here"),
    })
}
