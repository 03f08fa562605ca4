//! What clients ask of a node, by JSON-RPC over HTTP.
//!
//! Deliberately absent: what the answers mean.

use bitcoin::{Address, BlockHash, KnownHrp, OutPoint, ScriptBuf, Txid};
use bytes::Bytes;
use serde_json::{Value, json};

/// `u:p`, as HTTP has it.
const AUTH: &str = "dTpw";

/// One call.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Height,
    Best,
    Tips,
    Pool,
    Coin(OutPoint),
    /// So many blocks with what waits, for a client.
    Mine(u32, usize),
    /// One block with nothing.
    MineEmpty(usize),
    Pay(Txid, String),
    HashAt(u32),
    Block(BlockHash),
    Invalidate(BlockHash),
    Reconsider(BlockHash),
    Coins,
}

/// What anybody may spend.
pub(super) fn anybody() -> ScriptBuf {
    // OP_TRUE.
    ScriptBuf::from_bytes(vec![0x51])
}

/// Where all coins of a world are.
pub(super) fn home() -> Address {
    Address::p2wsh(&anybody(), KnownHrp::Regtest)
}

/// Where a client's miner is paid; the first one's is everybody's home. Else two miners would make one block of the same second.
fn miner(client: usize) -> String {
    // OP_TRUE and the numbers behind it, all of them true.
    let number = u8::try_from(client % 16).expect("it is small");
    Address::p2wsh(&ScriptBuf::from_bytes(vec![0x51 + number]), KnownHrp::Regtest).to_string()
}

impl Call {
    fn method(&self) -> (&'static str, Value) {
        match self {
            Self::Height => ("getblockcount", json!([])),
            Self::Best => ("getbestblockhash", json!([])),
            Self::Tips => ("getchaintips", json!([])),
            Self::Pool => ("getrawmempool", json!([])),
            Self::Coin(OutPoint { txid, vout }) => ("gettxout", json!([txid.to_string(), vout, false])),
            Self::Mine(count, client) => ("generatetoaddress", json!([count, miner(*client)])),
            Self::MineEmpty(client) => ("generateblock", json!([miner(*client), []])),
            Self::Pay(_, hex) => ("sendrawtransaction", json!([hex])),
            Self::HashAt(height) => ("getblockhash", json!([height])),
            Self::Block(hash) => ("getblock", json!([hash.to_string(), 0])),
            Self::Invalidate(hash) => ("invalidateblock", json!([hash.to_string()])),
            Self::Reconsider(hash) => ("reconsiderblock", json!([hash.to_string()])),
            Self::Coins => ("gettxoutsetinfo", json!(["hash_serialized_3"])),
        }
    }

    /// As it is sent.
    pub(super) fn request(&self) -> Bytes {
        let (method, params) = self.method();
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: world\r\nAuthorization: Basic {AUTH}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Bytes::from(head + &body)
    }
}

/// The result of a call, or its error.
///
/// # Errors
/// What came is no answer.
pub(super) fn read(body: &[u8]) -> Result<Result<Value, Value>, String> {
    let mut answer: Value = serde_json::from_slice(body)
        .map_err(|error| format!("an answer is no JSON: {error}: {}", String::from_utf8_lossy(body)))?;
    let error = answer["error"].take();
    Ok(if error.is_null() { Ok(answer["result"].take()) } else { Err(error) })
}

/// A hash that is written in hex.
pub(super) fn hash(value: &Value) -> Option<BlockHash> {
    value.as_str()?.parse().ok()
}
