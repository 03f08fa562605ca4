//! Wallets, by the calls that people make of them.

use verity_storage::MemoryDisk;
use verity_storage::disk::Crash;

use super::world::{ADDRESS, World};
use crate::session::rpc::Json;
use crate::wallet::WalletOptions;

fn options() -> WalletOptions {
    WalletOptions { ahead: 5, fallback_rate: 20_000, ..WalletOptions::default() }
}

/// A wallet with one mature output and an empty one.
fn world() -> World {
    world_with(options(), 1)
}

/// The same, with so many mature outputs, all of one address.
fn world_with(options: WalletOptions, outputs: u32) -> World {
    let mut world = World::with_wallets(MemoryDisk::new(), options, 1);
    world.ok("createwallet", r#"["a"]"#);
    world.ok("createwallet", r#"["b"]"#);
    world.wallet = Some("a".into());
    let address = text(&world.ok("getnewaddress", "[]"));
    world.ok("generatetoaddress", &format!(r#"[{outputs},"{address}"]"#));
    world.mine(100);
    world
}

fn text(json: &Json) -> String {
    json.text().expect("a text").to_owned()
}

fn on<R>(world: &mut World, wallet: &str, deed: impl FnOnce(&mut World) -> R) -> R {
    let before = world.wallet.replace(wallet.to_owned());
    let result = deed(world);
    world.wallet = before;
    result
}

fn balance(world: &mut World, wallet: &str) -> String {
    on(world, wallet, |world| world.ok("getbalance", "[]").write())
}

fn mine_of(world: &mut World, field: &str) -> String {
    world.ok("getbalances", "[]").get("mine").get(field).write()
}

#[test]
fn the_wallet_that_is_meant_is_told_by_the_path() {
    let mut world = World::with_wallets(MemoryDisk::new(), options(), 1);
    assert_eq!(world.err("getbalance", "[]").0, -18);
    world.ok("createwallet", r#"["a"]"#);
    assert_eq!(world.ok("getbalance", "[]").write(), "0.00000000");
    world.ok("createwallet", r#"["b"]"#);
    let (code, words) = world.err("getbalance", "[]");
    assert!(code == -19 && words.starts_with("Multiple wallets are loaded. Please select which wallet"));
    assert_eq!(world.ok("listwallets", "[]").write(), r#"["a","b"]"#);
    assert_eq!(world.err("createwallet", r#"["a"]"#).0, -4);
    assert_eq!(world.err("loadwallet", r#"["a"]"#).0, -35);
    assert_eq!(world.err("loadwallet", r#"["c"]"#).0, -18);
    world.wallet = Some("c".into());
    assert_eq!(world.err("getbalance", "[]"), (-18, "Requested wallet does not exist or is not loaded".into()));
    world.wallet = None;
    world.ok("unloadwallet", r#"["b"]"#);
    assert_eq!(world.ok("getwalletinfo", "[]").get("walletname").write(), r#""a""#);
    assert_eq!(world.ok("listwalletdir", "[]").get("wallets").items().expect("rows").len(), 2);
    assert_eq!(World::new().err("getbalance", "[]"), (-32_601, "Method not found".into()));
}

#[test]
fn coins_ripen_are_spent_and_come_back() {
    let mut world = world();
    assert_eq!(balance(&mut world, "a"), "50.00000000");
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", r#"["label","bech32m"]"#)));
    let txid = text(&world.ok("sendtoaddress", &format!(r#"["{to}",10]"#)));
    let sent = world.ok("gettransaction", &format!(r#"["{txid}"]"#));
    assert_eq!(sent.get("amount").write(), "-10.00000000");
    assert_eq!(sent.get("confirmations").write(), "0");
    assert_eq!(sent.get("trusted").write(), "true");
    assert_eq!(sent.get("bip125-replaceable").write(), r#""yes""#);
    assert_eq!(world.ok("getrawmempool", "[]").write(), format!(r#"["{txid}"]"#));
    // Change of one's own is counted on, what others sent is not.
    let fee = sent.get("fee").real().expect("a number");
    let left: f64 = balance(&mut world, "a").parse().expect("a number");
    assert!((left - (40.0 + fee)).abs() < 1e-9, "{left} {fee}");
    assert_eq!(balance(&mut world, "b"), "0.00000000");
    on(&mut world, "b", |world| assert_eq!(mine_of(world, "untrusted_pending"), "10.00000000"));
    let blocks = world.mine(1);
    assert_eq!(balance(&mut world, "b"), "10.00000000");
    on(&mut world, "b", |world| {
        let rows = world.ok("listtransactions", "[]");
        assert_eq!(rows.at(0).get("category").write(), r#""receive""#);
        assert_eq!(rows.at(0).get("label").write(), r#""label""#);
        assert_eq!(world.ok("getreceivedbylabel", r#"["label"]"#).write(), "10.00000000");
    });
    // A block is undone: what it had waits again.
    world.ok("invalidateblock", &format!(r#"["{}"]"#, blocks[0]));
    on(&mut world, "b", |world| {
        assert_eq!(mine_of(world, "trusted"), "0.00000000");
        assert_eq!(mine_of(world, "untrusted_pending"), "10.00000000");
    });
    world.ok("reconsiderblock", &format!(r#"["{}"]"#, blocks[0]));
    assert_eq!(balance(&mut world, "b"), "10.00000000");
}

#[test]
fn a_coinbase_of_a_lost_block_is_an_orphan() {
    let mut world = world();
    let hash = text(&world.ok("getblockhash", "[1]"));
    world.ok("invalidateblock", &format!(r#"["{hash}"]"#));
    let rows = world.ok("listtransactions", "[]");
    assert_eq!(rows.at(0).get("category").write(), r#""orphan""#);
    assert_eq!(balance(&mut world, "a"), "0.00000000");
    assert_eq!(mine_of(&mut world, "immature"), "0.00000000");
}

#[test]
fn every_type_of_address_is_paid_and_spends() {
    let mut world = world();
    for kind in ["legacy", "p2sh-segwit", "bech32", "bech32m"] {
        let address = text(&world.ok("getnewaddress", &format!(r#"["","{kind}"]"#)));
        let info = world.ok("getaddressinfo", &format!(r#"["{address}"]"#));
        assert_eq!(info.get("ismine").write(), "true", "{kind}");
        assert_eq!(info.get("solvable").write(), "true", "{kind}");
        assert!(!info.get("hdkeypath").is_null(), "{kind}");
        world.ok("sendtoaddress", &format!(r#"["{address}",1]"#));
        world.mine(1);
        let coins = world.ok("listunspent", &format!(r#"[1,9999,["{address}"]]"#));
        let coin = coins.at(0).clone();
        let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
        let inputs = format!(r#"[{{"txid":{},"vout":{}}}]"#, coin.get("txid").write(), coin.get("vout").write());
        let options = format!(r#"{{"inputs":{inputs},"subtract_fee_from_outputs":[0]}}"#);
        let sent = world.ok("send", &format!(r#"[[{{"{to}":1}}],null,null,2,{options}]"#));
        assert_eq!(sent.get("complete").write(), "true", "{kind}");
        let entry = world.ok("getmempoolentry", &format!("[{}]", sent.get("txid").write()));
        // What was reckoned is what it is, but for a signature that came out shorter.
        let (fee, size) =
            (entry.get("fees").get("base").real().expect("a fee"), entry.get("vsize").real().expect("a size"));
        let rate = fee * 1e8 / size;
        assert!((2.0..2.05).contains(&rate), "{kind}: {rate}");
        world.mine(1);
    }
    assert_eq!(world.err("getnewaddress", r#"["","x"]"#), (-5, "Unknown address type 'x'".into()));
}

#[test]
fn what_was_written_down_is_there_after_a_crash() {
    let disk = MemoryDisk::new();
    let mut world = World::with_wallets(disk.clone(), options(), 1);
    world.ok("createwallet", r#"["a",false,false,"word"]"#);
    world.wallet = Some("a".into());
    let address = text(&world.ok("getnewaddress", r#"["one"]"#));
    world.ok("generatetoaddress", &format!(r#"[2,"{address}"]"#));
    world.mine(100);
    world.node.chain_mut().flush().expect("the disk is good");
    drop(world);
    disk.crash(Crash::LoseAll);
    let mut world = World::with_wallets(disk, WalletOptions { load: vec!["a".into()], ..options() }, 2);
    world.wallet = Some("a".into());
    assert_eq!(balance(&mut world, "a"), "100.00000000");
    assert_eq!(
        world.ok("getaddressesbylabel", r#"["one"]"#).write(),
        format!(r#"{{"{address}":{{"purpose":"receive"}}}}"#)
    );
    assert_ne!(text(&world.ok("getnewaddress", "[]")), address);
    let send = format!(r#"["{address}",1]"#);
    assert_eq!(world.err("sendtoaddress", &send).0, -13);
    assert_eq!(world.err("walletpassphrase", r#"["ward",10]"#).0, -14);
    world.ok("walletpassphrase", r#"["word",10]"#);
    world.ok("sendtoaddress", &send);
    world.ok("walletpassphrasechange", r#"["word","other"]"#);
    world.ok("walletlock", "[]");
    assert_eq!(world.err("sendtoaddress", &send).0, -13);
    world.ok("walletpassphrase", r#"["other",10]"#);
    assert_eq!(world.err("encryptwallet", r#"["x"]"#).0, -15);
}

#[test]
fn a_replacement_pays_more_and_wins() {
    let mut world = world();
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    let first = text(&world.ok("sendtoaddress", &format!(r#"{{"address":"{to}","amount":1,"fee_rate":2}}"#)));
    let bumped = world.ok("bumpfee", &format!(r#"["{first}"]"#));
    let second = text(bumped.get("txid"));
    assert!(bumped.get("fee").real().expect("a fee") > bumped.get("origfee").real().expect("a fee"));
    assert_eq!(world.ok("getrawmempool", "[]").write(), format!(r#"["{second}"]"#));
    let old = world.ok("gettransaction", &format!(r#"["{first}"]"#));
    assert_eq!(old.get("walletconflicts").write(), format!(r#"["{second}"]"#));
    assert_eq!(old.get("mempoolconflicts").write(), format!(r#"["{second}"]"#));
    assert_eq!(old.get("replaced_by_txid").write(), format!(r#""{second}""#));
    assert_eq!(world.err("bumpfee", &format!(r#"["{first}"]"#)).0, -4);
    world.mine(1);
    let old = world.ok("gettransaction", &format!(r#"["{first}"]"#));
    assert_eq!(old.get("confirmations").write(), "-1");
    assert_eq!(balance(&mut world, "b"), "1.00000000");
    assert_eq!(world.err("abandontransaction", &format!(r#"["{first}"]"#)).0, -5);
}

#[test]
fn all_is_sent_and_fees_come_out_of_it() {
    let mut world = world();
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    let sent = world.ok("sendall", &format!(r#"[["{to}"],null,null,1]"#));
    assert_eq!(sent.get("complete").write(), "true");
    assert_eq!(balance(&mut world, "a"), "0.00000000");
    world.mine(1);
    let got: f64 = balance(&mut world, "b").parse().expect("a number");
    assert!((49.9999..50.0).contains(&got), "{got}");
    let (code, words) = world.err("sendtoaddress", &format!(r#"["{to}",1]"#));
    assert_eq!((code, words.as_str()), (-6, "Insufficient funds"));
}

#[test]
fn a_psbt_goes_from_one_who_watches_to_one_who_signs() {
    let mut world = world();
    let rows = world.ok("listdescriptors", "[]");
    let request = |row: &Json| {
        format!(
            r#"{{"desc":{},"timestamp":0,"active":true,"internal":{},"range":[0,4]}}"#,
            row.get("desc").write(),
            row.get("internal").write()
        )
    };
    let requests: Vec<String> = rows.get("descriptors").items().expect("rows").iter().map(request).collect();
    world.ok("createwallet", r#"["watch",true,true]"#);
    world.wallet = Some("watch".into());
    let imported = world.ok("importdescriptors", &format!("[[{}]]", requests.join(",")));
    assert!(
        imported.items().expect("rows").iter().all(|row| row.get("success").write() == "true"),
        "{}",
        imported.write()
    );
    assert_eq!(balance(&mut world, "watch"), "50.00000000");
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    assert_eq!(world.err("sendtoaddress", &format!(r#"["{to}",1]"#)).0, -4);
    let made = world.ok("walletcreatefundedpsbt", &format!(r#"[[],[{{"{to}":3}}],0,{{"fee_rate":5}}]"#));
    let psbt = text(made.get("psbt"));
    let decoded = world.ok("decodepsbt", &format!(r#"["{psbt}"]"#));
    assert!(!decoded.get("inputs").at(0).get("bip32_derivs").is_null(), "{}", decoded.write());
    assert_eq!(world.ok("walletprocesspsbt", &format!(r#"["{psbt}"]"#)).get("complete").write(), "false");
    let signed = on(&mut world, "a", |world| world.ok("walletprocesspsbt", &format!(r#"["{psbt}"]"#)));
    assert_eq!(signed.get("complete").write(), "true");
    let hex = text(world.ok("finalizepsbt", &format!("[{}]", signed.get("psbt").write())).get("hex"));
    world.ok("sendrawtransaction", &format!(r#"["{hex}"]"#));
    world.mine(1);
    assert_eq!(balance(&mut world, "b"), "3.00000000");
    assert_eq!(balance(&mut world, "watch"), balance(&mut world, "a"));
}

#[test]
fn raw_transactions_are_funded_and_signed() {
    let mut world = world();
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    let raw = text(&world.ok("createrawtransaction", &format!(r#"[[],[{{"{to}":2}}]]"#)));
    let funded = world.ok("fundrawtransaction", &format!(r#"["{raw}",{{"fee_rate":3,"changePosition":0}}]"#));
    assert_eq!(funded.get("changepos").write(), "0");
    let signed = world.ok("signrawtransactionwithwallet", &format!("[{}]", funded.get("hex").write()));
    assert_eq!(signed.get("complete").write(), "true");
    world.ok("sendrawtransaction", &format!("[{}]", signed.get("hex").write()));
    on(&mut world, "b", |world| assert_eq!(mine_of(world, "untrusted_pending"), "2.00000000"));
    world.ok("lockunspent", "[true]");
    let message = text(&on(&mut world, "b", |world| world.ok("getnewaddress", r#"["","legacy"]"#)));
    let signature = on(&mut world, "b", |world| world.ok("signmessage", &format!(r#"["{message}","hi"]"#)));
    let checked = world.ok("verifymessage", &format!(r#"["{message}",{},"hi"]"#, signature.write()));
    assert_eq!(checked.write(), "true");
}

#[test]
fn a_backup_finds_what_came_later() {
    let mut world = world();
    on(&mut world, "b", |world| world.ok("backupwallet", r#"["/node/b.bak"]"#));
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    world.ok("sendtoaddress", &format!(r#"["{to}",1]"#));
    world.mine(1);
    world.ok("restorewallet", r#"["c","/node/b.bak"]"#);
    assert_eq!(balance(&mut world, "c"), "1.00000000");
    assert_eq!(world.err("restorewallet", r#"["c","/node/b.bak"]"#).0, -36);
    let since = world.ok("listsinceblock", "[]");
    assert!(!since.get("transactions").items().expect("rows").is_empty());
}

#[test]
fn a_backup_that_watches_nothing_ahead_finds_one_after_the_other() {
    let mut world = world_with(WalletOptions { ahead: 0, ..options() }, 1);
    on(&mut world, "b", |world| {
        world.ok("getnewaddress", "[]");
        world.ok("backupwallet", r#"["/node/b.bak"]"#);
    });
    for _ in 0..3 {
        let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
        world.ok("sendtoaddress", &format!(r#"["{to}",1]"#));
        world.mine(1);
    }
    world.ok("restorewallet", r#"["c","/node/b.bak"]"#);
    assert_eq!(balance(&mut world, "c"), "3.00000000");
}

#[test]
fn descriptors_are_made_upon_a_key_that_the_wallet_has() {
    let mut world = world();
    let keys = world.ok("gethdkeys", "[]");
    assert_eq!(keys.items().map(<[Json]>::len), Ok(1));
    let xpub = text(keys.at(0).get("xpub"));
    assert_eq!(keys.at(0).get("descriptors").items().map(<[Json]>::len), Ok(8));
    assert!(keys.at(0).get("xprv").is_null());
    let xprv = text(world.ok("gethdkeys", r#"[{"private":true}]"#).at(0).get("xprv"));
    let list = world.ok("listdescriptors", "[true]");
    assert!(list.get("descriptors").items().expect("rows").iter().all(|row| text(row.get("desc")).contains(&xprv)));
    assert_eq!(world.err("createwalletdescriptor", r#"["bech32"]"#), (-4, "Descriptor already exists".into()));

    // A wallet without keys takes this one's, and then has the same addresses.
    world.ok("createwallet", r#"["c",false,true]"#);
    let of_a = text(&world.ok("getnewaddress", r#"["","bech32m"]"#));
    on(&mut world, "c", |world| {
        let which = "Unable to determine which HD key to use from active descriptors. Please specify with 'hdkey'";
        assert_eq!(world.err("createwalletdescriptor", r#"["bech32m"]"#), (-5, which.into()));
        let unknown = world.err("createwalletdescriptor", &format!(r#"["bech32m",{{"hdkey":"{xpub}"}}]"#));
        assert_eq!(unknown, (-5, format!("Private key for {xpub} is not known")));
        let wrong = world.err("createwalletdescriptor", &format!(r#"["bech32m",{{"hdkey":"{xprv}"}}]"#));
        assert_eq!(wrong, (-5, "Unable to parse HD key. Please provide a valid xpub".into()));
        assert_eq!(world.err("createwalletdescriptor", r#"["x"]"#).1, "Unknown address type 'x'");
        let own = text(world.ok("getdescriptorinfo", &format!(r#"["pkh({xprv}/7/*)"]"#)).get("checksum"));
        world.ok(
            "importdescriptors",
            &format!(r##"[[{{"desc":"pkh({xprv}/7/*)#{own}","timestamp":"now","active":true}}]]"##),
        );
        let made = world.ok("createwalletdescriptor", r#"["bech32m",{"internal":false}]"#);
        assert_eq!(made.get("descs").items().map(<[Json]>::len), Ok(1));
        assert_eq!(text(&world.ok("getnewaddress", r#"["","bech32m"]"#)), of_a);
        assert_eq!(world.ok("createwalletdescriptor", r#"["bech32m"]"#).get("descs").items().map(<[Json]>::len), Ok(1));
    });
}

#[test]
fn a_locked_wallet_still_says_which_keys_it_has() {
    let disk = MemoryDisk::new();
    let mut world = World::with_wallets(disk.clone(), options(), 1);
    world.ok("createwallet", r#"["a"]"#);
    let before = text(world.ok("gethdkeys", "[]").at(0).get("xpub"));
    world.ok("encryptwallet", r#"["words"]"#);
    let keys = world.ok("gethdkeys", "[]");
    let all: Vec<String> = keys.items().expect("rows").iter().map(|row| text(row.get("xpub"))).collect();
    assert_eq!((all.len(), all.contains(&before)), (2, true), "new ones were made");
    assert_eq!(world.err("gethdkeys", r#"[{"private":true}]"#).0, -13);
    assert_eq!(world.err("createwalletdescriptor", r#"["bech32"]"#).0, -13);
    let active = world.ok("gethdkeys", r#"[{"active_only":true}]"#);
    assert_eq!(active.items().map(<[Json]>::len), Ok(1));
    assert_eq!(active.at(0).get("has_private"), &Json::from(true));
    world.ok("unloadwallet", r#"["a"]"#);
    world.ok("loadwallet", r#"["a"]"#);
    assert_eq!(world.ok("gethdkeys", "[]"), keys, "also after a restart");
}

#[test]
fn a_transaction_comes_by_a_proof_and_goes() {
    let mut world = world();
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    let txid = text(&world.ok("sendtoaddress", &format!(r#"["{to}",10]"#)));
    world.mine(1);
    let raw = text(world.ok("gettransaction", &format!(r#"["{txid}"]"#)).get("hex"));
    let proof = text(&world.ok("gettxoutproof", &format!(r#"[["{txid}"]]"#)));
    on(&mut world, "b", |world| {
        world.ok("removeprunedfunds", &format!(r#"["{txid}"]"#));
        assert_eq!(world.ok("getbalance", "[]").write(), "0.00000000");
        let words = format!("Transaction {txid} does not belong to this wallet");
        assert_eq!(world.err("removeprunedfunds", &format!(r#"["{txid}"]"#)), (-4, words));
        world.ok("importprunedfunds", &format!(r#"["{raw}","{proof}"]"#));
        assert_eq!(world.ok("getbalance", "[]").write(), "10.00000000");
        let other = text(&world.ok("getblockhash", "[1]"));
        let coinbase = text(world.ok("getblock", &format!(r#"["{other}"]"#)).get("tx").at(0));
        let other = text(&world.ok("gettxoutproof", &format!(r#"[["{coinbase}"],"{other}"]"#)));
        let refused = world.err("importprunedfunds", &format!(r#"["{raw}","{other}"]"#));
        assert_eq!(refused, (-5, "Transaction given doesn't exist in proof".into()));
        assert_eq!(world.err("importprunedfunds", &format!(r#"["{raw}","00"]"#)).0, -1);
        assert_eq!(world.err("importprunedfunds", &format!(r#"["00","{proof}"]"#)).0, -22);
    });
    world.ok("createwallet", r#"["c"]"#);
    let refused = on(&mut world, "c", |world| world.err("importprunedfunds", &format!(r#"["{raw}","{proof}"]"#)));
    assert_eq!(refused, (-5, "No addresses in wallet correspond to included transaction".into()));
    // What it spent is there again.
    let before = balance(&mut world, "a");
    world.ok("removeprunedfunds", &format!(r#"["{txid}"]"#));
    assert_ne!(balance(&mut world, "a"), before);
    assert_eq!(world.ok("listunspent", "[]").at(0).get("amount").write(), "50.00000000");
}

#[test]
fn what_one_address_was_paid_is_spent_together() {
    for (together, fee_max, count) in
        [(false, Some(0), 1), (false, None, 1), (false, Some(1_000_000), 3), (true, None, 3)]
    {
        let more = WalletOptions { avoid_partial_spends: together, together_fee_max: fee_max, ..options() };
        let mut world = world_with(more, 3);
        let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
        let txid = text(&world.ok("sendtoaddress", &format!(r#"["{to}",1]"#)));
        let tx = world.ok("gettransaction", &format!(r#"["{txid}",true,true]"#));
        let inputs = tx.get("decoded").get("vin").items().map(<[Json]>::len);
        assert_eq!(inputs, Ok(count));
    }
}

#[test]
fn what_the_wallet_does_not_know_is_said() {
    let mut world = world();
    // An output of the other wallet, whose weight this one cannot know.
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", r#"["","p2sh-segwit"]"#)));
    let txid = text(&world.ok("sendtoaddress", &format!(r#"["{to}",10]"#)));
    world.mine(1);
    let unspent = on(&mut world, "b", |world| world.ok("listunspent", "[]"));
    let (vout, info) = (unspent.at(0).get("vout").write(), unspent.at(0).clone());
    let (own, key) = on(&mut world, "b", |world| {
        let info = world.ok("getaddressinfo", &format!(r#"["{to}"]"#));
        (text(info.get("desc")), text(info.get("pubkey")))
    });
    let inputs = format!(r#"[{{"txid":"{txid}","vout":{vout}}}]"#);
    let psbt = |world: &mut World, data: &str| {
        let options = format!(r#"{{"add_inputs":true{data}}}"#);
        world.call("walletcreatefundedpsbt", &format!(r#"[{inputs},[{{"{to}":15}}],0,{options}]"#))
    };
    let (code, words) = psbt(&mut world, "").expect_err("it is not the wallet's");
    assert!(code == -4 && words.starts_with("Not solvable pre-selected input"), "{words}");
    let script = text(info.get("redeemScript"));
    for data in [format!(r#""descriptors":["{own}"]"#), format!(r#""pubkeys":["{key}"],"scripts":["{script}"]"#)] {
        let made = psbt(&mut world, &format!(r#","solving_data":{{{data}}}"#)).expect("it is known now");
        assert!(text(made.get("psbt")).starts_with("cHNidP"));
    }
    for (data, code, words) in [
        (r#""pubkeys":["x"]"#, -5, "Pubkey \"x\" must be a hex string"),
        (r#""scripts":["x"]"#, -5, "'x' is not hex"),
        (r#""descriptors":["x"]"#, -8, "Unable to parse descriptor 'x'"),
    ] {
        let refused = psbt(&mut world, &format!(r#","solving_data":{{{data}}}"#)).expect_err("it is wrong");
        assert!(refused.0 == code && refused.1.starts_with(words), "{refused:?}");
    }
}

#[test]
fn coins_are_listed_by_types_of_addresses() {
    let mut world = world();
    let outs = ["bech32m", "legacy", "bech32", "p2sh-segwit"].map(|kind| {
        let address = text(&world.ok("getnewaddress", &format!(r#"["","{kind}"]"#)));
        format!(r#"{{"{address}":1}}"#)
    });
    world.ok("send", &format!("[[{}]]", outs.join(",")));
    let rows = world.ok("listunspent", "[0]");
    let begins = ["m", "n", "2", "bcrt1q", "bcrt1p"];
    let kind = |row: &Json| begins.iter().position(|begin| text(row.get("address")).starts_with(begin));
    let kinds: Vec<usize> =
        rows.items().expect("rows").iter().map(|row| kind(row).expect("it is known").max(1)).collect();
    assert!(kinds.is_sorted() && (1..5).all(|kind| kinds.contains(&kind)), "{kinds:?}");
}

#[test]
fn weights_of_inputs_that_are_named_stand_with_them() {
    let mut world = world();
    let to = text(&world.ok("getnewaddress", "[]"));
    let words = "Input weights should be specified in inputs rather than in options.";
    let options = r#"{"input_weights":[]}"#;
    let sent = world.err("send", &format!(r#"[[{{"{to}":1}}],null,null,null,{options}]"#));
    assert_eq!(sent, (-8, words.to_owned()));
    let funded = world.err("walletcreatefundedpsbt", &format!(r#"[[],[{{"{to}":1}}],0,{options}]"#));
    assert_eq!(funded, (-8, words.to_owned()));
}

#[test]
fn what_waits_is_spent_by_its_own_version() {
    let mut world = world();
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    let other = text(&world.ok("getnewaddress", "[]"));
    // Pays b and a; b's part is not safe, as it is somebody else's.
    let outs = format!(r#"[[{{"{to}":10}},{{"{other}":5}}],null,null,null,{{"version":3}}]"#);
    let parent = text(world.ok("send", &outs).get("txid"));
    assert_eq!(world.ok("getrawmempool", "[]").write(), format!(r#"["{parent}"]"#));
    let fund = |world: &mut World, version: u32, inputs: &str| {
        let raw = world.ok("createrawtransaction", &format!(r#"[[{inputs}],[{{"{other}":1}}],0,true,{version}]"#));
        format!(r#"["{}",{{"include_unsafe":true}}]"#, text(&raw))
    };
    on(&mut world, "b", |world| {
        let call = fund(world, 2, "");
        assert_eq!(world.err("fundrawtransaction", &call), (-4, "Insufficient funds".into()));
        let own = world.ok("listunspent", "[0]").at(0).clone();
        let input = format!(r#"{{"txid":"{parent}","vout":{}}}"#, own.get("vout").write());
        let call = fund(world, 2, &input);
        let words = "Can't spend unconfirmed version 3 pre-selected input with a version 2 tx";
        assert_eq!(world.err("fundrawtransaction", &call), (-4, words.into()));
        let call = fund(world, 3, "");
        world.ok("fundrawtransaction", &call);
        assert_eq!(world.err("sendall", &format!(r#"[["{to}"],null,null,1,{{"minconf":0}}]"#)).0, -6);
    });
    // One that has a child has no other; and a's own child stands in the way of b's.
    let child = text(world.ok("send", &format!(r#"[{{"{to}":1}},null,null,2,null,3]"#)).get("txid"));
    on(&mut world, "b", |world| {
        let call = fund(world, 3, "");
        assert_eq!(world.err("fundrawtransaction", &call), (-4, "Insufficient funds".into()));
    });
    let input = format!(r#"{{"txid":"{child}","vout":0}}"#);
    let call = fund(&mut world, 2, &input);
    assert_eq!(world.err("fundrawtransaction", &call).0, -4);
    world.mine(1);
    on(&mut world, "b", |world| {
        let call = fund(world, 2, "");
        world.ok("fundrawtransaction", &call);
    });
}

#[test]
fn of_version_3_one_child_stands_in_the_way_of_the_other() {
    let mut world = world();
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    let own = text(&world.ok("getnewaddress", "[]"));
    let send = |outs: &str, rate: u32| format!(r#"[{outs},null,null,{rate},{{"version":3,"include_unsafe":true}}]"#);
    world.ok("send", &send(&format!(r#"[{{"{to}":10}},{{"{own}":39.9}}]"#), 1));
    let first = text(world.ok("send", &send(&format!(r#"[{{"{own}":1}}]"#), 1)).get("txid"));
    let parent = on(&mut world, "b", |world| world.ok("listunspent", "[0]").at(0).clone());
    let (txid, vout) = (text(parent.get("txid")), parent.get("vout").write());
    let second = on(&mut world, "b", |world| {
        let raw = format!(r#"[[{{"txid":"{txid}","vout":{vout}}}],[{{"{to}":9.99}}],0,true,3]"#);
        let raw = text(&world.ok("createrawtransaction", &raw));
        let signed = text(world.ok("signrawtransactionwithwallet", &format!(r#"["{raw}"]"#)).get("hex"));
        text(&world.ok("sendrawtransaction", &format!(r#"["{signed}"]"#)))
    });
    let old = world.ok("gettransaction", &format!(r#"["{first}"]"#));
    assert_eq!(old.get("mempoolconflicts").write(), format!(r#"["{second}"]"#));
    assert_eq!(old.get("walletconflicts").write(), "[]");
    world.mine(1);
    assert_eq!(world.ok("gettransaction", &format!(r#"["{first}"]"#)).get("mempoolconflicts").write(), "[]");
}

#[test]
fn a_payment_of_version_3_stays_small() {
    let mut world = world();
    let to = on(&mut world, "b", |world| text(&world.ok("getnewaddress", "[]")));
    let data = "00".repeat(9_880);
    let raw = |world: &mut World, version: u32| {
        text(&world.ok("createrawtransaction", &format!(r#"[[],[{{"{to}":1}},{{"data":"{data}"}}],0,true,{version}]"#)))
    };
    let (second, third) = (raw(&mut world, 2), raw(&mut world, 3));
    world.ok("fundrawtransaction", &format!(r#"["{second}"]"#));
    let (code, words) = world.err("fundrawtransaction", &format!(r#"["{third}"]"#));
    assert!(code == -4 && words.starts_with("The inputs size exceeds the maximum weight."), "{words}");
    let (code, words) = world.err("fundrawtransaction", &format!(r#"["{third}",{{"max_tx_weight":9000}}]"#));
    let least = "Maximum transaction weight is less than transaction weight without inputs";
    assert_eq!((code, words.as_str()), (-4, least));
}

#[test]
fn what_is_too_heavy_only_with_what_was_chosen_by_hand_is_said_so() {
    let mut world = world_with(options(), 4);
    let own = text(&world.ok("getnewaddress", r#"["","bech32"]"#));
    let rows = world.ok("listunspent", "[]");
    let input = |at: usize| {
        let row = rows.at(at);
        format!(r#"{{"txid":"{}","vout":{}}}"#, text(row.get("txid")), row.get("vout").write())
    };
    let fund = |world: &mut World, inputs: &str, amount: u32, weight: u32| {
        let raw = text(&world.ok("createrawtransaction", &format!(r#"[[{inputs}],[{{"{own}":{amount}}}]]"#)));
        let options = format!(r#"{{"add_inputs":true,"max_tx_weight":{weight},"fee_rate":1}}"#);
        world.err("fundrawtransaction", &format!(r#"["{raw}",{options}]"#))
    };
    // Each input weighs about 272, and the rest about 330 with change.
    let (code, words) = fund(&mut world, "", 140, 900);
    assert!(code == -4 && words.starts_with("The inputs size exceeds the maximum weight."), "{words}");
    let (code, words) = fund(&mut world, &format!("{},{}", input(0), input(1)), 140, 1_100);
    assert!(code == -4 && words.starts_with("The combination of the pre-selected inputs"), "{words}");
}

#[test]
fn a_chain_that_others_would_not_take_is_not_made_longer() {
    let mut world =
        World::with_wallets(MemoryDisk::new(), WalletOptions { chain_max: 3, cluster_max: 3, ..options() }, 1);
    world.ok("createwallet", r#"["a"]"#);
    let own = text(&world.ok("getnewaddress", "[]"));
    world.ok("generatetoaddress", &format!(r#"[1,"{own}"]"#));
    world.mine(100);
    for _ in 0..3 {
        world.ok("sendtoaddress", &format!(r#"["{own}",1]"#));
    }
    let (code, words) = world.err("sendtoaddress", &format!(r#"["{own}",1]"#));
    assert!(code == -6 || code == -4, "{code}");
    assert!(words.starts_with("Unconfirmed UTXOs are available, but spending them creates a chain"), "{words}");
    let (_, words) = world.err("sendtoaddress", &format!(r#"["{own}",100]"#));
    assert_eq!(words, "Insufficient funds");
    world.mine(1);
    world.ok("sendtoaddress", &format!(r#"["{own}",1]"#));
}

#[test]
fn what_is_said_of_a_payment_is_said_right() {
    let mut world = world();
    let own = text(&world.ok("getnewaddress", "[]"));
    let send = |options: &str| format!(r#"[{{"{own}":1}},null,null,null,{options}]"#);
    let (code, words) = world.err("send", &send(r#"{"conf_target":"6"}"#));
    let expected = "JSON value of type string for field conf_target is not of expected type number";
    assert_eq!((code, words.as_str()), (-3, expected));
    let (code, words) = world.err("sendall", &format!(r#"[["{own}"],null,null,null,{{"minconf":-2}}]"#));
    assert_eq!((code, words.as_str()), (-8, "Invalid minconf (minconf cannot be negative): -2"));
    let coin = world.ok("listunspent", "[]").at(0).clone();
    let input = format!(r#"{{"txid":{},"vout":{}}}"#, coin.get("txid").write(), coin.get("vout").write());
    let both = format!(r#"[["{own}"],null,null,null,{{"minconf":1,"inputs":[{input}]}}]"#);
    assert_eq!(world.err("sendall", &both).0, -8);
    let weight = |weight: i64| format!(r#"[[],{{"{own}":1}},0,{{"max_tx_weight":{weight}}}]"#);
    let bounds = "Maximum transaction weight must be between 260 and 400000";
    for wrong in [-1, 0, 400_001] {
        assert_eq!(world.err("walletcreatefundedpsbt", &weight(wrong)), (-4, bounds.into()));
    }
    let words = "Maximum transaction weight is too low, can not accommodate change output";
    assert_eq!(world.err("walletcreatefundedpsbt", &weight(270)), (-4, words.into()));
    let two = text(&world.ok("getnewaddress", "[]"));
    let large = |weight: u32| format!(r#"[[],[{{"{own}":1}},{{"{two}":1}}],0,{{"max_tx_weight":{weight}}}]"#);
    let words = "Maximum transaction weight is less than transaction weight without inputs";
    assert_eq!(world.err("walletcreatefundedpsbt", &large(292)), (-4, words.into()));
    assert_eq!(world.err("restorewallet", r#"["","/node/b.bak"]"#), (-8, "Wallet name cannot be empty".into()));
    let txid = text(&world.ok("sendtoaddress", &format!(r#"["{own}",1]"#)));
    let (code, words) = world.err("bumpfee", &format!(r#"["{txid}",{{"confTarget":2,"conf_target":3}}]"#));
    assert!(code == -8 && words.starts_with("confTarget and conf_target options should not both be set"), "{words}");
    let (code, words) = world.err("bumpfee", &format!(r#"["{txid}",{{"confTarget":-2}}]"#));
    assert!(code == -8 && words.starts_with("Invalid conf_target"), "{words}");
    let (code, words) = world.err("bumpfee", &format!(r#"["{txid}",{{"fee_rate":0}}]"#));
    assert!(code == -8 && words.starts_with("Insufficient total fee 0.00"), "{words}");
    let (code, words) = world.err("bumpfee", &format!(r#"["{txid}",{{"fee_rate":100000}}]"#));
    assert!(code == -4 && words.ends_with("is too high (cannot be higher than -maxtxfee 0.10)"), "{words}");
}

#[test]
fn an_address_is_given_out_of_those_that_are_ready() {
    let mut world = world();
    world.ok("keypoolrefill", "[]");
    let ready = |world: &mut World| world.ok("getwalletinfo", "[]").get("keypoolsize").int::<u32>().expect("a number");
    let full = ready(&mut world);
    world.ok("getnewaddress", "[]");
    world.ok("getnewaddress", "[]");
    assert_eq!(ready(&mut world), full - 1);
    world.ok("keypoolrefill", "[]");
    assert_eq!(ready(&mut world), full);
    // What a blank wallet is given leaves it blank: it has no keys of its own, and a passphrase makes none.
    world.ok("createwallet", r#"["c",false,true]"#);
    on(&mut world, "c", |world| {
        let key = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK";
        let desc = crate::session::rpc::descriptor::with_checksum(format!("wpkh({key}/0/*)"));
        world.ok("importdescriptors", &format!(r#"[[{{"desc":"{desc}","timestamp":"now","range":[0,2]}}]]"#));
        let before = world.ok("listdescriptors", "[]").write();
        assert_eq!(world.ok("getwalletinfo", "[]").get("blank").write(), "true");
        world.ok("encryptwallet", r#"["word"]"#);
        assert_eq!(world.ok("listdescriptors", "[]").write(), before);
    });
}

/// Lets wallets tell again what is due. What was told, and the words for the log.
fn resend(world: &mut World) -> (Vec<String>, Vec<String>) {
    let mut told = Vec::new();
    let wallets = world.wallets.as_mut().expect("there are wallets");
    let words = wallets.resend(&mut world.node, &mut |tx| told.push(tx.compute_txid().to_string()));
    let words = words.expect("the disk is good");
    (told, words)
}

#[test]
fn what_no_block_took_is_told_again_after_half_a_day_and_before_two() {
    let mut world = world();
    let own = text(&world.ok("getnewaddress", "[]"));
    let start = world.node.time();
    assert_eq!(resend(&mut world), (Vec::new(), Vec::new()));
    let txid = text(&world.ok("sendtoaddress", &format!(r#"["{own}",1]"#)));
    let at = |world: &mut World, time: u64| drop(world.ok("setmocktime", &format!("[{time}]")));
    // No block came since.
    at(&mut world, start + 36 * 3_600);
    assert_eq!(resend(&mut world).0, Vec::<String>::new());
    let block = text(world.ok("generateblock", &format!(r#"["{own}",[]]"#)).get("hash"));
    at(&mut world, start + 48 * 3_600 - 1);
    assert_eq!(resend(&mut world).0, Vec::<String>::new());
    at(&mut world, start + 72 * 3_600);
    let words = "[a] ResubmitWalletTransactions: resubmit 1 unconfirmed transactions".to_owned();
    assert_eq!(resend(&mut world), (vec![txid], vec![words]));
    assert_eq!(resend(&mut world).0, Vec::<String>::new());
    world.ok("invalidateblock", &format!(r#"["{block}"]"#));
    world.mine(1);
    at(&mut world, start + 108 * 3_600);
    assert_eq!(resend(&mut world).1, Vec::<String>::new());
}

#[test]
fn a_wallet_is_no_younger_than_what_it_has() {
    let mut world = world();
    let own = text(&world.ok("getnewaddress", "[]"));
    world.ok("sendtoaddress", &format!(r#"["{own}",1]"#));
    world.mine(1);
    world.ok("createwallet", r#"["w",true,true]"#);
    on(&mut world, "w", |world| {
        let desc = crate::session::rpc::descriptor::with_checksum(format!("addr({own})"));
        let later = world.node.time() + 100_000;
        world.ok("setmocktime", &format!("[{later}]"));
        world.ok("importdescriptors", &format!(r#"[[{{"desc":"{desc}","timestamp":{later}}}]]"#));
        assert_eq!(world.ok("getwalletinfo", "[]").get("birthtime").write(), later.to_string());
        world.ok("rescanblockchain", "[]");
        let time = world.ok("listtransactions", "[]").at(0).get("time").write();
        assert_eq!(world.ok("getwalletinfo", "[]").get("birthtime").write(), time);
    });
}

#[test]
fn the_shorter_of_two_chains_is_spent_where_long_ones_are_allowed() {
    let options = WalletOptions { chain_max: 3, reject_long_chains: false, ..options() };
    let mut world = World::with_wallets(MemoryDisk::new(), options, 1);
    world.ok("createwallet", r#"["a"]"#);
    let (own, second) = (text(&world.ok("getnewaddress", "[]")), text(&world.ok("getnewaddress", "[]")));
    world.ok("generatetoaddress", &format!(r#"[1,"{own}"]"#));
    world.mine(100);
    world.ok("sendall", &format!(r#"[["{own}","{second}"]]"#));
    world.mine(1);
    // To somebody else, so that each leaves one output behind the other.
    for _ in 0..6 {
        world.ok("sendtoaddress", &format!(r#"["{ADDRESS}",1]"#));
    }
    let rows = world.ok("listunspent", "[0]");
    for row in rows.items().expect("rows") {
        assert_eq!(row.get("ancestorcount").write(), "3");
    }
    world.ok("sendtoaddress", &format!(r#"["{ADDRESS}",1]"#));
}

#[test]
fn a_final_input_is_of_a_payment_without_a_lock() {
    let mut world = world();
    let own = text(&world.ok("getnewaddress", "[]"));
    let coin = world.ok("listunspent", "[]").at(0).clone();
    let mut lock = |sequence: u32| {
        let (txid, vout) = (coin.get("txid").write(), coin.get("vout").write());
        let input = format!(r#"{{"txid":{txid},"vout":{vout},"sequence":{sequence}}}"#);
        let options = format!(r#"{{"inputs":[{input}],"add_to_wallet":false}}"#);
        let sent = world.ok("sendall", &format!(r#"[["{own}"],null,null,1,{options}]"#));
        let decoded = world.ok("decoderawtransaction", &format!("[{}]", sent.get("hex").write()));
        decoded.get("locktime").int::<u32>().expect("a number")
    };
    assert!(lock(0xffff_fffd) > 0);
    assert_eq!(lock(0xffff_ffff), 0);
}
