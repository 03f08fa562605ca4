//! Descriptors by the vectors of BIP 381 to 386, and by the words that tests of other nodes look for.

use super::*;

const XPUB: &str =
    "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";

fn one(text: &str) -> Descriptor {
    parse(text, Network::Regtest, false).expect("a descriptor").remove(0)
}

fn scripts(text: &str, index: u32) -> Vec<String> {
    let scripts = one(text).expand(index, &mut Known::default()).expect("derivable");
    scripts.iter().map(|script| script.to_hex_string()).collect()
}

const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

#[test]
fn known_scripts() {
    assert_eq!(scripts(&format!("pk({KEY})"), 0), [format!("21{KEY}ac")]);
    assert_eq!(scripts(&format!("wpkh({KEY})"), 0), ["0014751e76e8199196d454941c45d1b3a323f1433bd6"]);
    assert_eq!(scripts(&format!("combo({KEY})"), 0).len(), 4);
    assert_eq!(scripts("raw(51)", 0), ["51"]);
    assert_eq!(
        scripts("tr(a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd)", 0),
        ["512077aab6e066f8a7419c5ab714c12c67d25007ed55a43cadcacb4d7a970a093f11"]
    );
    assert_eq!(
        scripts(
            "tr(a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd,\
             pk(669b8afcec803a0d323e9a17f3ea8e68e8abe5a278020a929adbec52421adbd0))",
            0
        ),
        ["512017cf18db381d836d8923b1bdb246cfcd818da1a9f0e6e7907f187f0b2f937754"]
    );
}

#[test]
fn texts_come_back() {
    for text in [
        format!("pkh([00000000/1/2h]{KEY})"),
        format!("wsh(sortedmulti(1,{KEY},{KEY}))"),
        format!("sh(wpkh({XPUB}/0/*))"),
        format!("tr({XPUB}/0'/*')"),
        format!("tr({KEY},{{pk({KEY}),{{pk({KEY}),multi_a(1,{KEY})}}}})"),
        "raw(00)".to_string(),
        "addr(bcrt1pfeesnyr2tx)".to_string(),
    ] {
        assert_eq!(one(&text).text(), with_checksum(text));
    }
}

#[test]
fn hardened_steps_take_a_private_key() {
    assert!(one(&format!("pkh({XPUB}/0h)")).expand(0, &mut Known::default()).is_none());
    let private = one("wpkh(cVpF924EspNh8KjYsfhgY96mmxvT6DgdWiTYMtMjuM74hJaU5psW)");
    assert!(private.has_private() && !private.text().contains("cVpF"));
}

#[test]
fn several_paths() {
    let all = parse(&format!("wpkh({XPUB}/<0;1>/*)"), Network::Regtest, false).expect("two");
    let texts: Vec<String> = all.iter().map(Descriptor::text).collect();
    assert_eq!(texts, [with_checksum(format!("wpkh({XPUB}/0/*)")), with_checksum(format!("wpkh({XPUB}/1/*)"))]);
}

#[test]
fn what_is_wrong_is_said_in_the_usual_words() {
    for (text, words) in [
        ("pkh()", "pkh(): No key provided"),
        ("pkh(00)", "pkh(): Pubkey '00' is invalid"),
        ("wpkh(xyz)", "wpkh(): key 'xyz' is not valid"),
        ("sh(51)", "A function is needed within P2SH"),
        ("wsh(51)", "A function is needed within P2WSH"),
        ("x(1)", "'x(1)' is not a valid descriptor function"),
        ("multi(1)", "Cannot have 0 keys in multisig; must have between 1 and 20 keys, inclusive"),
        ("multi(a)", "Multi threshold 'a' is not valid"),
        ("addr(x)", "Address is not valid"),
        ("raw(x)", "Raw script is not hex"),
        ("wsh(sh(raw(51)))", "Can only have sh() at top level"),
        ("pkh([0000/0]00)", "pkh(): Fingerprint is not 4 bytes (4 characters instead of 8 characters)"),
    ] {
        assert_eq!(parse(text, Network::Regtest, false).expect_err("refused"), words);
    }
    assert_eq!(parse("raw(51)", Network::Regtest, true).expect_err("refused"), "Missing checksum");
}

#[test]
fn what_is_known_is_inferred() {
    let mut known = Known::default();
    let script = one(&format!("sh(wsh(multi(1,[d34db33f/44h]{KEY})))")).expand(0, &mut known).expect("derivable");
    let text = infer(&script[0], &known, Network::Regtest);
    assert_eq!(text, with_checksum(format!("sh(wsh(multi(1,[d34db33f/44h]{KEY})))")));
    assert!(infer(&script[0], &Known::default(), Network::Regtest).starts_with("addr(2"));
    let bare = ScriptBuf::from_hex(&format!("5121{KEY}51ae")).expect("hexadecimal");
    assert_eq!(infer(&bare, &Known::default(), Network::Regtest), with_checksum(format!("multi(1,{KEY})")));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z0-9(){},;<>\\[\\]/'*#]{0,60}") {
        let _ = parse(&text, Network::Regtest, false);
    }
}
