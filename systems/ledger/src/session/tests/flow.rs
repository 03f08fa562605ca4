use serde_json::{Value, json};
use tendermint_rpc::endpoint;
use verity_contract::SessionInput;
use verity_types::{Mono, Nanos};

use super::world::World;
use crate::machine::Command;
use crate::wire::base64;

#[test]
fn a_transaction_is_sent_committed_and_found() {
    let mut world = World::new();
    world.order(&Command::Cut);
    assert_eq!(world.ledger.height(), 1, "four validators signed");
    let answer = world.call("broadcast_tx_commit", &json!({ "tx": base64(b"name=satoshi") }));
    assert_eq!(answer["id"], 7);
    let result = &answer["result"];
    assert_eq!((&result["check_tx"]["code"], &result["height"]), (&json!(0), &json!("2")));
    assert_eq!(result["tx_result"]["events"][0]["attributes"][1]["value"], "name");
    let parsed: endpoint::broadcast::tx_commit::Response =
        serde_json::from_value(result.clone()).expect("the client's");
    let hash = parsed.hash.to_string();
    let again = world.call("broadcast_tx_sync", &json!([base64(b"name=satoshi")]));
    assert_eq!(again["error"]["code"], -32603);
    assert_eq!(again["error"]["data"], "tx already exists in cache");
    let (status, found) = world.get(&format!("/tx?hash=0x{hash}&prove=true"));
    assert_eq!(status, "200");
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!((&found["id"], &found["result"]["height"]), (&json!(-1), &json!("2")));
    let (_, found) = world.get("/tx_search?query=%22app.key%3D%27name%27%22&order_by=%22asc%22");
    assert!(found.contains("\"total_count\":\"1\""), "{found}");
    let (_, found) = world.get("/abci_query?data=%22name%22");
    assert!(found.contains(&base64(b"satoshi")), "{found}");
    let status = world.call("status", &json!({}));
    let status: endpoint::status::Response = serde_json::from_value(status["result"].clone()).expect("the client's");
    assert_eq!(status.sync_info.latest_block_height.value(), 3, "a proof block follows");
    let genesis = world.call("genesis", &Value::Null);
    serde_json::from_value::<endpoint::genesis::Response<Option<Value>>>(genesis["result"].clone())
        .expect("the client's");
    let net = world.call("net_info", &Value::Null);
    serde_json::from_value::<endpoint::net_info::Response>(net["result"].clone()).expect("the client's");
}

#[test]
fn errors_are_cometbfts() {
    let mut world = World::new();
    world.order(&Command::Cut);
    let error = |answer: Value| (answer["error"]["code"].clone(), answer["error"]["data"].clone());
    let (code, data) = error(world.call("block", &json!({ "height": 5 })));
    assert_eq!(code, -32602);
    assert_eq!(
        data,
        "error converting json params to arguments: invalid 64-bit integer encoding \"5\", expected string"
    );
    let (code, data) = error(world.call("block", &json!({ "height": "5" })));
    assert_eq!(
        (code, data),
        (json!(-32603), json!("height 5 must be less than or equal to the current blockchain height 1"))
    );
    assert_eq!(error(world.call("nothing", &json!({}))).0, -32601);
    assert_eq!(error(world.call("subscribe", &json!({ "query": "tm.event='Tx'" }))).0, -32601, "only by WebSocket");
    let parse: Value = serde_json::from_str(&world.post("{")).expect("JSON");
    assert_eq!(parse["error"]["code"], -32700);
    assert_eq!(world.get("/block?height=9").0, "500");
    assert_eq!(world.get("/nothing").0, "404");
    assert_eq!(world.post("{\"method\":\"health\"}"), "", "a notification");
    let batch = world.post("[{\"id\":1,\"method\":\"health\"},{\"id\":\"x\",\"method\":\"status\"}]");
    let batch: Value = serde_json::from_str(&batch).expect("JSON");
    assert_eq!((&batch[0]["id"], &batch[1]["id"]), (&json!(1), &json!("x")));
    let rebound = "GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert!(world.send(rebound.as_bytes()).starts_with("HTTP/1.1 403"));
}

/// A frame as a client sends it, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut out = vec![0x81];
    if text.len() < 126 {
        out.push(0x80 | u8::try_from(text.len()).expect("short"));
    } else {
        out.push(0x80 | 126);
        out.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(text.as_bytes());
    out
}

#[test]
fn subscribers_hear_of_what_they_asked_for() {
    let mut world = World::new();
    world.order(&Command::Cut);
    let upgrade = "GET /websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(world.send(upgrade.as_bytes()).starts_with("HTTP/1.1 101"));
    let subscribe = |query: &str, id: &str| {
        frame(&json!({ "jsonrpc": "2.0", "id": id, "method": "subscribe", "params": { "query": query } }).to_string())
    };
    assert!(world.send(&subscribe("tm.event='NewBlock'", "blocks")).contains("\"result\":{}"));
    assert!(world.send(&subscribe("tm.event = 'Tx' AND app.key = 'k'", "txs")).contains("\"result\":{}"));
    assert!(world.send(&subscribe("tm.event='NewBlock'", "again")).contains("already subscribed"));
    assert!(world.send(&subscribe("tm.event=", "bad")).contains("failed to parse query: offset 9: EOF"));
    world.order(&Command::Tx("k=v".into()));
    let told = world.taken();
    assert!(told.contains("tendermint/event/NewBlock\"") && told.contains("\"id\":\"blocks\""), "{told}");
    let at = told.find("{\"jsonrpc\":\"2.0\",\"id\":\"txs\"").expect("the transaction is told of");
    let mut events = serde_json::Deserializer::from_str(&told[at..]).into_iter::<Value>();
    let event = events.next().expect("one").expect("JSON");
    assert_eq!(event["result"]["data"]["value"]["TxResult"]["tx"], base64(b"k=v"));
    assert_eq!(event["result"]["events"]["tx.height"], json!(["2"]));
    serde_json::from_value::<tendermint_rpc::event::v0_38::DeEvent>(event["result"].clone()).expect("the client's");
    world.order(&Command::Tx("other=v".into()));
    assert!(!world.taken().contains("\"id\":\"txs\""), "another key");
    let all = frame("{\"id\":1,\"method\":\"unsubscribe_all\"}");
    assert!(world.send(&all).contains("\"result\":{}"));
    world.order(&Command::Tx("third=v".into()));
    assert_eq!(world.taken(), "");
}

#[test]
fn who_waits_too_long_is_told() {
    let mut world = World::new();
    world.silent_from = 2;
    world.order(&Command::Cut);
    let body = json!({ "id": 1, "method": "broadcast_tx_commit", "params": { "tx": base64(b"a=1") } }).to_string();
    assert_eq!(world.post(&body), "", "two of four signed");
    world.now.mono = world.now.mono + Nanos::from_millis(10_000);
    assert!(world.now.mono > Mono(0));
    world.input(0, SessionInput::Wake);
    assert!(world.taken().contains("timed out waiting for tx to be included in a block"));
}
