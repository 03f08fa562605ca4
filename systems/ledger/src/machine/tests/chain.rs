use std::str::FromStr as _;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use tendermint::block::Header;
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::types::{LightBlock, TrustThreshold, ValidatorSet};
use tendermint_light_client_verifier::{ProdVerifier, Verdict, Verifier as _};

use super::rig::Rig;
use crate::machine::{LedgerConfig, Page, PoolLimits, Query, Reply};
use crate::wire::{Proof, Reader, leaf_hash, put_varint, sha256};

const ALL: Page = Page { page: None, per_page: None };

/// A chain with some transactions.
fn chain() -> Rig {
    let mut rig = Rig::new();
    for text in ["a=1", "b=2", "c=3", "a=4"] {
        assert!(matches!(rig.tx(text), Reply::Checked(check) if check.code == 0));
    }
    rig.settle();
    rig
}

fn light_block(rig: &mut Rig, height: i64) -> LightBlock {
    let commit = rig.json(&Query::Commit { height: Some(height) });
    let set = |rig: &mut Rig, height| {
        let validators = rig.json(&Query::Validators { height: Some(height), page: ALL });
        let list: Vec<tendermint::validator::Info> =
            serde_json::from_value(validators["validators"].clone()).expect("a set");
        ValidatorSet::without_proposer(list)
    };
    let signed = serde_json::from_value(commit["signed_header"].clone()).expect("a signed header");
    let (now, next) = (set(rig, height), set(rig, height + 1));
    LightBlock::new(signed, now, next, "0000000000000000000000000000000000000000".parse().expect("an id"))
}

#[test]
fn a_light_client_follows_the_chain() {
    let mut rig = chain();
    let height = i64::try_from(rig.ledger.height()).expect("small");
    assert!(height >= 3, "first, transactions, proof: {height}");
    let options = Options {
        trust_threshold: TrustThreshold::TWO_THIRDS,
        trusting_period: Duration::from_secs(1 << 30),
        clock_drift: Duration::from_secs(5),
    };
    let now = tendermint::Time::from_str("2026-02-01T00:00:00Z").expect("a moment");
    let mut trusted = light_block(&mut rig, 1);
    for at in 2..=height {
        let next = light_block(&mut rig, at);
        let verdict = ProdVerifier::default().verify_update_header(
            next.as_untrusted_state(),
            trusted.as_trusted_state(),
            &options,
            now,
        );
        assert_eq!(verdict, Verdict::Success, "height {at}");
        trusted = next;
    }
}

#[test]
fn blocks_are_the_bytes_that_prost_would_write() {
    let rig = chain();
    for stored in rig.ledger.store.iter() {
        use tendermint_proto::v0_38::types::Block as Theirs;
        let theirs = Theirs::decode(&stored.encoded[..]).expect("their block");
        assert_eq!(theirs.encode_to_vec(), stored.encoded);
        let header: Value = serde_json::to_value(&stored.block.header).expect("JSON");
        let header: Header = serde_json::from_value(header).expect("their header");
        assert_eq!(header.hash().as_bytes(), &stored.id.hash[..]);
        let block: tendermint::Block =
            serde_json::from_value(serde_json::to_value(&stored.block).expect("JSON")).expect("their block");
        assert_eq!(block.header.last_commit_hash.expect("there").as_bytes(), stored.block.last_commit.hash());
    }
}

#[test]
fn what_is_read_parses_with_the_rust_client() {
    use tendermint_rpc::endpoint::{
        abci_info, block, block_results, blockchain, commit, consensus_params, consensus_state, tx, tx_search,
        validators,
    };
    let mut rig = chain();
    macro_rules! parses {
        ($kind:ty, $query:expr) => {{
            let text = rig.ask(&$query).expect("an answer");
            serde_json::from_str::<$kind>(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        }};
    }
    let height = Some(2);
    assert_eq!(parses!(block::Response, Query::Block { height }).block.header.height.value(), 2);
    parses!(block_results::Response, Query::BlockResults { height });
    parses!(commit::Response, Query::Commit { height: None });
    parses!(blockchain::Response, Query::Blockchain { min: 0, max: 0 });
    assert_eq!(parses!(validators::Response, Query::Validators { height: None, page: ALL }).total, 4);
    parses!(consensus_params::Response, Query::ConsensusParams { height: None });
    parses!(abci_info::Response, Query::AbciInfo);
    parses!(consensus_state::Response, Query::ConsensusState);
    let found = parses!(
        tx_search::Response,
        Query::TxSearch { query: "app.key='a'".into(), prove: true, page: ALL, order_by: "desc".into() }
    );
    assert_eq!(found.total_count, 2, "a=1 and a=4");
    assert!(found.txs[0].height >= found.txs[1].height);
    let hash = Bytes::copy_from_slice(&sha256(b"b=2"));
    let one = parses!(tx::Response, Query::Tx { hash, prove: true });
    assert_eq!(one.tx, b"b=2");
    assert_eq!(one.proof.expect("it was asked for").data, b"b=2");
}

#[test]
fn a_value_is_proved_against_the_next_header() {
    let mut rig = chain();
    let query = Query::AbciQuery { path: "/store".into(), data: "a".into(), height: 0, prove: true };
    let answer = rig.json(&query)["response"].clone();
    assert_eq!(answer["value"], crate::wire::base64(b"4"));
    let op = &answer["proofOps"]["ops"][0];
    assert_eq!(op["type"], "simple:v");
    let data = crate::wire::from_base64(op["data"].as_str().expect("text")).expect("base64");
    let mut proof = None;
    Reader::new(data.into())
        .fields(|field| {
            if field.number == 2 {
                proof = Some(Proof::read(field.message()?)?);
            }
            Ok(())
        })
        .expect("a message");
    let proof = proof.expect("a proof");
    let mut leaf = Vec::new();
    for part in [&b"a"[..], &sha256(b"4")] {
        put_varint(&mut leaf, part.len() as u64);
        leaf.extend_from_slice(part);
    }
    assert_eq!(&proof.leaf_hash.0[..], leaf_hash(&leaf));
    let next = answer["height"].as_str().expect("text").parse::<i64>().expect("a height") + 1;
    assert_eq!(next, i64::try_from(rig.ledger.height()).expect("small"), "it is there already");
    let header = rig.json(&Query::Header { height: Some(next) })["header"].clone();
    let root = crate::wire::hex_upper(&proof.root().expect("it leads somewhere"));
    assert_eq!(header["app_hash"], root.as_str(), "the proof block says it, and no other may ever come");
}

#[test]
fn a_block_waits_for_more_than_two_thirds() {
    let mut rig = Rig::new();
    rig.tx("a=1");
    assert_eq!(rig.ledger.height(), 0);
    rig.vote(0, 1);
    rig.vote(1, 1);
    assert_eq!(rig.vote(1, 2), Reply::Refused("a vote that is there".into()));
    assert_eq!(rig.ledger.height(), 0, "two of four are not enough");
    assert_eq!(rig.vote(2, 0), Reply::Refused("a vote before its block".into()));
    rig.keys[3] = crate::SigningKey::from([99; 32]);
    assert_eq!(rig.vote(3, 1), Reply::Refused("nobody's vote".into()));
    assert_eq!(rig.vote(2, 1), Reply::Done);
    assert_eq!(rig.ledger.height(), 1);
}

#[test]
fn transactions_are_refused_in_cometbfts_words() {
    let pool = PoolLimits { count_max: 3, tx_bytes_max: 10, cache_max: 3, ..PoolLimits::default() };
    let mut rig = Rig::with(LedgerConfig { pool, ..LedgerConfig::default() });
    assert!(matches!(rig.tx("novalue"), Reply::Checked(check) if check.code == 2));
    assert!(matches!(rig.tx("val=x!y!1"), Reply::Checked(check) if check.code == 3));
    assert_eq!(rig.tx("key=0123456789"), Reply::Refused("Tx too large. Max size is 10, but got 14".into()));
    rig.tx("a=1");
    assert_eq!(rig.tx("a=1"), Reply::Refused("tx already exists in cache".into()));
    rig.tx("b=1");
    rig.tx("c=1");
    let full = "mempool is full: number of txs 3 (max: 3), total txs bytes 9 (max: 67108864)";
    assert_eq!(rig.tx("d=1"), Reply::Refused(full.into()));
    rig.settle();
    assert!(matches!(rig.tx("d=1"), Reply::Checked(_)));
}

#[test]
fn old_blocks_go_and_their_transactions_with_them() {
    let mut rig = Rig::with(LedgerConfig { retain_blocks: 3, ..LedgerConfig::default() });
    for number in 0..8 {
        rig.tx(&format!("k{number}=v"));
        rig.settle();
    }
    let height = rig.ledger.height();
    assert_eq!(rig.ledger.store.base(), height - 2);
    let first = rig.ask(&Query::Block { height: Some(1) });
    assert_eq!(first, Err(format!("height 1 is not available, lowest height is {}", height - 2)));
    let search =
        |query: &str| Query::TxSearch { query: query.into(), prove: false, page: ALL, order_by: String::new() };
    assert_eq!(rig.json(&search("app.key='v'"))["total_count"], "1", "the last one is there");
    assert_eq!(rig.json(&search("app.key='k0'"))["total_count"], "0");
    assert_eq!(rig.json(&search("tx.height > 0 AND app.key CONTAINS 'k'"))["total_count"], "1");
    let blocks =
        Query::BlockSearch { query: format!("block.height >= {}", height - 1), page: ALL, order_by: String::new() };
    assert_eq!(rig.json(&blocks)["total_count"], "2");
}

/// Each condition has as many values as there are transactions: this takes minutes if places are looked up value by value.
#[test]
fn a_search_takes_no_square() {
    const COUNT: usize = 40_000;
    let pool = PoolLimits { count_max: COUNT, ..PoolLimits::default() };
    let mut rig = Rig::with(LedgerConfig { pool, ..LedgerConfig::default() });
    for at in 0..COUNT {
        rig.tx(&format!("k{at}=v{at}"));
    }
    rig.settle();
    let query = "app.key EXISTS AND app.key CONTAINS 'k' AND app.key CONTAINS 'v' AND tx.height > 0";
    let found = rig.json(&Query::TxSearch { query: query.into(), prove: false, page: ALL, order_by: "asc".into() });
    assert_eq!(found["total_count"], COUNT.to_string());
    let one = "app.key CONTAINS 'k' AND app.key = 'k77' AND app EXISTS";
    let found = rig.json(&Query::TxSearch { query: one.into(), prove: false, page: ALL, order_by: "asc".into() });
    assert_eq!(found["total_count"], "1");
}
