//! The format: what is read, and what is refused in one line that says where, what and what to do.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::io::BufReader;

use proptest::prelude::*;
use verity_checker::history::{LINE_BYTES_MAX, LINES_MAX};
use verity_checker::linearizability::Limits;
use verity_checker::{ModelKind, Verdict, check, check_text};

#[test]
fn wrong_lines_are_refused_in_words() {
    let invoke = r#"{"process":0,"type":"invoke","f":"write","value":1}"#;
    let cases = [
        ("nonsense", "line 1: expected"),
        (r#"{"process":0}"#, "line 1: missing field `type`"),
        (r#"{"process":0,"type":"begin"}"#, "line 1: unknown variant `begin`"),
        (r#"{"type":"invoke","f":"read"}"#, "line 1: names no process; add \"process\""),
        (r#"{"process":[1],"type":"invoke","f":"read"}"#, "line 1: \"process\" is neither a number nor a text"),
        (r#"{"process":0,"type":"ok","f":"read"}"#, "line 1: process 0 completes an operation that it never invoked"),
        (&format!("{invoke}\n\n{invoke}"), "line 3: process 0 invokes while its operation of line 1 is still open"),
        (
            &format!("{invoke}\n{{\"process\":0,\"type\":\"ok\",\"f\":\"read\"}}"),
            "line 2: process 0 completes another operation",
        ),
        (
            &format!("{invoke}\n{{\"process\":0,\"type\":\"ok\",\"time\":3}}"),
            "line 2: has a time where other lines have none",
        ),
        (r#"{"process":0,"type":"invoke","f":"jump"}"#, "line 1: no operation of a register or key is called \"jump\""),
        (r#"{"process":0,"type":"invoke"}"#, "line 1: names no operation"),
        (r#"{"process":0,"type":"invoke","f":"cas","value":3}"#, "line 1: a cas has no pair of values"),
        (
            "{\"process\":0,\"type\":\"invoke\",\"f\":\"read\"}\n{\"process\":0,\"type\":\"ok\"}",
            "line 2: a read does not say what it read",
        ),
        (r#"{"process":0,"type":"invoke","f":"get","path":"a"}"#, "line 1: \"a\" is no path of a node"),
        (
            r#"{"process":0,"type":"invoke","f":"jump","path":"/a"}"#,
            "line 1: no operation of ZooKeeper's tree is called \"jump\"",
        ),
        (
            r#"{"process":0,"type":"invoke","f":"multi","ops":[{"f":"get","path":"/a"}]}"#,
            "line 1: \"get\" cannot be part of a multi",
        ),
        (r#"{"process":0,"type":"invoke","f":"multi","ops":[3]}"#, "line 1: \"ops\" holds something that is no object"),
        (r#"{"process":0,"type":"event","path":"/a"}"#, "line 1: an event does not say what happened"),
        (r#"{"type":"init","path":"a"}"#, "line 1: \"a\" is no path of a node"),
        (r#"{"type":"final","f":"close","path":"/a"}"#, "line 1: \"close\" reads nothing that could be final"),
    ];
    for (text, expected) in cases {
        let error = check_text(text, None).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}\n gives {error:?}\n not   {expected:?}");
        assert!(error.contains("; ") && !error.contains('\n'), "{error:?} says what to do, in one line");
    }
}

#[test]
fn bounds_hold() {
    let limits = Limits::default();
    let long = format!("{{\"type\":\"init\",\"value\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX));
    let error = check(long.as_bytes(), None, &limits).unwrap_err();
    assert!(error.what.contains("longer than"), "{error}");
    let many = "{\"type\":\"init\"}\n".repeat(LINES_MAX + 1);
    let error = check(BufReader::new(many.as_bytes()), None, &limits).unwrap_err();
    assert_eq!(error.line, LINES_MAX + 1, "{error}");
    assert!(check(&b"\xff\xfe\n"[..], None, &limits).unwrap_err().what.contains("UTF-8"));
}

#[test]
fn jepsen_habits_are_understood() {
    // Notes of its own, completions without "f", a nemesis, processes as texts.
    let text = r#"
        {"index":0,"process":"nemesis","type":"info","f":"start","value":null}
        {"index":1,"process":"a","type":"invoke","f":"write","value":{"deep":[1,2]},"clock":3}
        {"index":2,"process":"a","type":"ok"}
        {"index":3,"process":"b","type":"invoke","f":"read","value":null}
        {"index":4,"process":"b","type":"ok","value":{"deep":[1,2]}}"#;
    let verdict = check_text(text, None).unwrap();
    assert_eq!(verdict, Verdict::Ok { model: ModelKind::Register, operations: 2, unknown: 0, parts: 1 });
}

#[test]
fn times_order_what_lines_do_not() {
    // The read was over before the write began, though its lines stand behind.
    let text = |read: u8| {
        format!(
            r#"{{"process":0,"type":"invoke","f":"write","value":1,"time":50}}
               {{"process":0,"type":"ok","f":"write","time":60}}
               {{"process":1,"type":"invoke","f":"read","time":{read}}}
               {{"process":1,"type":"ok","f":"read","value":1,"time":{read}}}"#
        )
    };
    assert!(matches!(check_text(&text(40), None).unwrap(), Verdict::Violation(_)));
    assert!(matches!(check_text(&text(50), None).unwrap(), Verdict::Ok { .. }), "one moment is concurrent");
}

#[test]
fn the_documentation_holds() {
    let crate_folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let path = format!("{crate_folder}/../../docs/check-format.md");
    let text = std::fs::read_to_string(path).expect("docs/check-format.md is there");
    let blocks: Vec<&str> = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 3, "the document has examples");
    let mut violations = 0;
    for block in blocks {
        match check_text(block, None).unwrap_or_else(|error| panic!("{error}\n{block}")) {
            Verdict::Ok { operations, .. } => assert!(operations > 0),
            Verdict::Violation(_) => violations += 1,
            Verdict::Unknown { why } => panic!("{why}"),
        }
    }
    assert_eq!(violations, 1, "one of the examples is the stale read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whatever the lines say, there is a verdict or an error, and no panic.
    #[test]
    fn no_line_panics(lines in prop::collection::vec(
        (0_u8..3, 0_usize..7, 0_usize..16, 0_usize..6, 0_usize..12, prop::option::of(prop_oneof![0_u64..9, Just(u64::MAX)])), 0..14),
        model in 0_usize..4,
        timed: bool,
    ) {
        let kinds = ["invoke", "ok", "ok", "info", "fail", "init", "final"];
        let fs = ["read", "write", "cas", "create", "set", "get", "delete", "children", "exists", "multi", "close", "expire", "sync", "append", "put", "check"];
        let paths = ["/", "/a", "/a/b", "/zookeeper", "/a/", "//"];
        let extras = [
            "", ",\"value\":1", ",\"value\":[1,2]", ",\"value\":[\"a\"]", ",\"version\":9223372036854775807", ",\"watch\":true,\"value\":null",
            ",\"ephemeral\":true", ",\"sequential\":true", ",\"created\":\"/é0000000001\"", ",\"error\":\"no_node\"",
            ",\"ops\":[{\"f\":\"create\",\"path\":\"/a\"},{\"f\":\"delete\",\"path\":\"/\"}],\"results\":[{},{}]", ",\"event\":\"deleted\"",
        ];
        let mut text = String::new();
        for (number, (process, kind, f, path, extra, zxid)) in lines.into_iter().enumerate() {
            let kind = if extra == 11 { "event" } else { kinds[kind] };
            let f = if matches!(kind, "ok" | "info" | "fail") { String::new() } else { format!(",\"f\":\"{}\"", fs[f]) };
            let zxid_field = zxid.map(|zxid| format!(",\"zxid\":{zxid}")).unwrap_or_default();
            let moment = zxid.unwrap_or(number as u64);
            let time = if timed { format!(",\"time\":{moment}") } else { String::new() };
            text.push_str(&format!("{{\"process\":{process},\"type\":\"{kind}\"{f},\"path\":\"{}\",\"key\":\"{path}\"{time}{zxid_field}{}}}\n", paths[path], extras[extra]));
        }
        let _ = check_text(&text, Some(ModelKind::NAMES[model].1));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = check(bytes.as_slice(), None, &Limits::default());
    }
}
