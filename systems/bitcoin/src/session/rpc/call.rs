//! One call: its arguments, and what it works on.

use std::any::Any;

use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use bitcoin::{Block, BlockHash, Txid};
use verity_nakamoto::BlockId;

use super::State;
use super::error::RpcError;
use super::json::Json;
use crate::chain::Chain;
use crate::index::{Filter, Index};
use crate::mempool::{LoadOptions, Mempool};
use crate::node::Node;
use crate::places::{BeginError, NewFile};
use crate::session::p2p::PeerControl;

/// Files that calls read and write.
pub trait Files {
    /// Writes the mempool to its file, and says where that is.
    ///
    /// # Errors
    /// Why it could not.
    fn save_mempool(&mut self, node: &mut Node) -> Result<String, String>;
    /// Loads a mempool's file.
    ///
    /// # Errors
    /// Why it could not.
    fn load_mempool(&mut self, node: &mut Node, path: &str, options: LoadOptions) -> Result<(), String>;
    /// Begins a file that nobody has yet.
    ///
    /// # Errors
    /// Why it could not.
    fn begin(&mut self, path: &str) -> Result<NewFile, BeginError>;
}

/// No files at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn save_mempool(&mut self, _: &mut Node) -> Result<String, String> {
        Err("there are no files".into())
    }

    fn load_mempool(&mut self, _: &mut Node, _: &str, _: LoadOptions) -> Result<(), String> {
        Err("there are no files".into())
    }

    fn begin(&mut self, path: &str) -> Result<NewFile, BeginError> {
        Err(BeginError::Closed(path.to_owned()))
    }
}

/// What clients ask about.
pub struct Ctx<'a> {
    /// The node.
    pub node: &'a mut Node,
    /// Its peers.
    pub peers: &'a mut dyn PeerControl,
    /// What is looked up beside the chain.
    pub indexes: &'a Index,
    /// What there is to warn of.
    pub warnings: &'a [String],
    /// Files that calls read and write.
    pub files: &'a mut dyn Files,
    /// A steady clock, in milliseconds.
    pub now_ms: u64,
    /// Set by `stop`.
    pub stop: &'a mut bool,
    /// Set, with the reason, when the node cannot go on.
    pub fatal: &'a mut Option<String>,
    /// What the methods of a second table work on (wallets).
    pub other: &'a mut dyn Any,
}

impl std::fmt::Debug for Ctx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctx").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

/// What a method works on.
#[derive(Debug)]
pub struct Call<'c, 'a> {
    /// The node and its like.
    pub ctx: &'c mut Ctx<'a>,
    /// What the server itself remembers.
    pub(super) state: &'c mut State,
    /// The wallet that the path names.
    pub wallet: Option<&'c str>,
}

impl<'c, 'a> Call<'c, 'a> {
    /// Of no wallet.
    pub(crate) fn of(ctx: &'c mut Ctx<'a>, state: &'c mut State) -> Self {
        Self { ctx, state, wallet: None }
    }
}

impl Call<'_, '_> {
    pub(super) fn chain(&self) -> &Chain {
        self.ctx.node.chain()
    }

    pub(super) fn mempool(&self) -> &Mempool {
        self.ctx.node.mempool()
    }

    /// Seconds since 1970.
    pub(super) fn time(&self) -> u64 {
        self.ctx.node.time()
    }

    /// The block with this hash, wherever it stands.
    pub(super) fn find(&self, hash: &BlockHash) -> Result<BlockId, RpcError> {
        self.chain().tree().find(hash).ok_or_else(|| RpcError::key("Block not found"))
    }

    /// The block that has a transaction, if there is an index of them.
    pub(crate) fn transaction_block(&self, txid: &Txid) -> Result<Option<BlockId>, RpcError> {
        Ok(self.ctx.indexes.transaction(self.chain(), txid)?)
    }

    /// A block's filter, if there is an index of them.
    pub(crate) fn filter(&self, id: BlockId) -> Result<Option<Filter>, RpcError> {
        Ok(self.ctx.indexes.filter(self.chain(), id)?)
    }

    /// Each index, and up to which height it is complete.
    pub(crate) fn index_progress(&self) -> Vec<(&'static str, u32)> {
        self.ctx.indexes.progress(self.chain())
    }

    /// Why a block, or what it spent, is not there.
    pub(crate) fn why_missing(&self, id: BlockId) -> &'static str {
        if self.chain().is_pruned(id) { "pruned data" } else { "not fully downloaded" }
    }

    /// A block that must be stored.
    pub(super) fn block(&self, id: BlockId) -> Result<std::sync::Arc<Block>, RpcError> {
        if !self.chain().entry(id).has_data {
            return Err(RpcError::misc(format!("Block not available ({})", self.why_missing(id))));
        }
        self.chain().block(id)?.ok_or_else(|| RpcError::misc("Block not found on disk"))
    }
}

/// The arguments of a call, in their places. What is not given is nothing.
#[derive(Clone, Debug, Default)]
pub struct Args(Vec<Json>);

static NULL: Json = Json::Null;

impl Args {
    /// These.
    #[must_use]
    pub fn new(values: Vec<Json>) -> Self {
        Self(values)
    }

    #[cfg(test)]
    pub(super) fn into_vec(self) -> Vec<Json> {
        self.0
    }

    pub(super) fn as_slice(&self) -> &[Json] {
        &self.0
    }

    /// The one at this place.
    #[must_use]
    pub fn at(&self, index: usize) -> &Json {
        self.0.get(index).unwrap_or(&NULL)
    }

    /// A text.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self, index: usize) -> Result<&str, RpcError> {
        self.at(index).text()
    }

    /// Whether it is true; `default` if it is not given.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub fn bool_or(&self, index: usize, default: bool) -> Result<bool, RpcError> {
        if self.at(index).is_null() { Ok(default) } else { self.at(index).bool() }
    }

    /// A whole number; `default` if it is not given.
    ///
    /// # Errors
    /// It is none.
    pub fn int_or<T: std::str::FromStr>(&self, index: usize, default: T) -> Result<T, RpcError> {
        if self.at(index).is_null() { Ok(default) } else { self.at(index).int() }
    }

    /// A block's hash.
    ///
    /// # Errors
    /// It is none; `name` is told.
    pub fn block_hash(&self, index: usize, name: &str) -> Result<BlockHash, RpcError> {
        Ok(BlockHash::from_byte_array(hash(self.at(index), name)?))
    }

    /// A transaction's id.
    ///
    /// # Errors
    /// It is none; `name` is told.
    pub fn txid(&self, index: usize, name: &str) -> Result<Txid, RpcError> {
        Ok(Txid::from_byte_array(hash(self.at(index), name)?))
    }

    /// How much is told: a number, or true for 1.
    pub(super) fn verbosity(&self, index: usize, default: i32, allow_bool: bool) -> Result<i32, RpcError> {
        match self.at(index) {
            Json::Null => Ok(default),
            Json::Bool(_) if !allow_bool => Err(RpcError::kind("Verbosity was boolean but only integer allowed")),
            Json::Bool(value) => Ok(i32::from(*value)),
            value => value.int(),
        }
    }
}

/// The 32 bytes that a text writes in reverse.
pub(super) fn hash(value: &Json, name: &str) -> Result<[u8; 32], RpcError> {
    let text = value.text()?;
    if text.len() != 64 {
        let words = format!("{name} must be of length 64 (not {}, for '{text}')", text.len());
        return Err(RpcError::param(words));
    }
    let mut bytes = <[u8; 32]>::from_hex(text)
        .map_err(|_| RpcError::param(format!("{name} must be hexadecimal string (not '{text}')")))?;
    bytes.reverse();
    Ok(bytes)
}

/// The bytes that a text writes.
pub(super) fn hex(value: &Json, name: &str) -> Result<Vec<u8>, RpcError> {
    let text = if let Json::Str(text) = value { text } else { "" };
    let bytes = Vec::from_hex(text).ok().filter(|bytes| !bytes.is_empty());
    bytes.ok_or_else(|| RpcError::param(format!("{name} must be hexadecimal string (not '{text}')")))
}

/// An amount in satoshi, of a number or a text with up to eight decimals.
pub(super) fn amount(value: &Json) -> Result<i64, RpcError> {
    fixed(value, 8)
}

/// The same with another count of decimals.
pub(super) fn fixed(value: &Json, decimals: u32) -> Result<i64, RpcError> {
    if !matches!(value, Json::Num(_) | Json::Str(_)) {
        return Err(RpcError::kind("Amount is not a number or string"));
    }
    let amount = parse_fixed(value.raw_text(), decimals).ok_or_else(|| RpcError::kind("Invalid amount"))?;
    if !(0..=bitcoin::Amount::MAX_MONEY.to_sat().cast_signed()).contains(&amount) {
        return Err(RpcError::kind("Amount out of range"));
    }
    Ok(amount)
}

/// A rate in satoshi per 1,000 vbytes.
pub(super) fn fee_rate(value: &Json) -> Result<i64, RpcError> {
    let rate = amount(value)?;
    if rate >= 100_000_000 {
        return Err(RpcError::param("Fee rates larger than or equal to 1BTC/kvB are not accepted"));
    }
    Ok(rate)
}

/// A decimal number as it counts in units of `10^-decimals`; none if it is no such number.
fn parse_fixed(text: &str, decimals: u32) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => {
            let exponent = text[at + 1..].strip_prefix('+').unwrap_or(&text[at + 1..]);
            (&text[..at], exponent.parse::<i32>().ok().filter(|_| !exponent.starts_with('+'))?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let shift = exponent.checked_add(i32::try_from(decimals).ok()?)?.checked_sub(fraction.len().try_into().ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs().min(30))?;
    if value != 0 {
        if shift < 0 {
            if value % power != 0 || shift < -30 {
                return None;
            }
            value /= power;
        } else {
            value = value.checked_mul(power).filter(|_| shift <= 30)?;
        }
    }
    let value = i64::try_from(if negative { -value } else { value }).ok()?;
    (value.unsigned_abs() < 1_000_000_000_000_000_000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_numbers_are_exact() {
        for (text, value) in [
            ("0", Some(0)),
            ("0.00000001", Some(1)),
            ("1e-8", Some(1)),
            ("0.00000001000000", Some(1)),
            ("-0.5", Some(-50_000_000)),
            ("20999999.9999", Some(2_099_999_999_990_000)),
            ("1E3", Some(100_000_000_000)),
            ("0.000000001", None),
            ("1e-9", None),
            ("01", None),
            ("1.", None),
            (".1", None),
            ("+1", None),
            ("", None),
            ("1e", None),
            ("1e11", None),
            ("a", None),
        ] {
            assert_eq!(parse_fixed(text, 8), value, "{text}");
        }
    }

    #[test]
    fn hashes_are_told_as_they_are_wrong() {
        let words = |text: &str| hash(&Json::from(text), "txid").expect_err("refused").message;
        assert_eq!(words("00"), "txid must be of length 64 (not 2, for '00')");
        let text = "z".repeat(64);
        assert_eq!(words(&text), format!("txid must be hexadecimal string (not '{text}')"));
        assert_eq!(amount(&Json::Bool(true)).expect_err("refused").message, "Amount is not a number or string");
        assert_eq!(amount(&Json::from("-1")).expect_err("refused").message, "Amount out of range");
    }
}
