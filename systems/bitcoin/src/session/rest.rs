//! What anybody may read without a password (`-rest`): paths below `/rest/`, as `.json`, `.hex` or `.bin`.
//!
//! - upon a path that is not understood: 400 with a line that says why; upon what is not there: 404;
//! - upon a node that is not ready: 503.
//!
//! Deliberately absent: anything that changes the node.

mod utxos;

use bitcoin::consensus::Encodable;
use bitcoin::consensus::encode::{VarInt, serialize};
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{BlockHash, Txid};
use verity_http::{Request, Response, parse_query};
use verity_nakamoto::BlockId;

use crate::session::rpc::blocks::{self, Detail, FILTER_INDEX};
use crate::session::rpc::{Call, Ctx, Json, RpcError, Shown, State, deployments, encode, mempool, render, script_json};

/// No request gets more headers.
const HEADERS_MAX: usize = 2_000;
const HEADERS_DEFAULT: &str = "5";
const FORMATS: &str = ".bin, .hex, .json";

/// In which form an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Binary,
    Hex,
    Json,
    Unknown,
}

/// Why there is no answer: a status and a line.
#[derive(Debug)]
struct Refused(u16, String);

impl From<RpcError> for Refused {
    fn from(error: RpcError) -> Self {
        Self(500, error.message)
    }
}

impl From<crate::chain::ChainError> for Refused {
    fn from(error: crate::chain::ChainError) -> Self {
        Self(500, error.to_string())
    }
}

fn bad(words: impl Into<String>) -> Refused {
    Refused(400, words.into())
}

/// Whether each `%` begins an octet in hexadecimal digits.
fn is_escaped(text: &str) -> bool {
    let starts_octet = |rest: &str| rest.get(..2).is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.split('%').skip(1).all(starts_octet)
}

fn missing(words: impl Into<String>) -> Refused {
    Refused(404, words.into())
}

fn no_format(formats: &str) -> Refused {
    missing(format!("output format not found (available: {formats})"))
}

type Answered = Result<Response, Refused>;

fn binary(bytes: Vec<u8>) -> Response {
    Response::new(200).body("application/octet-stream", bytes)
}

fn hexadecimal(bytes: &[u8]) -> Response {
    Response::new(200).body("text/plain", format!("{}\n", bytes.to_lower_hex_string()))
}

fn json(value: &Json) -> Response {
    Response::new(200).body("application/json", format!("{}\n", value.write()))
}

/// The same thing in the form that is wanted.
fn formed(format: Format, bytes: Vec<u8>, value: impl FnOnce() -> Json) -> Answered {
    match format {
        Format::Binary => Ok(binary(bytes)),
        Format::Hex => Ok(hexadecimal(&bytes)),
        Format::Json => Ok(json(&value())),
        Format::Unknown => Err(no_format(FORMATS)),
    }
}

/// The path without its format.
fn split(path: &str) -> (&str, Format) {
    match path.rsplit_once('.') {
        Some((rest, "bin")) => (rest, Format::Binary),
        Some((rest, "hex")) => (rest, Format::Hex),
        Some((rest, "json")) => (rest, Format::Json),
        _ => (path, Format::Unknown),
    }
}

/// A number of digits alone.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn hash(text: &str) -> Result<[u8; 32], Refused> {
    use bitcoin::hex::FromHex;
    let mut bytes = <[u8; 32]>::from_hex(text).map_err(|_| bad(format!("Invalid hash: {text}")))?;
    bytes.reverse();
    Ok(bytes)
}

struct Rest<'r, 'c, 'a> {
    call: Call<'c, 'a>,
    request: &'r Request,
}

/// Answers a request.
pub(crate) fn answer(ctx: &mut Ctx<'_>, state: &mut State, request: &Request, warmup: Option<&str>) -> Response {
    let outcome = match warmup {
        Some(words) => Err(Refused(503, format!("Service temporarily unavailable: {words}"))),
        None => Rest { call: Call::of(ctx, state), request }.route(),
    };
    match outcome {
        Ok(response) => response,
        Err(Refused(404, words)) if words.is_empty() => Response::new(404),
        Err(Refused(status, words)) => Response::new(status).body("text/plain", format!("{words}\r\n")),
    }
}

type Route<R> = fn(&mut R, &str, Format) -> Answered;

impl Rest<'_, '_, '_> {
    fn route(&mut self) -> Answered {
        let path = self.request.path.strip_prefix("/rest/").unwrap_or("");
        let routes: [(&str, Route<Self>); 14] = [
            ("tx/", Self::transaction),
            ("block/notxdetails/", |rest, path, format| rest.block(path, format, Detail::Ids)),
            ("block/", |rest, path, format| rest.block(path, format, Detail::Prevouts)),
            ("blockpart/", Self::block_part),
            ("blockfilter/", Self::filter),
            ("blockfilterheaders/", Self::filter_headers),
            ("chaininfo", Self::chain_info),
            ("mempool/", Self::mempool),
            ("headers/", Self::headers),
            ("getutxos", utxos::answer),
            ("deploymentinfo/", Self::deployment_info),
            ("deploymentinfo", Self::deployment_info),
            ("blockhashbyheight/", Self::hash_by_height),
            ("spenttxouts/", Self::spent_outputs),
        ];
        for (prefix, route) in routes {
            if let Some(rest) = path.strip_prefix(prefix) {
                let (rest, format) = split(rest);
                let rest = rest.to_string();
                return route(self, &rest, format);
            }
        }
        Err(missing(""))
    }

    fn parameter(&self, name: &str) -> Result<Option<String>, Refused> {
        let malformed = || bad("URI parsing failed, it likely contained RFC 3986 invalid characters");
        if !is_escaped(&self.request.path) {
            return Err(malformed());
        }
        let Some(query) = &self.request.query else { return Ok(None) };
        let pairs = parse_query(query).ok().filter(|_| is_escaped(query)).ok_or_else(malformed)?;
        Ok(pairs.into_iter().find(|(own, _)| own == name).map(|(_, value)| value))
    }

    fn find(&self, text: &str) -> Result<BlockId, Refused> {
        let hash = BlockHash::from_byte_array(hash(text)?);
        self.call.ctx.node.chain().tree().find(&hash).ok_or_else(|| missing(format!("{text} not found")))
    }

    fn transaction(&mut self, path: &str, format: Format) -> Answered {
        let txid = Txid::from_byte_array(hash(path)?);
        let node = &*self.call.ctx.node;
        let chain = node.chain();
        let (tx, block) = if let Some(entry) = node.mempool().get(&txid) {
            ((*entry.tx).clone(), None)
        } else {
            let id = self.call.transaction_block(&txid)?;
            let block = match id {
                Some(id) => chain.block(id)?,
                None => None,
            };
            let tx = block.and_then(|block| block.txdata.iter().find(|tx| tx.compute_txid() == txid).cloned());
            (tx.ok_or_else(|| missing(format!("{path} not found")))?, id)
        };
        formed(format, encode(&tx), || {
            let mut value = render(&tx, Shown::on(chain.params().network).with_hex());
            // The hash of its block stands before its bytes.
            if let (Some(id), Json::Obj(fields)) = (block, &mut value) {
                let place = fields.len().saturating_sub(1);
                fields.insert(place, ("blockhash".into(), chain.entry(id).hash.into()));
            }
            value
        })
    }

    fn stored(&self, path: &str) -> Result<(BlockId, std::sync::Arc<bitcoin::Block>), Refused> {
        let id = self.find(path)?;
        let chain = self.call.ctx.node.chain();
        if !chain.entry(id).has_data {
            return Err(missing(format!("{path} not available ({})", self.call.why_missing(id))));
        }
        let block = chain.block(id)?.ok_or_else(|| Refused(500, format!("I/O error reading {path}")))?;
        Ok((id, block))
    }

    fn block(&mut self, path: &str, format: Format, detail: Detail) -> Answered {
        let (id, block) = self.stored(path)?;
        if format == Format::Json {
            return Ok(json(&blocks::block_json(self.call.ctx.node.chain(), id, &block, detail)?));
        }
        formed(format, serialize(&*block), || Json::Null)
    }

    fn block_part(&mut self, path: &str, format: Format) -> Answered {
        let parsed = |text: Option<String>| text.and_then(|text| number::<usize>(&text));
        let offset = parsed(self.parameter("offset")?).ok_or_else(|| bad("Block part offset missing or invalid"))?;
        let size = parsed(self.parameter("size")?).ok_or_else(|| bad("Block part size missing or invalid"))?;
        let (_, block) = self.stored(path)?;
        let bytes = serialize(&*block);
        let end = offset.checked_add(size).filter(|end| size > 0 && *end <= bytes.len());
        let part = end.map(|end| bytes[offset..end].to_vec());
        let part = part.ok_or_else(|| bad(format!("Bad block part offset/size {offset}/{size} for {path}")))?;
        if format == Format::Json {
            return Err(bad("JSON output is not supported for this request type"));
        }
        formed(format, part, || Json::Null)
    }

    /// How many are wanted, and from which block on.
    fn count_and_hash(&self, parts: &[&str], usage: &str) -> Result<(usize, String), Refused> {
        let (count, hash) = match parts {
            [count, hash] => (count.to_string(), hash.to_string()),
            [hash] => (self.parameter("count")?.unwrap_or(HEADERS_DEFAULT.into()), hash.to_string()),
            _ => return Err(bad(format!("Invalid URI format. Expected {usage}"))),
        };
        let valid = number::<usize>(&count).filter(|count| (1..=HEADERS_MAX).contains(count));
        let valid = valid.ok_or_else(|| {
            bad(format!("Header count is invalid or out of acceptable range (1-{HEADERS_MAX}): {count}"))
        })?;
        Ok((valid, hash))
    }

    /// The blocks of the chain that counts from this one on.
    fn blocks_upon(&self, text: &str, count: usize) -> Result<Vec<BlockId>, Refused> {
        let chain = self.call.ctx.node.chain();
        let id = chain.tree().find(&BlockHash::from_byte_array(hash(text)?));
        let Some(id) = id.filter(|id| chain.is_active(*id)) else { return Ok(Vec::new()) };
        Ok((chain.entry(id).height..=chain.height()).take(count).filter_map(|height| chain.active(height)).collect())
    }

    fn headers(&mut self, path: &str, format: Format) -> Answered {
        let parts: Vec<&str> = path.split('/').collect();
        let (count, hash) = self.count_and_hash(&parts, "/rest/headers/<hash>.<ext>?count=<count>")?;
        let ids = self.blocks_upon(&hash, count)?;
        let chain = self.call.ctx.node.chain();
        let bytes = ids.iter().flat_map(|id| serialize(&chain.entry(*id).header)).collect();
        formed(format, bytes, || Json::Arr(ids.iter().map(|id| blocks::header_json(chain, *id)).collect()))
    }

    fn filter_kind(&self, kind: &str) -> Result<(), Refused> {
        if kind != "basic" {
            return Err(bad(format!("Unknown filtertype {kind}")));
        }
        if !self.call.index_progress().iter().any(|(name, _)| *name == FILTER_INDEX) {
            return Err(bad(format!("Index is not enabled for filtertype {kind}")));
        }
        Ok(())
    }

    fn filter_headers(&mut self, path: &str, format: Format) -> Answered {
        const USAGE: &str = "/rest/blockfilterheaders/<filtertype>/<blockhash>.<ext>?count=<count>";
        let (kind, rest) = path.split_once('/').unwrap_or((path, ""));
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let (count, hash) = self.count_and_hash(&parts, USAGE)?;
        self::hash(&hash)?;
        self.filter_kind(kind)?;
        let mut headers = Vec::new();
        for id in self.blocks_upon(&hash, count)? {
            let words = "Filter not found. This error is unexpected and indicates index corruption.";
            headers.push(self.call.filter(id)?.ok_or_else(|| missing(words))?.header.to_byte_array());
        }
        formed(format, headers.concat(), || {
            Json::arr(headers.iter().map(|header| {
                let reversed: Vec<u8> = header.iter().rev().copied().collect();
                reversed.to_lower_hex_string()
            }))
        })
    }

    fn filter(&mut self, path: &str, format: Format) -> Answered {
        let Some((kind, hash)) = path.split_once('/').filter(|(_, hash)| !hash.contains('/')) else {
            return Err(bad("Invalid URI format. Expected /rest/blockfilter/<filtertype>/<blockhash>"));
        };
        self::hash(hash)?;
        self.filter_kind(kind)?;
        let id = self.find(hash)?;
        let entry = self.call.ctx.node.chain().entry(id);
        let Some(filter) = self.call.filter(id)?.map(|filter| filter.content) else {
            return Err(missing(if entry.validated {
                "Filter not found. This error is unexpected and indicates index corruption."
            } else {
                "Filter not found. Block was not connected to active chain."
            }));
        };
        let mut bytes = vec![0];
        bytes.extend(serialize(&entry.hash));
        bytes.extend(serialize(&filter));
        formed(format, bytes, || Json::obj().with("filter", filter.to_lower_hex_string()))
    }

    fn chain_info(&mut self, _: &str, format: Format) -> Answered {
        if format != Format::Json {
            return Err(no_format("json"));
        }
        Ok(json(&blocks::getblockchaininfo(&mut self.call, &Default::default())?))
    }

    fn deployment_info(&mut self, path: &str, format: Format) -> Answered {
        if format != Format::Json {
            return Err(no_format("json"));
        }
        let chain = self.call.ctx.node.chain();
        let id = if path.is_empty() {
            chain.tip()
        } else {
            let hash = BlockHash::from_byte_array(hash(path)?);
            chain.tree().find(&hash).ok_or_else(|| bad("Block not found"))?
        };
        Ok(json(&deployments::info(chain, id)))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, Refused> {
        match self.parameter(name)?.as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(bad(format!("The \"{name}\" query parameter must be either \"true\" or \"false\"."))),
        }
    }

    fn mempool(&mut self, path: &str, format: Format) -> Answered {
        if !matches!(path, "contents" | "info") {
            return Err(bad("Invalid URI format. Expected /rest/mempool/<info|contents>.json"));
        }
        if format != Format::Json {
            return Err(no_format("json"));
        }
        if path == "info" {
            return Ok(json(&mempool::info(&self.call)));
        }
        let (verbose, sequence) = (self.flag("verbose", true)?, self.flag("mempool_sequence", false)?);
        if verbose && sequence {
            let words = "Verbose results cannot contain mempool sequence values. (hint: set \"verbose=false\")";
            return Err(bad(words));
        }
        Ok(json(&mempool::all(&self.call, verbose, sequence)?))
    }

    fn hash_by_height(&mut self, path: &str, format: Format) -> Answered {
        let height = number::<i32>(path).and_then(|height| u32::try_from(height).ok());
        let height = height.ok_or_else(|| bad(format!("Invalid height: {path}")))?;
        let chain = self.call.ctx.node.chain();
        let id = chain.active(height).filter(|_| height <= chain.height());
        let hash = chain.entry(id.ok_or_else(|| missing("Block height out of range"))?).hash;
        match format {
            // As text it is written in reverse, as everywhere.
            Format::Hex => Ok(Response::new(200).body("text/plain", format!("{hash}\n"))),
            _ => formed(format, serialize(&hash), || Json::obj().with("blockhash", hash)),
        }
    }

    fn spent_outputs(&mut self, path: &str, format: Format) -> Answered {
        if path.contains('/') {
            return Err(bad("Invalid URI format. Expected /rest/spenttxouts/<hash>.<ext>"));
        }
        let id = self.find(path)?;
        let chain = self.call.ctx.node.chain();
        let undo = match chain.undo(id)? {
            Some(undo) => undo,
            None if chain.entry(id).height == 0 => crate::chain::BlockUndo::default(),
            None => return Err(missing(format!("{path} undo not available"))),
        };
        let written = "a vector takes all that is written to it";
        let mut bytes = Vec::new();
        // The first transaction spends nothing.
        VarInt::from(undo.txs.len() + 1).consensus_encode(&mut bytes).expect(written);
        VarInt::from(0_u32).consensus_encode(&mut bytes).expect(written);
        for tx in &undo.txs {
            VarInt::from(tx.spent.len()).consensus_encode(&mut bytes).expect(written);
            for coin in &tx.spent {
                coin.out.consensus_encode(&mut bytes).expect(written);
            }
        }
        let network = chain.params().network;
        formed(format, bytes, || {
            let rows = undo.txs.iter().map(|tx| {
                let spent = tx.spent.iter().map(|coin| {
                    let script = script_json(&coin.out.script_pubkey, network);
                    Json::obj().with("value", coin.out.value).with("scriptPubKey", script)
                });
                Json::Arr(spent.collect())
            });
            Json::Arr(std::iter::once(Json::Arr(Vec::new())).chain(rows).collect())
        })
    }
}
