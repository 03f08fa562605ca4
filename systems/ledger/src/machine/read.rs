//! Answers, in the words of CometBFT's `rpc/core`.

use bytes::Bytes;
use serde_json::json;

use super::app::AppQuery;
use super::index::Place;
use super::ledger::Ledger;
use super::query::{Page, Query};
use super::show::{
    BlockEvents, BlockMeta, Outcome, Response, ResultAbciInfo, ResultAbciQuery, ResultBlock, ResultBlockResults,
    ResultBlockSearch, ResultBlockchain, ResultCommit, ResultConsensusParams, ResultHeader, ResultTx, ResultTxSearch,
    ResultUnconfirmedTxs, ResultValidators, SignedHeader, SyncInfo, json,
};
use super::store::Stored;
use crate::wire::{
    B64, Commit, Hex, Int, QUERY_SIZE_MAX, Query as Search, QueryResponse, Tags, Time, Tx, Uint, Vote, hex_upper,
};

/// `defaultPerPage`, `maxPerPage`.
const PER_PAGE: usize = 30;
const PER_PAGE_MAX: usize = 100;
/// The most headers that one answer has.
const BLOCKCHAIN_MAX: i64 = 20;
const BLOCK_HEIGHT: &str = "block.height";

type Json = Result<String, String>;

fn per_page(wished: Option<i64>) -> usize {
    match wished.map(usize::try_from) {
        Some(Ok(wished)) if wished > 0 => wished.min(PER_PAGE_MAX),
        _ => PER_PAGE,
    }
}

/// Which of so many are on a page.
fn paged(page: Page, total: usize) -> Result<std::ops::Range<usize>, String> {
    let per_page = per_page(page.per_page);
    let pages = total.div_ceil(per_page).max(1);
    let number = match page.page {
        None => 1,
        Some(page) => usize::try_from(page)
            .ok()
            .filter(|page| (1..=pages).contains(page))
            .ok_or_else(|| format!("page should be within [1, {pages}] range, given {page}"))?,
    };
    let first = (number - 1) * per_page;
    Ok(first..(first + per_page).min(total))
}

fn ordered<T>(mut list: Vec<T>, order_by: &str, usual: &str) -> Result<Vec<T>, String> {
    match if order_by.is_empty() { usual } else { order_by } {
        "asc" => {}
        "desc" => list.reverse(),
        _ => return Err("expected order_by to be either `asc` or `desc` or empty".to_owned()),
    }
    Ok(list)
}

fn search(query: &str) -> Result<Search, String> {
    if query.len() > QUERY_SIZE_MAX {
        return Err("maximum query length exceeded".to_owned());
    }
    Search::parse(query).map_err(|error| error.to_string())
}

fn of_block(stored: Option<&Stored>) -> ResultBlock<'_> {
    ResultBlock {
        block_id: stored.map(|stored| stored.id).unwrap_or_default(),
        block: stored.map(|stored| &stored.block),
    }
}

impl Ledger {
    /// The height that is meant; `latest` if none is named.
    fn height_of(&self, named: Option<i64>, latest: u64) -> Result<u64, String> {
        let Some(height) = named else { return Ok(latest) };
        let Some(height) = u64::try_from(height).ok().filter(|height| *height > 0) else {
            return Err(format!("height must be greater than 0, but got {height}"));
        };
        if height > latest {
            return Err(format!(
                "height {height} must be less than or equal to the current blockchain height {latest}"
            ));
        }
        if height < self.store.base() {
            return Err(format!("height {height} is not available, lowest height is {}", self.store.base()));
        }
        Ok(height)
    }

    fn stored(&self, named: Option<i64>) -> Result<Option<&Stored>, String> {
        let height = self.height_of(named, self.store.height())?;
        Ok(self.store.get(height).map(|stored| &**stored))
    }

    /// Answers a question.
    pub(super) fn answer(&mut self, query: Query) -> Json {
        match query {
            Query::Status => Ok(self.status()),
            Query::Blockchain { min, max } => self.blockchain(min, max),
            Query::Block { height } => Ok(json(&of_block(self.stored(height)?))),
            Query::BlockByHash { hash } => Ok(json(&of_block(self.store.by_hash(&hash).map(|stored| &**stored)))),
            Query::BlockResults { height } => self.block_results(height),
            Query::Commit { height } => self.commit(height),
            Query::Header { height } => {
                let header = self.stored(height)?.map(|stored| &stored.block.header);
                Ok(json(&ResultHeader { header }))
            }
            Query::HeaderByHash { hash } => {
                let header = self.store.by_hash(&hash).map(|stored| &stored.block.header);
                Ok(json(&ResultHeader { header }))
            }
            Query::Validators { height, page } => self.validators(height, page),
            Query::ConsensusParams { height } => {
                let block_height = Uint(self.height_of(height, self.store.height() + 1)?);
                Ok(json(&ResultConsensusParams { block_height, consensus_params: &self.params }))
            }
            Query::Tx { hash, prove } => self.tx(&hash, prove),
            Query::TxSearch { query, prove, page, order_by } => self.tx_search(&query, prove, page, &order_by),
            Query::BlockSearch { query, page, order_by } => self.block_search(&query, page, &order_by),
            Query::UnconfirmedTxs { limit } => {
                let txs: Vec<Tx<'_>> = self.pool.waiting().take(per_page(limit)).map(|tx| Tx(tx)).collect();
                Ok(self.unconfirmed(txs.len(), Some(txs)))
            }
            Query::NumUnconfirmedTxs => Ok(self.unconfirmed(self.pool.count(), None)),
            Query::ConsensusState => Ok(json!({ "round_state": self.round_state() }).to_string()),
            Query::DumpConsensusState => Ok(json!({ "round_state": self.round_state(), "peers": [] }).to_string()),
            Query::AbciInfo => Ok(json(&ResultAbciInfo { response: self.app.info() })),
            Query::AbciQuery { path, data, height, prove } => {
                let mut response = self.app.query(&AppQuery { path, data, height, prove });
                self.date_proof(&mut response);
                let answer: ResultAbciQuery = Response { response };
                Ok(json(&answer))
            }
            Query::CheckTx { tx } => Ok(json(&self.app.check_tx(&tx))),
            Query::Events { height } => {
                let stored = self.store.get(height).ok_or("the block is gone")?;
                Ok(json(&BlockEvents::of(stored)))
            }
            Query::Results { height, indexes } => {
                let stored = self.store.get(height).ok_or("the block is gone")?;
                let known = indexes.into_iter().filter(|index| (*index as usize) < stored.results.len());
                let outcome = |index| Outcome { index, tx_result: stored.result(index as usize) };
                Ok(json(&known.map(outcome).collect::<Vec<_>>()))
            }
            Query::Unsigned { .. } => Err("it is answered elsewhere".to_owned()),
        }
    }

    /// A proof is for the header of the next height. Where the last header says the state that was asked already, the next
    /// one may never come: the state is that of the height before, too.
    fn date_proof(&self, response: &mut QueryResponse) {
        let is_said = self.tip.height > 0 && self.tip.said == self.tip.app_hash;
        if is_said && !response.proof.is_empty() && response.height == self.tip.height.cast_signed() {
            response.height -= 1;
        }
    }

    fn status(&self) -> String {
        let none = || (Hex::default(), Hex::default(), Time { seconds: 0, nanos: 0 });
        let of = |height| {
            self.store.get(height).map_or_else(none, |stored| {
                let header = &stored.block.header;
                (Hex::from(&stored.id.hash), Hex(header.app_hash.clone()), header.time)
            })
        };
        let (latest, earliest) = (of(self.store.height()), of(self.store.base()));
        json(&SyncInfo {
            latest_block_hash: latest.0,
            latest_app_hash: latest.1,
            latest_block_height: Uint(self.store.height()),
            latest_block_time: latest.2,
            earliest_block_hash: earliest.0,
            earliest_app_hash: earliest.1,
            earliest_block_height: Uint(self.store.base()),
            earliest_block_time: earliest.2,
            catching_up: false,
        })
    }

    fn blockchain(&self, min: i64, max: i64) -> Json {
        if min < 0 || max < 0 {
            return Err("heights must be non-negative".to_owned());
        }
        let (base, height) = (self.store.base().cast_signed(), self.store.height().cast_signed());
        let max = if max == 0 { height } else { max.min(height) };
        let min = min.max(1).max(base).max(max - BLOCKCHAIN_MAX + 1);
        if min > max {
            return Err(format!("min height {min} can't be greater than max height {max}"));
        }
        let heights = (min..=max).rev().map(i64::cast_unsigned);
        let block_metas = heights.filter_map(|height| self.store.get(height)).map(|stored| BlockMeta::of(stored));
        Ok(json(&ResultBlockchain { last_height: Uint(self.store.height()), block_metas: block_metas.collect() }))
    }

    fn block_results(&self, height: Option<i64>) -> Json {
        let stored = self.stored(height)?.ok_or("could not find results for height #0")?;
        let results = stored.decoded();
        Ok(json(&ResultBlockResults {
            height: Uint(stored.height()),
            txs_results: (!results.is_empty()).then_some(results),
            finalize_block_events: &stored.events,
            validator_updates: None,
            consensus_param_updates: None,
            app_hash: B64(stored.app_hash.clone()),
        }))
    }

    fn commit(&self, height: Option<i64>) -> Json {
        let Some(stored) = self.stored(height)? else { return Ok("null".to_owned()) };
        let next = self.store.get(stored.height() + 1);
        let commit: &Commit = next.map_or(&self.tip.seen, |next| &next.block.last_commit);
        let signed_header = SignedHeader { header: &stored.block.header, commit };
        Ok(json(&ResultCommit { signed_header, canonical: next.is_some() }))
    }

    fn validators(&self, height: Option<i64>, page: Page) -> Json {
        let height = self.height_of(height, self.store.height() + 1)?;
        let total = self.validators.count();
        let page = paged(page, total)?;
        let validators = self.validators.shown(height)[page].to_vec();
        let (count, total) = (Int::count(validators.len()), Int::count(total));
        Ok(json(&ResultValidators { block_height: Uint(height), validators, count, total }))
    }

    fn tx(&self, hash: &Bytes, prove: bool) -> Json {
        if hash.is_empty() {
            return Err("transaction hash cannot be empty".to_owned());
        }
        let found = self.index.get(hash).and_then(|(height, index)| Some((self.store.get(height)?, index)));
        let (stored, index) = found.ok_or_else(|| format!("tx ({}) not found", hex_upper(hash)))?;
        Ok(json(&ResultTx::of(stored, index, prove)))
    }

    fn tx_search(&self, query: &str, prove: bool, page: Page, order_by: &str) -> Json {
        let all = || {
            let places = |stored: &Stored| {
                let height = stored.height();
                (0..stored.results.len()).map(move |at| (height, u32::try_from(at).expect("a block is bounded")))
            };
            self.store.iter().flat_map(|stored| places(stored)).collect::<Vec<Place>>()
        };
        let found = ordered(self.index.search(&search(query)?, all)?, order_by, "asc")?;
        let page = paged(page, found.len())?;
        let txs = found[page].iter().filter_map(|(height, index)| Some((self.store.get(*height)?, *index)));
        let txs = txs.map(|(stored, index)| ResultTx::of(stored, index, prove)).collect();
        Ok(json(&ResultTxSearch { txs, total_count: Int::count(found.len()) }))
    }

    fn block_search(&self, query: &str, page: Page, order_by: &str) -> Json {
        let query = search(query)?;
        let asked = |stored: &&Stored| {
            let mut tags = Tags::from([(BLOCK_HEIGHT.to_owned(), vec![stored.height().to_string()])]);
            for event in &stored.events {
                for attribute in event.attributes.iter().filter(|attribute| attribute.index) {
                    let tag = format!("{}.{}", event.r#type, attribute.key);
                    tags.entry(tag).or_default().push(attribute.value.clone().into_owned());
                }
            }
            query.matches(&tags)
        };
        let found: Vec<&Stored> = self.store.iter().map(|stored| &**stored).filter(asked).collect();
        let found = ordered(found, order_by, "desc")?;
        let page = paged(page, found.len())?;
        let blocks = found[page].iter().map(|stored| of_block(Some(stored))).collect();
        Ok(json(&ResultBlockSearch { blocks, total_count: Int::count(found.len()) }))
    }

    fn unconfirmed(&self, count: usize, txs: Option<Vec<Tx<'_>>>) -> String {
        let (n_txs, total) = (Int::count(count), Int::count(self.pool.count()));
        json(&ResultUnconfirmedTxs { n_txs, total, total_bytes: Uint(self.pool.bytes()), txs })
    }

    /// `RoundStateSimple`: between blocks the step is NewHeight (1), while one is voted for it is Precommit (6).
    fn round_state(&self) -> serde_json::Value {
        let (height, step) = (self.tip.height + 1, if self.proposal.is_some() { 6 } else { 1 });
        let none = vec!["nil-Vote".to_owned(); self.validators.count()];
        let votes = self.proposal.as_ref().map(|proposal| &proposal.votes);
        let precommits = votes.map_or_else(|| none.clone(), vote_strings);
        let hash = votes.map_or_else(String::new, |votes| hex_upper(&votes.block_id.hash));
        let proposer = self.validators.proposer(height);
        json!({
            "height/round/step": format!("{height}/0/{step}"),
            "start_time": self.tip.time,
            "proposal_block_hash": &hash,
            "locked_block_hash": &hash,
            "valid_block_hash": &hash,
            "height_vote_set": [{
                "round": 0,
                "prevotes": &none,
                "prevotes_bit_array": bit_array(&none),
                "precommits": &precommits,
                "precommits_bit_array": bit_array(&precommits),
            }],
            "proposer": { "address": hex_upper(&self.validators.address(proposer)), "index": proposer },
        })
    }
}

/// Votes as CometBFT's `Vote.String` writes them.
fn vote_strings(commit: &Commit) -> Vec<String> {
    let fingerprint = |bytes: &[u8]| hex_upper(bytes.first_chunk::<6>().unwrap_or(&[0; 6]));
    let string = |(at, vote): (usize, Option<Vote>)| match vote {
        Some(vote) => format!(
            "Vote{{{at}:{} {}/00/SIGNED_MSG_TYPE_PRECOMMIT(Precommit) {} {} 000000000000 @ {}}}",
            fingerprint(&vote.address),
            vote.height,
            fingerprint(&commit.block_id.hash),
            fingerprint(&vote.signature),
            vote.time
        ),
        None => "nil-Vote".to_owned(),
    };
    let vote = |signature: &crate::wire::CommitSig| {
        let (time, address, signature) = signature.vote.clone()?;
        Some(Vote { height: commit.height, address, time, signature })
    };
    commit.signatures.iter().map(vote).enumerate().map(string).collect()
}

fn bit_array(votes: &[String]) -> String {
    let bits: String = votes.iter().map(|vote| if vote == "nil-Vote" { '_' } else { 'x' }).collect();
    let set = bits.chars().filter(|bit| *bit == 'x').count();
    #[expect(clippy::cast_precision_loss, reason = "they are members of a group")]
    let share = set as f64 / votes.len() as f64;
    format!("BA{{{}:{bits}}} {set}/{} = {share:.2}", votes.len(), votes.len())
}
