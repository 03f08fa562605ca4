//! The RPC's results, by the names of CometBFT's `rpc/core/types/responses.go`.

use serde::Serialize;
use serde_json::Value;

use super::index::{TX_HASH, TX_HEIGHT};
use super::store::Stored;
use crate::wire::{
    AbciEvent, B64, Block, BlockId, Commit, ConsensusParams, ExecTxResult, Header, Hex, Info, Int, Proof,
    QueryResponse, Shown, Tags, Time, Tx, Uint, hex_upper,
};

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it is plain data")
}

#[derive(Serialize)]
pub(super) struct ResultBlock<'a> {
    pub(super) block_id: BlockId,
    pub(super) block: Option<&'a Block>,
}

#[derive(Serialize)]
pub(super) struct ResultHeader<'a> {
    pub(super) header: Option<&'a Header>,
}

#[derive(Serialize)]
pub(super) struct SignedHeader<'a> {
    pub(super) header: &'a Header,
    pub(super) commit: &'a Commit,
}

#[derive(Serialize)]
pub(super) struct ResultCommit<'a> {
    pub(super) signed_header: SignedHeader<'a>,
    pub(super) canonical: bool,
}

#[derive(Serialize)]
pub(super) struct BlockMeta<'a> {
    block_id: BlockId,
    block_size: Int,
    header: &'a Header,
    num_txs: Int,
}

impl<'a> BlockMeta<'a> {
    pub(super) fn of(stored: &'a Stored) -> Self {
        Self {
            block_id: stored.id,
            block_size: Int::count(stored.encoded.len()),
            header: &stored.block.header,
            num_txs: Int::count(stored.hashes.len()),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ResultBlockchain<'a> {
    pub(super) last_height: Uint,
    pub(super) block_metas: Vec<BlockMeta<'a>>,
}

#[derive(Serialize)]
pub(super) struct ResultBlockResults<'a> {
    pub(super) height: Uint,
    pub(super) txs_results: Option<Vec<ExecTxResult>>,
    pub(super) finalize_block_events: &'a [AbciEvent],
    pub(super) validator_updates: Option<()>,
    pub(super) consensus_param_updates: Option<()>,
    pub(super) app_hash: B64,
}

#[derive(Serialize)]
pub(super) struct ResultValidators {
    pub(super) block_height: Uint,
    pub(super) validators: Vec<Shown>,
    pub(super) count: Int,
    pub(super) total: Int,
}

#[derive(Serialize)]
pub(super) struct ResultConsensusParams<'a> {
    pub(super) block_height: Uint,
    pub(super) consensus_params: &'a ConsensusParams,
}

#[derive(Serialize)]
struct TxProof<'a> {
    root_hash: Hex,
    data: Tx<'a>,
    proof: Proof,
}

#[derive(Serialize)]
pub(super) struct ResultTx<'a> {
    hash: Hex,
    height: Uint,
    index: u32,
    tx_result: ExecTxResult,
    tx: Tx<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<TxProof<'a>>,
}

impl<'a> ResultTx<'a> {
    pub(super) fn of(stored: &'a Stored, index: u32, prove: bool) -> Self {
        let at = index as usize;
        let tx = Tx(&stored.block.txs[at]);
        let proof = || TxProof {
            root_hash: Hex::from(&stored.block.header.data_hash),
            data: Tx(&stored.block.txs[at]),
            proof: Proof::of(&stored.hashes, at),
        };
        Self {
            hash: Hex::from(&stored.hashes[at]),
            height: Uint(stored.height()),
            index,
            tx_result: stored.result(at),
            tx,
            proof: prove.then(proof),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ResultTxSearch<'a> {
    pub(super) txs: Vec<ResultTx<'a>>,
    pub(super) total_count: Int,
}

#[derive(Serialize)]
pub(super) struct ResultBlockSearch<'a> {
    pub(super) blocks: Vec<ResultBlock<'a>>,
    pub(super) total_count: Int,
}

#[derive(Serialize)]
pub(super) struct ResultUnconfirmedTxs<'a> {
    pub(super) n_txs: Int,
    pub(super) total: Int,
    pub(super) total_bytes: Uint,
    pub(super) txs: Option<Vec<Tx<'a>>>,
}

#[derive(Serialize)]
pub(super) struct Response<T> {
    pub(super) response: T,
}

pub(super) type ResultAbciInfo = Response<Info>;
pub(super) type ResultAbciQuery = Response<QueryResponse>;

#[derive(Serialize)]
pub(super) struct SyncInfo {
    pub(super) latest_block_hash: Hex,
    pub(super) latest_app_hash: Hex,
    pub(super) latest_block_height: Uint,
    pub(super) latest_block_time: Time,
    pub(super) earliest_block_hash: Hex,
    pub(super) earliest_app_hash: Hex,
    pub(super) earliest_block_height: Uint,
    pub(super) earliest_block_time: Time,
    pub(super) catching_up: bool,
}

/// What a transaction came to, to those who wait for it.
#[derive(Serialize)]
pub(super) struct Outcome {
    pub(super) index: u32,
    pub(super) tx_result: ExecTxResult,
}

/// The data of a block's events, and what subscriptions look at.
#[derive(Serialize)]
pub(super) struct BlockEvents {
    block: Value,
    header: Value,
    events: Value,
    tags: Tags,
    txs: Vec<TxEvent>,
}

#[derive(Serialize)]
struct TxEvent {
    data: Value,
    tags: Tags,
}

fn typed(name: &str, value: &impl Serialize) -> Value {
    let value = serde_json::to_value(value).expect("it is plain data");
    serde_json::json!({ "type": format!("tendermint/event/{name}"), "value": value })
}

/// Every attribute of some events, indexed or not.
fn tags(events: &[AbciEvent]) -> Tags {
    let mut tags = Tags::new();
    for event in events.iter().filter(|event| !event.r#type.is_empty()) {
        for attribute in event.attributes.iter().filter(|attribute| !attribute.key.is_empty()) {
            tags.entry(format!("{}.{}", event.r#type, attribute.key))
                .or_default()
                .push(attribute.value.clone().into_owned());
        }
    }
    tags
}

impl BlockEvents {
    pub(super) fn of(stored: &Stored) -> Self {
        #[derive(Serialize)]
        struct Finalized<'a> {
            #[serde(skip_serializing_if = "<[AbciEvent]>::is_empty")]
            events: &'a [AbciEvent],
            tx_results: &'a [ExecTxResult],
            validator_updates: [(); 0],
            app_hash: B64,
        }
        #[derive(Serialize)]
        struct NewBlock<'a> {
            block: &'a Block,
            block_id: BlockId,
            result_finalize_block: Finalized<'a>,
        }
        #[derive(Serialize)]
        struct NewBlockEvents<'a> {
            height: Uint,
            events: &'a [AbciEvent],
            num_txs: Int,
        }
        let results = stored.decoded();
        let (events, app_hash) = (&stored.events[..], B64(stored.app_hash.clone()));
        let finalized = Finalized { events, tx_results: &results, validator_updates: [], app_hash };
        let block = NewBlock { block: &stored.block, block_id: stored.id, result_finalize_block: finalized };
        let num_txs = Int::count(results.len());
        let in_block = NewBlockEvents { height: Uint(stored.height()), events, num_txs };
        Self {
            block: typed("NewBlock", &block),
            header: typed("NewBlockHeader", &ResultHeader { header: Some(&stored.block.header) }),
            events: typed("NewBlockEvents", &in_block),
            tags: tags(events),
            txs: results.iter().enumerate().map(|(at, result)| TxEvent::of(stored, at, result)).collect(),
        }
    }
}

impl TxEvent {
    fn of(stored: &Stored, at: usize, result: &ExecTxResult) -> Self {
        #[derive(Serialize)]
        struct TxResult<'a, R> {
            height: Uint,
            #[serde(skip_serializing_if = "Option::is_none")]
            index: Option<usize>,
            tx: Tx<'a>,
            result: R,
        }
        #[derive(Serialize)]
        struct EventDataTx<T> {
            #[serde(rename = "TxResult")]
            tx_result: T,
        }
        let index = (at > 0).then_some(at);
        let tx = Tx(&stored.block.txs[at]);
        let tx_result = TxResult { height: Uint(stored.height()), index, tx, result: result.sparse() };
        let mut tags = tags(&result.events);
        tags.entry(TX_HASH.to_owned()).or_default().push(hex_upper(&stored.hashes[at]));
        tags.entry(TX_HEIGHT.to_owned()).or_default().push(stored.height().to_string());
        Self { data: typed("Tx", &EventDataTx { tx_result }), tags }
    }
}
