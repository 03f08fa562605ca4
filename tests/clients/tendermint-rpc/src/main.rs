//! `verity-client-tendermint-rpc HOSTS SCENARIO`: the `tendermint-rpc` crate against a ledger, by HTTP and by WebSocket.
//!
//! It prints `done`; what it finds fault with is a panic.

use std::time::Duration;

use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tendermint::block::Height;
use tendermint_light_client_verifier::options::Options;
use tendermint_light_client_verifier::types::{LightBlock, TrustThreshold, ValidatorSet};
use tendermint_light_client_verifier::{ProdVerifier, Verdict, Verifier as _};
use tendermint_proto::v0_38::crypto::ValueOp;
use tendermint_rpc::event::EventData;
use tendermint_rpc::query::{EventType, Query};
use tendermint_rpc::{Client, HttpClient, Order, Paging, SubscriptionClient as _, WebSocketClient};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (hosts, scenario) = (arguments.next().expect("hosts"), arguments.next().expect("a scenario"));
    let hosts: Vec<&str> = hosts.split(',').collect();
    let http = |node: usize| HttpClient::new(format!("http://{}", hosts[node]).as_str()).expect("a URL");
    let socket = async |node: usize| {
        let url = format!("ws://{}/websocket", hosts[node]);
        let (client, driver) = WebSocketClient::new(url.as_str()).await.expect("it connects");
        (client, tokio::spawn(driver.run()))
    };
    match scenario.as_str() {
        "http" => surface(&http(0), "http", hosts.len()).await,
        "websocket" => {
            let (client, driver) = socket(1).await;
            surface(&client, "websocket", hosts.len()).await;
            client.close().expect("it is open");
            driver.await.expect("it runs").expect("nothing went wrong");
        }
        "light" => light(&http(0), &http(2)).await,
        "proof" => proof(&http(3)).await,
        "events" => {
            let (client, _driver) = socket(1).await;
            events(&http(0), &client).await;
        }
        other => panic!("there is no scenario {other}"),
    }
    println!("done");
}

/// Every method.
async fn surface(client: &(impl Client + Sync), way: &str, nodes: usize) {
    client.health().await.expect("it is well");
    let status = client.status().await.expect("a status");
    assert!(!status.sync_info.catching_up);
    let genesis = client.genesis::<Option<serde_json::Value>>().await.expect("a genesis");
    assert_eq!(genesis.chain_id, status.node_info.network);
    assert_eq!(genesis.validators.len(), nodes);
    let chunk = client.genesis_chunked(0).await.expect("a part of it");
    assert_eq!((chunk.chunk, chunk.total), (0, 1));
    client.net_info().await.expect("peers, or none");
    client.consensus_state().await.expect("a round");

    let (key, value) = (format!("rust-{way}"), "1");
    let tx = format!("{key}={value}").into_bytes();
    let sent = client.broadcast_tx_commit(tx.clone()).await.expect("it is committed");
    assert!(sent.check_tx.code.is_ok() && sent.tx_result.code.is_ok());
    let height = sent.height;
    let again = client.broadcast_tx_sync(tx.clone()).await.expect_err("it was there");
    assert!(again.to_string().contains("tx already exists in cache"), "{again}");
    let refused = client.broadcast_tx_sync(b"no pair".to_vec()).await.expect("it is checked");
    assert_eq!(refused.code.value(), 2);
    client.broadcast_tx_async(format!("{key}-async=1").into_bytes()).await.expect("it is taken");

    let info = client.abci_info().await.expect("an application");
    assert!(info.last_block_height >= height);
    let queried = client.abci_query(Some("/key".into()), key.clone(), None, false).await.expect("an answer");
    assert_eq!(queried.value, value.as_bytes());

    let block = client.block(height).await.expect("a block");
    assert_eq!(block.block.header.hash(), block.block_id.hash, "the header has the hash that it is called by");
    assert!(block.block.data.contains(&tx));
    assert_eq!(client.block_by_hash(block.block_id.hash).await.expect("it").block, Some(block.block.clone()));
    assert_eq!(client.header(height).await.expect("a header").header, block.block.header);
    let by_hash = client.header_by_hash(block.block_id.hash).await.expect("a header");
    assert_eq!(by_hash.header, Some(block.block.header.clone()));
    let results = client.block_results(height).await.expect("results");
    assert_eq!(results.txs_results.expect("there are some").len(), block.block.data.len());
    let chain = client.blockchain(Height::from(1u32), height).await.expect("headers");
    assert!(chain.block_metas.iter().any(|meta| meta.header.height == height));
    assert!(client.commit(height).await.expect("a commit").signed_header.commit.signatures.len() == nodes);
    client.consensus_params(height).await.expect("parameters");
    assert_eq!(client.validators(height, Paging::All).await.expect("validators").validators.len(), nodes);

    let found = client.tx(sent.hash, true).await.expect("it is there");
    let proof = found.proof.expect("it was asked for");
    assert_eq!(proof.data, tx);
    assert_eq!(Some(proof.root_hash), block.block.header.data_hash);
    let query = Query::eq("app.key", key.as_str()).and_gte("tx.height", height.value());
    let found = client.tx_search(query, true, 1, 10, Order::Ascending).await.expect("a search");
    assert_eq!((found.total_count, found.txs[0].hash), (1, sent.hash));
    let query = Query::eq("block.height", height.value());
    let blocks = client.block_search(query, 1, 10, Order::Descending).await.expect("a search");
    assert_eq!((blocks.total_count, blocks.blocks[0].block_id), (1, block.block_id));
    client.block(Height::from(1_000_000_000u32)).await.expect_err("it does not exist yet");
}

async fn light_block(client: &HttpClient, height: Height) -> LightBlock {
    let signed = client.commit(height).await.expect("a commit").signed_header;
    let set = async |height: Height| {
        let all = client.validators(height, Paging::All).await.expect("validators").validators;
        ValidatorSet::with_proposer(all, signed.header.proposer_address).expect("the proposer is one of them")
    };
    let (now, next) = (set(height).await, set(height.increment()).await);
    let id = client.status().await.expect("a status").node_info.id;
    LightBlock::new(signed, now, next, id)
}

/// A light client goes from the first block to the last, one by one and in one leap, at two nodes.
async fn light(primary: &HttpClient, witness: &HttpClient) {
    for at in 0..3 {
        primary.broadcast_tx_commit(format!("light-{at}=1").into_bytes()).await.expect("it is committed");
    }
    let last = witness.status().await.expect("a status").sync_info.latest_block_height;
    let options = Options {
        trust_threshold: TrustThreshold::TWO_THIRDS,
        trusting_period: Duration::from_secs(3_600),
        clock_drift: Duration::from_secs(5),
    };
    let first = light_block(primary, Height::from(1u32)).await;
    let verify = |next: &LightBlock, trusted: &LightBlock| {
        let (next, trusted) = (next.as_untrusted_state(), trusted.as_trusted_state());
        ProdVerifier::default().verify_update_header(next, trusted, &options, tendermint::Time::now())
    };
    let mut trusted = first.clone();
    while trusted.height() < last {
        let next = light_block(primary, trusted.height().increment()).await;
        assert_eq!(verify(&next, &trusted), Verdict::Success, "height {}", next.height());
        trusted = next;
    }
    let leap = light_block(witness, last).await;
    assert_eq!(verify(&leap, &first), Verdict::Success);
    assert_eq!(leap.signed_header.header.hash(), trusted.signed_header.header.hash());
    let mut forged = leap;
    forged.signed_header.header.app_hash = vec![7; 32].try_into().expect("a hash");
    assert!(!matches!(verify(&forged, &first), Verdict::Success), "a header that was not signed");
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().to_vec()
}

fn root(index: i64, total: i64, leaf: Vec<u8>, aunts: &[Vec<u8>]) -> Vec<u8> {
    let Some((last, rest)) = aunts.split_last() else {
        assert_eq!((index, total), (0, 1), "the path ends at the root");
        return leaf;
    };
    let left = (total as u64).next_power_of_two() as i64 / 2;
    if index < left {
        hash(&[&[1], &root(index, left, leaf, rest), last])
    } else {
        hash(&[&[1], last, &root(index - left, total - left, leaf, rest)])
    }
}

/// What a query answers is what the next header's hash says, which a commit signs.
async fn proof(client: &HttpClient) {
    let (key, value) = ("proved", "so");
    client.broadcast_tx_commit(format!("{key}={value}").into_bytes()).await.expect("it is committed");
    let answer = client.abci_query(Some("/key".into()), key, None, true).await.expect("an answer");
    let ops = answer.proof.expect("it was asked for").ops;
    let [op] = &ops[..] else { panic!("one step: {ops:?}") };
    assert_eq!((op.field_type.as_str(), &op.key[..]), ("simple:v", key.as_bytes()));
    let op: ValueOp = prost::Message::decode(&op.data[..]).expect("an operator");
    let proof = op.proof.expect("it has a path");
    let sized = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
    let leaf = hash(&[&[0], &sized(key.as_bytes()), &sized(&hash(&[value.as_bytes()]))]);
    assert_eq!(leaf, proof.leaf_hash);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let signed = loop {
        match client.commit(answer.height.increment()).await {
            Ok(commit) => break commit.signed_header,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "no header says it: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(root(proof.index, proof.total, leaf, &proof.aunts), signed.header.app_hash.as_bytes());
}

/// Blocks and transactions are told to whom asks for them.
async fn events(http: &HttpClient, socket: &WebSocketClient) {
    let mut blocks = socket.subscribe(EventType::NewBlock.into()).await.expect("it is subscribed");
    let mut all = socket.subscribe(EventType::Tx.into()).await.expect("it is subscribed");
    let wished = Query::from(EventType::Tx).and_eq("app.key", "event-1");
    let mut one = socket.subscribe(wished.clone()).await.expect("it is subscribed");
    for at in 0..3 {
        http.broadcast_tx_commit(format!("event-{at}=x").into_bytes()).await.expect("it is committed");
    }
    let told = async |of: &mut tendermint_rpc::Subscription| {
        let event = tokio::time::timeout(PATIENCE, of.next()).await.expect("in time").expect("it goes on");
        event.expect("an event")
    };
    for at in 0..3 {
        let EventData::Tx { tx_result } = told(&mut all).await.data else { panic!("a transaction") };
        assert_eq!(tx_result.tx, format!("event-{at}=x").into_bytes());
    }
    let event = told(&mut one).await;
    let EventData::Tx { tx_result } = event.data else { panic!("a transaction") };
    assert_eq!(tx_result.tx, b"event-1=x");
    assert_eq!(event.events.expect("there are some")["app.key"], ["event-1", "x"]);
    let mut last = None;
    while last.is_none_or(|last| last < tx_result.height) {
        let EventData::NewBlock { block, .. } = told(&mut blocks).await.data else { panic!("a block") };
        let height = i64::from(block.expect("it is there").header.height);
        assert!(last.is_none_or(|last| height == last + 1), "no height is left out");
        last = Some(height);
    }
    socket.unsubscribe(wished.clone()).await.expect("it was subscribed");
    socket.subscribe(wished).await.expect("it may be subscribed again");
}
