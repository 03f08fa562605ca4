//! Methods, over a chain of regtest's own.

use super::world::{ADDRESS, KEY, NOW, World};
use crate::session::rpc::Json;

const GENESIS: &str = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";

fn names(json: &Json) -> Vec<&str> {
    json.fields().expect("an object").iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_chain_is_made_and_told() {
    let mut world = World::new();
    assert_eq!(world.ok("getbestblockhash", "[]").text(), Ok(GENESIS));
    let hashes = world.mine(3);
    assert_eq!(world.ok("getblockcount", "[]"), Json::from(3_u32));
    assert_eq!(world.ok("getblockhash", "[2]").text(), Ok(hashes[1].as_str()));
    let info = world.ok("getblockchaininfo", "[]");
    assert_eq!(
        names(&info),
        [
            "chain",
            "blocks",
            "headers",
            "bestblockhash",
            "bits",
            "target",
            "difficulty",
            "time",
            "mediantime",
            "verificationprogress",
            "initialblockdownload",
            "chainwork",
            "size_on_disk",
            "pruned",
            "warnings"
        ]
    );
    assert_eq!(info.get("bits").text(), Ok("207fffff"));
    assert_eq!(info.get("difficulty").write(), "4.656542373906925e-10");
    assert_eq!(info.get("chainwork").text(), Ok(format!("{:064x}", 8).as_str()));
    assert_eq!(info.get("target").text(), Ok(format!("7fffff{}", "0".repeat(58)).as_str()));
    let tips = world.ok("getchaintips", "[]");
    assert_eq!(tips.write(), format!(r#"[{{"height":3,"hash":"{}","branchlen":0,"status":"active"}}]"#, hashes[2]));
}

#[test]
fn blocks_are_told_in_four_ways() {
    let mut world = World::new();
    let hash = world.mine(1).remove(0);
    let bytes = world.ok("getblock", &format!(r#"["{hash}",0]"#));
    assert!(bytes.text().is_ok_and(|hex| hex.len() > 300));
    let block = world.ok("getblock", &format!(r#"["{hash}"]"#));
    assert_eq!(
        names(&block),
        [
            "hash",
            "confirmations",
            "height",
            "version",
            "versionHex",
            "merkleroot",
            "time",
            "mediantime",
            "nonce",
            "bits",
            "target",
            "difficulty",
            "chainwork",
            "nTx",
            "previousblockhash",
            "strippedsize",
            "size",
            "weight",
            "coinbase_tx",
            "tx"
        ]
    );
    assert_eq!(block.get("versionHex").text(), Ok("20000000"));
    let txid = block.get("tx").at(0).text().expect("an id").to_string();
    let block = world.ok("getblock", &format!(r#"["{hash}",2]"#));
    let tx = block.get("tx").at(0);
    assert_eq!(names(tx), ["txid", "hash", "version", "size", "vsize", "weight", "locktime", "vin", "vout", "hex"]);
    let out = tx.get("vout").at(0);
    assert_eq!(out.get("value").write(), "50.00000000");
    assert_eq!(names(out.get("scriptPubKey")), ["asm", "desc", "hex", "address", "type"]);
    assert_eq!(out.get("scriptPubKey").get("address").text(), Ok(ADDRESS));
    assert_eq!(world.ok("getrawtransaction", &format!(r#"["{txid}",1]"#)).get("confirmations"), &Json::from(1_u32));
    assert_eq!(world.err("getblock", r#"["00"]"#).1, "blockhash must be of length 64 (not 2, for '00')");
    assert_eq!(world.err("getblock", &format!(r#"["{}"]"#, "0".repeat(64))), (-5, "Block not found".into()));
    let proof = world.ok("gettxoutproof", &format!(r#"[["{txid}"]]"#));
    let proof = proof.text().expect("a proof");
    assert_eq!(world.ok("verifytxoutproof", &format!(r#"["{proof}"]"#)).write(), format!("[\"{txid}\"]"));
    let coin = world.ok("gettxout", &format!(r#"["{txid}",0]"#));
    assert_eq!(names(&coin), ["bestblock", "confirmations", "value", "scriptPubKey", "coinbase"]);
    let stats = world.ok("getblockstats", "[1]");
    assert_eq!(stats.get("subsidy").write(), "5000000000");
    assert_eq!(stats.fields().expect("an object").len(), 31);
    assert_eq!(world.err("getblockstats", r#"[1,["x"]]"#).1, "Invalid selected statistic 'x'");
    let filter = world.ok("getblockfilter", &format!(r#"["{hash}"]"#));
    assert_eq!(names(&filter), ["filter", "header"]);
}

#[test]
fn branches_are_chosen_by_hand() {
    let mut world = World::new();
    let hashes = world.mine(2);
    world.ok("invalidateblock", &format!(r#"["{}"]"#, hashes[1]));
    assert_eq!(world.ok("getblockcount", "[]"), Json::from(1_u32));
    let tips = world.ok("getchaintips", "[]");
    assert_eq!(tips.at(0).get("status").text(), Ok("invalid"));
    assert_eq!(tips.at(0).get("branchlen").int(), Ok(1));
    world.ok("reconsiderblock", &format!(r#"["{}"]"#, hashes[1]));
    assert_eq!(world.ok("getblockcount", "[]"), Json::from(2_u32));
}

#[test]
fn descriptors_are_mined_to_and_found() {
    let mut world = World::new();
    let descriptor = "raw(51)";
    world.ok("generatetodescriptor", &format!(r#"[2,"{descriptor}"]"#));
    let found = world.ok("scantxoutset", &format!(r#"["start",["{descriptor}"]]"#));
    assert_eq!(names(&found), ["success", "txouts", "height", "bestblock", "unspents", "total_amount"]);
    assert_eq!(found.get("total_amount").write(), "100.00000000");
    assert_eq!(
        names(found.get("unspents").at(0)),
        ["txid", "vout", "scriptPubKey", "desc", "amount", "coinbase", "height", "blockhash", "confirmations"]
    );
    assert_eq!(found.get("unspents").at(0).get("desc").text(), Ok("raw(51)#8lvh9jxk"));
    assert_eq!(world.err("scantxoutset", r#"["start"]"#).0, -1);
    assert_eq!(world.ok("scantxoutset", r#"["status"]"#), Json::Null);
    assert_eq!(world.err("scantxoutset", r#"["x"]"#), (-8, "Invalid action 'x'".into()));
    let blocks = world.ok("scanblocks", &format!(r#"["start",["{descriptor}"]]"#));
    assert_eq!(blocks.get("relevant_blocks").items().map(<[Json]>::len), Ok(2));
    let info = world.ok("gettxoutsetinfo", r#"["muhash"]"#);
    assert_eq!(info.get("txouts").int(), Ok(2));
    assert!(world.ok("gettxoutsetinfo", "[]").get("hash_serialized_3").text().is_ok());
    assert_eq!(world.err("gettxoutsetinfo", r#"["foo"]"#).1, "'foo' is not a valid hash_type");
}

/// What the index says of the tip is what all coins say.
fn same_with_and_without_the_index(world: &mut World) -> Json {
    let kept = world.ok("gettxoutsetinfo", r#"["muhash"]"#);
    let counted = world.ok("gettxoutsetinfo", r#"["muhash",null,false]"#);
    for name in ["height", "bestblock", "txouts", "bogosize", "muhash", "total_amount"] {
        assert_eq!(kept.get(name), counted.get(name), "{name}");
    }
    kept
}

#[test]
fn figures_of_coins_follow_the_chain_wherever_it_goes() {
    let mut world = World::new();
    let (_, raw) = spendable(&mut world);
    let before = same_with_and_without_the_index(&mut world);
    assert_eq!(
        names(&before),
        [
            "height",
            "bestblock",
            "txouts",
            "bogosize",
            "muhash",
            "total_amount",
            "total_unspendable_amount",
            "block_info"
        ]
    );
    world.ok("generateblock", &format!(r#"["raw(51)",["{raw}"]]"#));
    let spent = same_with_and_without_the_index(&mut world);
    let block = spent.get("block_info");
    assert_eq!(block.get("prevout_spent").write(), "50.00000000");
    let first = world.ok("gettxoutsetinfo", r#"["none",0]"#);
    assert_eq!(first.get("block_info").get("unspendables").get("genesis_block").write(), "50.00000000");
    assert_eq!(
        (first.get("txouts").int(), first.get("total_unspendable_amount").write()),
        (Ok(0), "50.00000000".into())
    );

    // Another branch, in which it is not spent; then the first again.
    let tip = spent.get("bestblock").text().expect("a hash").to_owned();
    world.ok("invalidateblock", &format!(r#"["{tip}"]"#));
    assert_eq!(same_with_and_without_the_index(&mut world), before);
    world.ok("generateblock", r#"["raw(52)",[]]"#);
    world.ok("generateblock", r#"["raw(52)",[]]"#);
    let other = same_with_and_without_the_index(&mut world);
    assert_ne!(other.get("muhash"), spent.get("muhash"));
    assert_eq!(world.ok("gettxoutsetinfo", &format!(r#"["muhash","{tip}"]"#)), spent, "it is kept, beside the chain");
    let next = other.get("bestblock").text().expect("a hash").to_owned();
    let below =
        world.ok("getblockheader", &format!(r#"["{next}"]"#)).get("previousblockhash").text().expect("it").to_owned();
    world.ok("invalidateblock", &format!(r#"["{below}"]"#));
    world.ok("reconsiderblock", &format!(r#"["{tip}"]"#));
    assert_eq!(same_with_and_without_the_index(&mut world), spent);

    let refused = |world: &mut World, args: &str| world.err("gettxoutsetinfo", args).1;
    assert!(refused(&mut world, r#"["hash_serialized_3",1]"#).contains("cannot be queried for a specific block"));
    assert!(refused(&mut world, r#"["muhash",1,false]"#).starts_with("Cannot set use_index to false"));
}

#[test]
fn who_spends_an_output_is_found_in_the_mempool_and_in_blocks() {
    let mut world = World::new();
    let (txid, raw) = spendable(&mut world);
    let asked = format!(r#"[[{{"txid":"{txid}","vout":0}}],{{"return_spending_tx":true}}]"#);
    let nobody = world.ok("gettxspendingprevout", &asked);
    assert_eq!(names(nobody.at(0)), ["txid", "vout"]);
    let spender = world.ok("sendrawtransaction", &format!(r#"["{raw}"]"#));
    assert_eq!(names(world.ok("gettxspendingprevout", &asked).at(0)), ["txid", "vout", "spendingtxid", "spendingtx"]);
    let hash = world.mine(1).remove(0);
    let found = world.ok("gettxspendingprevout", &asked);
    assert_eq!(names(found.at(0)), ["txid", "vout", "spendingtxid", "blockhash", "spendingtx"]);
    assert_eq!(found.at(0).get("spendingtxid"), &spender);
    assert_eq!(found.at(0).get("blockhash").text(), Ok(hash.to_string().as_str()));
    let only = format!(r#"[[{{"txid":"{txid}","vout":0}}],{{"mempool_only":true}}]"#);
    assert_eq!(names(world.ok("gettxspendingprevout", &only).at(0)), ["txid", "vout"]);
    // Another block comes in its stead, in which nobody spends it.
    world.ok("invalidateblock", &format!(r#"["{hash}"]"#));
    world.ok("generateblock", r#"["raw(52)",[]]"#);
    assert_eq!(names(world.ok("gettxspendingprevout", &asked).at(0)), ["txid", "vout", "spendingtxid", "spendingtx"]);
    world.ok("generateblock", r#"["raw(52)",[]]"#);
    assert!(world.ok("getindexinfo", r#"["txospenderindex"]"#).get("txospenderindex").get("synced").bool() == Ok(true));
}

#[test]
fn transactions_are_made_and_brought() {
    let mut world = World::new();
    let (txid, raw) = spendable(&mut world);
    let tested = world.ok("testmempoolaccept", &format!(r#"[["{raw}"]]"#));
    assert_eq!(tested.at(0).get("allowed"), &Json::from(true), "{}", tested.write());
    assert_eq!(names(tested.at(0)), ["txid", "wtxid", "allowed", "vsize", "fees"]);
    let limited = world.ok("testmempoolaccept", &format!(r#"[["{raw}"],"0.00001"]"#));
    assert_eq!(limited.at(0).get("reject-reason").text(), Ok("max-fee-exceeded"));
    let sent = world.ok("sendrawtransaction", &format!(r#"["{raw}",0]"#));
    let sent = sent.text().expect("an id").to_string();
    assert_eq!(world.ok("getrawmempool", "[]").write(), format!("[\"{sent}\"]"));
    let entry = world.ok("getmempoolentry", &format!(r#"["{sent}"]"#));
    assert_eq!(
        names(&entry),
        [
            "vsize",
            "weight",
            "time",
            "height",
            "descendantcount",
            "descendantsize",
            "ancestorcount",
            "ancestorsize",
            "wtxid",
            "chunkweight",
            "fees",
            "depends",
            "spentby",
            "unbroadcast"
        ]
    );
    assert_eq!(entry.get("fees").get("base").write(), "0.01000000");
    let spender = world.ok("gettxspendingprevout", &format!(r#"[[{{"txid":"{txid}","vout":0}}]]"#));
    assert_eq!(spender.at(0).get("spendingtxid").text(), Ok(sent.as_str()));
    assert_eq!(world.ok("gettxout", &format!(r#"["{txid}",0]"#)), Json::Null);
    let info = world.ok("getmempoolinfo", "[]");
    assert_eq!((info.get("size").int(), info.get("loaded").bool()), (Ok(1), Ok(true)));
    let template = world.ok("getblocktemplate", r#"[{"rules":["segwit"]}]"#);
    assert_eq!(template.get("transactions").at(0).get("txid").text(), Ok(sent.as_str()));
    world.mine(1);
    assert_eq!(world.ok("getrawmempool", "[true]").write(), "{}");
    assert_eq!(world.err("sendrawtransaction", &format!(r#"["{raw}"]"#)).0, -27);
    assert_eq!(world.err("sendrawtransaction", r#"["00"]"#).0, -22);
}

/// A coin, and a transaction that spends it and is signed.
fn spendable(world: &mut World) -> (String, String) {
    world.mine(101);
    let coinbase = world.ok("getblockhash", "[1]");
    let coinbase = world.ok("getblock", &format!("[{}]", coinbase.write()));
    let txid = coinbase.get("tx").at(0).text().expect("an id").to_string();
    let raw = world.ok(
        "createrawtransaction",
        &format!(r#"[[{{"txid":"{txid}","vout":0}}],[{{"{ADDRESS}":49.99}},{{"data":"00ff"}}]]"#),
    );
    let tx = world.ok("decoderawtransaction", &format!("[{}]", raw.write()));
    assert_eq!(tx.get("vin").at(0).get("sequence").int(), Ok(0xffff_fffd_u32));
    assert_eq!(tx.get("vout").at(1).get("scriptPubKey").get("asm").text(), Ok("OP_RETURN -32512"));
    let unsigned = world.ok("signrawtransactionwithkey", &format!("[{},[]]", raw.write()));
    assert_eq!(unsigned.get("complete"), &Json::from(false));
    assert_eq!(
        unsigned.get("errors").at(0).get("error").text(),
        Ok("Unable to sign input, invalid stack size (possibly missing key)")
    );
    let signed = world.ok("signrawtransactionwithkey", &format!(r#"[{},["{KEY}"]]"#, raw.write()));
    assert_eq!(signed.get("complete"), &Json::from(true), "{}", signed.write());
    (txid, signed.get("hex").text().expect("a transaction").to_string())
}

#[test]
fn every_kind_of_output_is_signed() {
    let mut world = World::new();
    let key = world.ok("getdescriptorinfo", &format!(r#"["pk({KEY})"]"#));
    let key = key.get("descriptor").text().expect("a descriptor");
    let key = key[3..].split(')').next().expect("a key").to_string();
    let script = |world: &mut World, text: &str| {
        let descriptor = format!("raw({text})");
        let made = world.ok("generatetodescriptor", &format!(r#"[1,"{descriptor}"]"#));
        let block = world.ok("getblock", &format!("[{},2]", made.at(0).write()));
        let out = block.get("tx").at(0);
        (out.get("txid").write(), out.get("vout").at(0).get("scriptPubKey").get("hex").text().expect("hex").to_string())
    };
    let multi = format!("5121{key}21{key}52ae");
    let wrapped = world.ok("decodescript", &format!(r#"["{multi}"]"#));
    let single = world.ok("decodescript", &format!(r#"["21{key}ac"]"#));
    let program = |json: &Json| json.get("segwit").get("hex").text().expect("hex").to_string();
    let hash = |world: &mut World, address: &Json| {
        let valid = world.ok("validateaddress", &format!("[{}]", address.write()));
        valid.get("scriptPubKey").text().expect("hex").to_string()
    };
    let nested = hash(&mut world, single.get("segwit").get("p2sh-segwit"));
    let behind = hash(&mut world, wrapped.get("p2sh"));
    let both = hash(&mut world, wrapped.get("segwit").get("p2sh-segwit"));
    let kinds: [(String, String); 8] = [
        (format!("21{key}ac"), String::new()),
        (multi.clone(), String::new()),
        (program(&single), String::new()),
        (program(&wrapped), format!(r#","witnessScript":"{multi}""#)),
        (nested, format!(r#","redeemScript":"{}""#, program(&single))),
        (behind, format!(r#","redeemScript":"{multi}""#)),
        (both, format!(r#","witnessScript":"{multi}""#)),
        (format!("5120{}", &key[2..]), String::new()),
    ];
    let (mut inputs, mut prevouts) = (Vec::new(), Vec::new());
    for (hex, behind) in &kinds {
        let (txid, hex) = script(&mut world, hex);
        inputs.push(format!(r#"{{"txid":{txid},"vout":0}}"#));
        prevouts.push(format!(r#"{{"txid":{txid},"vout":0,"scriptPubKey":"{hex}","amount":50{behind}}}"#));
    }
    world.mine(100);
    let raw = world.ok("createrawtransaction", &format!(r#"[[{}],{{"{ADDRESS}":399.999}}]"#, inputs.join(",")));
    let signed =
        world.ok("signrawtransactionwithkey", &format!(r#"[{},["{KEY}"],[{}]]"#, raw.write(), prevouts.join(",")));
    assert_eq!(signed.get("complete"), &Json::from(true), "{}", signed.get("errors").pretty(1));
    let hex = signed.get("hex").write();
    let tested = world.ok("testmempoolaccept", &format!("[[{hex}]]"));
    assert_eq!(tested.at(0).get("allowed"), &Json::from(true), "{}", tested.write());
    let again = world.ok("signrawtransactionwithkey", &format!("[{hex},[],[{}]]", prevouts.join(",")));
    assert_eq!(again.get("complete"), &Json::from(true));
    assert_eq!(world.ok("combinerawtransaction", &format!("[[{},{hex}]]", raw.write())).write(), hex);
}

#[test]
fn templates_follow_their_bips() {
    let mut world = World::new();
    world.mine(1);
    let template = world.ok("getblocktemplate", r#"[{"rules":["segwit"]}]"#);
    assert_eq!(
        names(&template),
        [
            "capabilities",
            "version",
            "rules",
            "vbavailable",
            "vbrequired",
            "previousblockhash",
            "transactions",
            "coinbaseaux",
            "coinbasevalue",
            "longpollid",
            "target",
            "mintime",
            "mutable",
            "noncerange",
            "sigoplimit",
            "sizelimit",
            "weightlimit",
            "curtime",
            "bits",
            "height",
            "default_witness_commitment"
        ]
    );
    assert_eq!(template.get("coinbasevalue").write(), "5000000000");
    assert_eq!(
        world.err("getblocktemplate", "[{}]"),
        (-8, "getblocktemplate must be called with the segwit rule set (call with {\"rules\": [\"segwit\"]})".into())
    );
    assert_eq!(world.err("getblocktemplate", r#"[{"mode":"x"}]"#), (-8, "Invalid mode".into()));
    let longpoll = template.get("longpollid").text().expect("an id").to_string();
    let body = format!(
        r#"{{"id":1,"method":"getblocktemplate","params":[{{"rules":["segwit"],"longpollid":"{longpoll}"}}]}}"#
    );
    let wait = world.post(&body).expect_err("it waits");
    world.mine(1);
    assert_eq!(world.poll(), [wait]);
}

#[test]
fn blocks_are_made_to_order_and_brought() {
    let mut world = World::new();
    let made = world.ok("generateblock", &format!(r#"["{ADDRESS}",[],false]"#));
    let hex = made.get("hex").text().expect("a block").to_string();
    assert_eq!(world.ok("getblockcount", "[]"), Json::from(0_u32));
    assert_eq!(world.ok("getblocktemplate", &format!(r#"[{{"mode":"proposal","data":"{hex}"}}]"#)), Json::Null);
    assert_eq!(world.ok("submitblock", &format!(r#"["{hex}"]"#)), Json::Null);
    assert_eq!(world.ok("submitblock", &format!(r#"["{hex}"]"#)), Json::from("duplicate"));
    assert_eq!(world.err("submitblock", r#"["00"]"#), (-22, "Block decode failed".into()));
    assert_eq!(world.err("generateblock", r#"["x",[]]"#), (-5, "Error: Invalid address or descriptor".into()));
    assert_eq!(world.err("generatetoaddress", r#"[1,"x"]"#), (-5, "Error: Invalid address".into()));
    let header = &hex[..160];
    assert_eq!(world.ok("submitheader", &format!(r#"["{header}"]"#)), Json::Null);
    let info = world.ok("getmininginfo", "[]");
    assert_eq!(info.get("next").get("height").int(), Ok(2));
}

#[test]
fn addresses_and_descriptors_are_explained() {
    let mut world = World::new();
    let valid = world.ok("validateaddress", &format!(r#"["{ADDRESS}"]"#));
    assert_eq!(names(&valid), ["isvalid", "address", "scriptPubKey", "isscript", "iswitness"]);
    let invalid = world.ok("validateaddress", r#"["x"]"#);
    assert_eq!(names(&invalid), ["isvalid", "error_locations", "error"]);
    let info = world.ok("getdescriptorinfo", r#"["raw(51)"]"#);
    assert_eq!(
        info.write(),
        r#"{"descriptor":"raw(51)#8lvh9jxk","checksum":"8lvh9jxk","isrange":false,"issolvable":false,"hasprivatekeys":false}"#
    );
    assert_eq!(world.err("deriveaddresses", r#"["raw(51)"]"#), (-5, "Missing checksum".into()));
    let script = world.ok("decodescript", r#"["51"]"#);
    assert_eq!(names(&script), ["asm", "desc", "type", "p2sh", "segwit"]);
    let signature = world.ok("signmessagewithprivkey", &format!(r#"["{}","hi"]"#, KEY));
    let signature = signature.text().expect("a signature").to_string();
    assert_eq!(world.ok("verifymessage", &format!(r#"["{ADDRESS}","{signature}","hi"]"#)), Json::from(true));
    assert_eq!(world.ok("verifymessage", &format!(r#"["{ADDRESS}","{signature}","ho"]"#)), Json::from(false));
}

#[test]
fn the_network_is_told() {
    let mut world = World::new();
    let info = world.ok("getnetworkinfo", "[]");
    assert_eq!(
        names(&info),
        [
            "version",
            "subversion",
            "protocolversion",
            "localservices",
            "localservicesnames",
            "localrelay",
            "timeoffset",
            "networkactive",
            "connections",
            "connections_in",
            "connections_out",
            "networks",
            "relayfee",
            "incrementalfee",
            "localaddresses",
            "warnings"
        ]
    );
    world.ok("setban", r#"["127.0.0.0/24","add"]"#);
    assert_eq!(world.err("setban", r#"["127.0.0.0/24","add"]"#), (-23, "Error: IP/Subnet already banned".into()));
    assert_eq!(world.err("setban", r#"["127.0.0.1","add"]"#), (-23, "Error: IP/Subnet already banned".into()));
    let row = world.ok("listbanned", "[]").at(0).write();
    let until = NOW + 86_400;
    assert_eq!(
        row,
        format!(
            r#"{{"address":"127.0.0.0/24","ban_created":{NOW},"banned_until":{until},"ban_duration":86400,"time_remaining":86400}}"#
        )
    );
    world.ok("setban", r#"["127.0.0.0/24","remove"]"#);
    assert_eq!(world.err("setban", r#"["x","add"]"#), (-30, "Error: Invalid IP/Subnet".into()));
    world.ok("addnode", r#"["127.0.0.1:1","add"]"#);
    assert_eq!(world.err("addnode", r#"["127.0.0.1:1","add"]"#), (-23, "Error: Node already added".into()));
    assert_eq!(world.ok("getaddednodeinfo", "[]").at(0).get("connected"), &Json::from(false));
    assert_eq!(world.err("disconnectnode", r#"["x"]"#), (-29, "Node not found in connected nodes".into()));
    assert_eq!(world.err("addnode", r#"["x","y"]"#).0, -1);
}

#[test]
fn time_is_set_by_hand() {
    let mut world = World::new();
    world.ok("setmocktime", "[1800000000]");
    assert_eq!(world.node.time(), 1_800_000_000);
    assert_eq!(world.err("setmocktime", "[-1]"), (-8, "Mocktime must be in the range [0, 4294967295], not -1.".into()));
    world.ok("setmocktime", "[0]");
    assert_eq!(world.node.time(), NOW);
    world.ok("mockscheduler", "[60]");
    assert_eq!(world.rpc.take_scheduled(), 60);
    let rules = world.ok("getdeploymentinfo", "[]");
    assert_eq!(rules.get("deployments").get("testdummy").get("bip9").get("status").text(), Ok("defined"));
    assert_eq!(rules.get("deployments").get("csv").write(), r#"{"type":"buried","active":true,"height":1}"#);
}

#[test]
fn rest_needs_no_password() {
    let mut world = World::new();
    let hash = world.mine(1).remove(0);
    let got = world.get("/rest/chaininfo.json");
    assert_eq!(got.status, 200);
    assert!(got.body.contains("\"blocks\":1"));
    assert_eq!(world.get("/rest/blockhashbyheight/1.hex").body, format!("{hash}\n"));
    assert_eq!(world.get(&format!("/rest/headers/{hash}.hex?count=1")).body.len(), 161);
    assert_eq!(world.get(&format!("/rest/block/notxdetails/{hash}.json")).status, 200);
    assert_eq!(world.get(&format!("/rest/blockpart/{hash}.hex?offset=0&size=4")).body, "00000020\n");
    assert_eq!(world.get(&format!("/rest/blockfilter/basic/{hash}.json")).status, 200);
    assert_eq!(world.get(&format!("/rest/spenttxouts/{hash}.json")).body, "[[]]\n");
    assert_eq!(world.get("/rest/mempool/contents.json").body, "{}\n");
    for (path, status, words) in [
        ("/rest/block/x.json", 400, "Invalid hash: x\r\n"),
        ("/rest/tx/x", 400, "Invalid hash: x\r\n"),
        ("/rest/blockhashbyheight/9.json", 404, "Block height out of range\r\n"),
        ("/rest/blockhashbyheight/-1.json", 400, "Invalid height: -1\r\n"),
        ("/rest/chaininfo.hex", 404, "output format not found (available: json)\r\n"),
        ("/rest/getutxos.json", 400, "Error: empty request\r\n"),
        ("/rest/mempool/x.json", 400, "Invalid URI format. Expected /rest/mempool/<info|contents>.json\r\n"),
    ] {
        let got = world.get(path);
        assert_eq!((got.status, got.body.as_str()), (status, words), "{path}");
    }
    let block = world.ok("getblock", &format!(r#"["{hash}"]"#));
    let txid = block.get("tx").at(0).text().expect("an id").to_string();
    let got = world.get(&format!("/rest/getutxos/checkmempool/{txid}-0/{txid}-7.json"));
    assert!(got.body.contains("\"bitmap\":\"10\""), "{}", got.body);
}

#[test]
fn psbts_go_from_hand_to_hand() {
    let mut world = World::new();
    let descriptor = format!("wpkh({KEY})");
    let made = world.ok("generatetodescriptor", &format!(r#"[1,"{descriptor}"]"#));
    let block = world.ok("getblock", &format!("[{}]", made.at(0).write()));
    let txid = block.get("tx").at(0).write();
    world.mine(100);
    let psbt = world.ok("createpsbt", &format!(r#"[[{{"txid":{txid},"vout":0}}],{{"{ADDRESS}":49.99}}]"#));
    let shown = world.ok("decodepsbt", &format!("[{}]", psbt.write()));
    assert_eq!(names(&shown), ["tx", "global_xpubs", "psbt_version", "proprietary", "unknown", "inputs", "outputs"]);
    let needs = world.ok("analyzepsbt", &format!("[{}]", psbt.write()));
    assert_eq!(needs.write(), r#"{"inputs":[{"has_utxo":false,"is_final":false,"next":"updater"}],"next":"updater"}"#);
    let updated = world.ok("utxoupdatepsbt", &format!(r#"[{},["{descriptor}"]]"#, psbt.write()));
    let needs = world.ok("analyzepsbt", &format!("[{}]", updated.write()));
    assert_eq!(needs.get("next").text(), Ok("signer"), "{}", needs.write());
    assert_eq!(needs.get("fee").write(), "0.01000000");
    assert!(needs.get("estimated_vsize").int::<i64>().is_ok_and(|size| (100..200).contains(&size)));
    let signed = world.ok("descriptorprocesspsbt", &format!(r#"[{},["{descriptor}"],"ALL",true,false]"#, psbt.write()));
    assert_eq!(signed.get("complete"), &Json::from(false));
    let combined = world.ok("combinepsbt", &format!("[[{},{}]]", updated.write(), signed.get("psbt").write()));
    let shown = world.ok("decodepsbt", &format!("[{}]", combined.write()));
    assert!(!shown.get("inputs").at(0).get("partial_signatures").is_null());
    assert_eq!(shown.get("inputs").at(0).get("bip32_derivs").items().map(<[Json]>::len), Ok(1));
    let done = world.ok("finalizepsbt", &format!("[{}]", combined.write()));
    assert_eq!(done.get("complete"), &Json::from(true), "{}", done.write());
    let tested = world.ok("testmempoolaccept", &format!("[[{}]]", done.get("hex").write()));
    assert_eq!(tested.at(0).get("allowed"), &Json::from(true), "{}", tested.write());
    let bare = world.ok("converttopsbt", &format!("[{},true]", done.get("hex").write()));
    assert_eq!(bare, psbt);
    assert_eq!(world.err("converttopsbt", &format!("[{}]", done.get("hex").write())).0, -22);
    assert_eq!(world.err("decodepsbt", r#"["!"]"#), (-22, "TX decode failed invalid base64".into()));
    assert_eq!(world.err("joinpsbts", &format!("[[{}]]", psbt.write())).0, -8);
    assert!(world.err("joinpsbts", &format!("[[{0},{0}]]", psbt.write())).1.contains("exists in multiple PSBTs"));
}

#[test]
fn confirmations_have_odds() {
    let mut world = World::new();
    let odds = world.ok("getconfirmationconfidence", "[6,0.1]");
    assert!(odds.get("reversal").real().is_ok_and(|odds| (0.0005..0.0006).contains(&odds)), "{}", odds.write());
    assert_eq!(odds.get("confirmations_needed").int(), Ok(6));
    assert_eq!(world.err("getconfirmationconfidence", "[6,2]").0, -8);
}

#[test]
fn an_operator_says_how_long_a_ban_is_and_which_version_blocks_have() {
    let mut world = World::with(|config| (config.ban_seconds, config.block_version) = (1_234, Some(1_337)));
    world.ok("setban", r#"["1.2.3.4","add"]"#);
    assert_eq!(world.ok("listbanned", "[]").at(0).get("ban_duration").write(), "1234");
    let hash = world.mine(1).remove(0);
    assert_eq!(world.ok("getblockheader", &format!(r#"["{hash}"]"#)).get("version").write(), "1337");
}
