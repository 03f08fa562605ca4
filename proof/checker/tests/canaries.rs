//! Planted histories: each checker rejects its bad ones, by the right law, and accepts the good ones beside them.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use verity_checker::{ModelKind, Verdict, Violation, check_text};

/// Lines from a short form: `process type f rest-of-the-object`, one a line; the time is the line's number.
fn lines(short: &str) -> String {
    let mut out = String::new();
    for (number, line) in short.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let time = (number + 1) * 1_000_000;
        let mut words = line.splitn(4, ' ');
        let (process, kind, f) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let rest = words.next().map(|rest| format!(",{rest}")).unwrap_or_default();
        out.push_str(&format!("{{\"process\":{process},\"type\":\"{kind}\",\"f\":\"{f}\",\"time\":{time}{rest}}}\n"));
    }
    out
}

fn good(short: &str, model: ModelKind) {
    let verdict = check_text(&lines(short), Some(model)).unwrap();
    assert!(matches!(verdict, Verdict::Ok { .. }), "{verdict:#?}");
}

/// Rejected by `law`; the part that is shown is rejected too.
fn bad(short: &str, model: ModelKind, law: &str) -> Violation {
    let verdict = check_text(&lines(short), Some(model)).unwrap();
    let Verdict::Violation(violation) = verdict else { panic!("accepted: {verdict:#?}") };
    assert_eq!(violation.law, law, "{}", violation.words);
    assert!(violation.svg.starts_with("<svg") && violation.svg.contains('✕'));
    let again = check_text(&violation.smallest, Some(model)).unwrap();
    assert!(
        matches!(again, Verdict::Violation(_)),
        "the smallest part is accepted:\n{}\n{again:#?}",
        violation.smallest
    );
    *violation
}

const LIN: &str = "linearizability";

#[test]
fn register_stale_read() {
    let stale = r#"
        0 invoke write "value":1
        0 ok write
        1 invoke write "value":2
        1 ok write
        2 invoke read
        2 ok read "value":1"#;
    let violation = bad(stale, ModelKind::Register, LIN);
    assert_eq!(violation.operations, 3);
    for part in ["process 2's read → 1 cannot be explained", "process 0: write 1", "process 1: write 2", "lines 5, 6"]
    {
        assert!(violation.words.contains(part), "{part:?} is missing from:\n{}", violation.words);
    }
    good(&stale.replace("2 ok read \"value\":1", "2 ok read \"value\":2"), ModelKind::Register);
}

#[test]
fn register_noise_is_left_out() {
    let mut noisy = String::new();
    for n in 0..40 {
        noisy.push_str(&format!("{} invoke write \"value\":{n}\n{} ok write\n", n % 3, n % 3));
        noisy.push_str(&format!("{} invoke read\n{} ok read \"value\":{n}\n", n % 5, n % 5));
    }
    noisy.push_str("7 invoke read\n7 ok read \"value\":11\n0 invoke write \"value\":77\n0 ok write\n");
    let violation = bad(&noisy, ModelKind::Register, LIN);
    assert!(violation.operations <= 3, "{}", violation.words);
}

#[test]
fn register_reads_that_disagree() {
    // Two writes at once; one reader finds 1 then 2, another afterwards 1 again.
    let flip = r#"
        0 invoke write "value":1
        1 invoke write "value":2
        2 invoke read
        2 ok read "value":1
        2 invoke read
        2 ok read "value":2
        3 invoke read
        3 ok read "value":1
        0 ok write
        1 ok write"#;
    bad(flip, ModelKind::Register, LIN);
}

#[test]
fn register_unknown_outcome_may_show_at_any_time_or_never() {
    let late = r#"
        0 invoke write "value":1
        0 info write
        1 invoke read
        1 ok read "value":null
        1 invoke read
        1 ok read "value":1"#;
    good(late, ModelKind::Register);
    good(&late.replace("1 ok read \"value\":1", "1 ok read \"value\":null"), ModelKind::Register);
    let and_gone = format!("{late}\n1 invoke read\n1 ok read \"value\":null");
    bad(&and_gone, ModelKind::Register, LIN);
}

#[test]
fn register_failed_write_must_not_show() {
    let aborted = r#"
        0 invoke write "value":1
        0 fail write
        1 invoke read
        1 ok read "value":1"#;
    bad(aborted, ModelKind::Register, LIN);
    good(&aborted.replace("ok read \"value\":1", "ok read \"value\":null"), ModelKind::Register);
}

#[test]
fn register_two_winners_of_one_race() {
    let race = r#"
        0 invoke cas "value":[null,1]
        1 invoke cas "value":[null,2]
        0 ok cas
        1 ok cas"#;
    bad(race, ModelKind::Register, LIN);
    good(&race.replace("1 ok cas", "1 ok cas \"swapped\":false"), ModelKind::Register);
}

#[test]
fn kv_lost_append_of_one_key_among_many() {
    let lost = r#"
        0 invoke append "key":"x","value":"a"
        0 ok append
        1 invoke put "key":"y","value":"z"
        1 ok put
        0 invoke append "key":"x","value":"b"
        0 ok append
        2 invoke get "key":"x"
        2 ok get "value":"b"
        1 invoke delete "key":"y"
        1 ok delete
        1 invoke get "key":"y"
        1 ok get "value":null"#;
    let violation = bad(lost, ModelKind::Kv, LIN);
    assert!(!violation.smallest.contains("\"y\""), "the other key is no part of it");
    good(
        &lost.replace("\"value\":\"b\"\n        1 invoke delete", "\"value\":\"ab\"\n        1 invoke delete"),
        ModelKind::Kv,
    );
}

#[test]
fn kv_final_state_misses_an_acknowledged_write() {
    let text = lines("0 invoke put \"key\":\"x\",\"value\":1\n0 ok put");
    let with = |value: u8| format!("{text}{{\"type\":\"final\",\"key\":\"x\",\"value\":{value}}}\n");
    assert!(matches!(check_text(&with(1), None).unwrap(), Verdict::Ok { model: ModelKind::Kv, .. }));
    assert!(matches!(check_text(&with(2), None).unwrap(), Verdict::Violation(_)));
}

#[test]
fn initial_values_are_taken() {
    let text = "{\"type\":\"init\",\"value\":7}\n{\"process\":0,\"type\":\"invoke\",\"f\":\"read\"}\n";
    let read = |value: u8| format!("{text}{{\"process\":0,\"type\":\"ok\",\"value\":{value}}}\n");
    assert!(matches!(check_text(&read(7), None).unwrap(), Verdict::Ok { .. }));
    let Verdict::Violation(violation) = check_text(&read(8), None).unwrap() else { panic!("accepted") };
    assert!(violation.smallest.contains("init"));
}

const ZK: ModelKind = ModelKind::Zookeeper;

#[test]
fn zookeeper_reads_may_be_stale_but_sync_makes_them_fresh() {
    let stale = r#"
        1 invoke create "path":"/a","value":1
        1 ok create
        2 invoke get "path":"/a"
        2 ok get "value":1
        1 invoke set "path":"/a","value":2
        1 ok set "version":1
        2 invoke get "path":"/a"
        2 ok get "value":1"#;
    good(stale, ZK);
    bad(stale, ModelKind::ZookeeperLinearizable, LIN);
    let synced = stale.replace("1 ok set \"version\":1", "1 ok set \"version\":1\n2 invoke sync\n2 ok sync");
    bad(&synced, ZK, LIN);
}

#[test]
fn zookeeper_session_goes_back() {
    let back = r#"
        1 invoke create "path":"/a","value":1
        1 ok create
        1 invoke set "path":"/a","value":2
        1 ok set
        2 invoke get "path":"/a"
        2 ok get "value":2
        2 invoke get "path":"/a"
        2 ok get "value":1"#;
    bad(back, ZK, LIN);
    // With zxids the law says so itself, also when the values do not.
    let zxids = r#"
        1 invoke create "path":"/a","value":1
        1 ok create "zxid":10
        2 invoke get "path":"/a"
        2 ok get "value":1,"zxid":12
        2 invoke get "path":"/a"
        2 ok get "value":1,"zxid":11"#;
    bad(zxids, ZK, "session order");
    good(&zxids.replace("11", "12"), ZK);
}

#[test]
fn zookeeper_own_write_is_not_seen_behind_a_reconnect() {
    let lost = r#"
        1 invoke create "session":9,"path":"/a","value":1
        1 ok create "zxid":5
        1 invoke set "session":9,"path":"/a","value":2
        1 ok set "zxid":6
        2 invoke get "session":9,"path":"/a"
        2 ok get "value":1"#;
    bad(lost, ZK, LIN);
}

#[test]
fn zookeeper_writes_of_a_session_out_of_order() {
    // Two pipelined sets of one session by two processes: the second one asked for must be the last one done.
    let swapped = r#"
        1 invoke create "session":9,"path":"/a","value":0
        1 ok create
        1 invoke set "session":9,"path":"/a","value":1
        2 invoke set "session":9,"path":"/a","value":2
        1 ok set "version":2
        2 ok set "version":1"#;
    bad(swapped, ZK, LIN);
    good(
        &swapped.replace(
            "1 ok set \"version\":2\n        2 ok set \"version\":1",
            "1 ok set \"version\":1\n 2 ok set \"version\":2",
        ),
        ZK,
    );
}

#[test]
fn zookeeper_zxid_inversion() {
    let inverted = r#"
        1 invoke create "path":"/a"
        1 ok create "zxid":8
        2 invoke create "path":"/b"
        2 ok create "zxid":7"#;
    bad(inverted, ZK, "zxid order");
    bad(&inverted.replace('7', "8"), ZK, "zxid order");
    good(&inverted.replace('7', "9"), ZK);
    let foreseen = r#"
        1 invoke exists "path":"/b"
        1 ok exists "exists":false,"zxid":9
        2 invoke create "path":"/a"
        2 ok create "zxid":7"#;
    bad(foreseen, ZK, "zxid order");
}

#[test]
fn zookeeper_effects_against_the_order_of_zxids() {
    // Concurrent sets whose versions say one order and whose zxids say the other.
    let crossed = r#"
        1 invoke create "path":"/a"
        1 ok create "zxid":1
        1 invoke set "path":"/a","value":1
        2 invoke set "path":"/a","value":2
        1 ok set "version":2,"zxid":2
        2 ok set "version":1,"zxid":3"#;
    bad(crossed, ZK, "zxid order");
    good(
        &crossed
            .replace("\"version\":2,", "\"version\":9,")
            .replace("\"version\":1,", "\"version\":2,")
            .replace("\"version\":9,", "\"version\":1,"),
        ZK,
    );
}

#[test]
fn zookeeper_duplicate_sequence_number() {
    let twice = r#"
        1 invoke create "path":"/q"
        1 ok create
        1 invoke create "path":"/q/x-","sequential":true
        2 invoke create "path":"/q/y-","sequential":true
        1 ok create "created":"/q/x-0000000000"
        2 ok create "created":"/q/y-0000000000""#;
    bad(twice, ZK, "sequence");
    good(&twice.replace("y-0000000000", "y-0000000001"), ZK);
    // One that is skipped is no duplicate, but nobody made the child that it counts.
    bad(&twice.replace("y-0000000000", "y-0000000002"), ZK, LIN);
    let falling = r#"
        1 invoke create "path":"/q/x-","sequential":true
        1 ok create "created":"/q/x-0000000004","zxid":3
        2 invoke create "path":"/q/x-","sequential":true
        2 ok create "created":"/q/x-0000000003","zxid":4"#;
    bad(falling, ZK, "sequence");
}

#[test]
fn zookeeper_ephemeral_survives_its_session() {
    let survives = r#"
        1 invoke create "path":"/e","ephemeral":true
        1 ok create "zxid":1
        1 invoke close
        1 ok close "zxid":2
        2 invoke create "path":"/x"
        2 ok create "zxid":3
        2 invoke exists "path":"/e"
        2 ok exists "zxid":3"#;
    bad(survives, ZK, "ephemeral");
    good(&survives.replace("2 ok exists", "2 ok exists \"exists\":false,"), ZK);
    let without_zxids = survives
        .replace(",\"zxid\":3", "")
        .replace("\"zxid\":3", "")
        .replace("\"zxid\":2", "")
        .replace("\"zxid\":1", "");
    let plain: String = without_zxids.lines().map(|line| format!("{}\n", line.trim_end_matches([' ', ',']))).collect();
    bad(&plain, ZK, LIN);
}

#[test]
fn zookeeper_ephemeral_vanishes_while_its_session_lives() {
    let vanishes = r#"
        1 invoke create "path":"/e","ephemeral":true
        1 ok create "zxid":1
        2 invoke create "path":"/x"
        2 ok create "zxid":3
        2 invoke exists "path":"/e"
        2 ok exists "exists":false,"zxid":3
        1 invoke set "path":"/x"
        1 ok set "zxid":4"#;
    bad(vanishes, ZK, "ephemeral");
    // A session that is heard of no more may have expired.
    good(vanishes.split("1 invoke set").next().unwrap(), ZK);
}

#[test]
fn zookeeper_expired_session_goes_on() {
    let zombie = r#"
        1 invoke create "path":"/e","ephemeral":true
        1 ok create
        0 invoke expire "session":1
        0 ok expire
        1 invoke set "path":"/e","value":2
        1 ok set"#;
    bad(zombie, ZK, LIN);
    good(&zombie.replace("1 ok set", "1 ok set \"error\":\"session_expired\""), ZK);
}

#[test]
fn zookeeper_watch_comes_behind_the_new_state() {
    let good_order = r#"
        1 invoke create "path":"/a","value":1
        1 ok create "zxid":1
        2 invoke get "path":"/a","watch":true
        2 ok get "value":1,"zxid":1
        1 invoke set "path":"/a","value":2
        1 ok set "zxid":2
        2 event watch "path":"/a","event":"changed"
        2 invoke get "path":"/a"
        2 ok get "value":2,"zxid":2"#;
    good(good_order, ZK);
    let event = "2 event watch \"path\":\"/a\",\"event\":\"changed\"\n";
    let late = format!("{}\n{event}", good_order.replace(event, ""));
    bad(&late, ZK, "watch");
    let lost = good_order.replace(event, "");
    bad(&lost, ZK, "watch");
    let twice = format!("{good_order}\n{event}");
    let violation = bad(&twice, ZK, "watch");
    assert!(violation.words.contains("had no watch there"), "{}", violation.words);
}

#[test]
fn zookeeper_child_watch_is_lost() {
    let lost = r#"
        1 invoke create "path":"/d"
        1 ok create "zxid":1
        2 invoke children "path":"/d","watch":true
        2 ok children "value":[],"zxid":1
        1 invoke create "path":"/d/x"
        1 ok create "zxid":2
        2 invoke children "path":"/d"
        2 ok children "value":["x"],"zxid":2"#;
    bad(lost, ZK, "watch");
    let told = lost.replace(
        "1 ok create \"zxid\":2",
        "1 ok create \"zxid\":2\n2 event watch \"path\":\"/d\",\"event\":\"children\"",
    );
    good(&told, ZK);
    // A value that changes is no matter of a child watch.
    good(
        &lost
            .replace("1 invoke create \"path\":\"/d/x\"", "1 invoke set \"path\":\"/d\"")
            .replace("1 ok create \"zxid\":2", "1 ok set \"zxid\":2")
            .replace("[\"x\"]", "[]"),
        ZK,
    );
}

#[test]
fn zookeeper_acknowledged_write_is_gone_at_the_end() {
    let text = lines(
        "1 invoke create \"path\":\"/a\",\"value\":1\n1 ok create \"zxid\":1\n1 invoke set \"path\":\"/a\",\"value\":2\n1 ok set \"zxid\":2",
    );
    let with = |end: &str| check_text(&format!("{text}{{\"type\":\"final\",\"path\":\"/a\",{end}}}\n"), None).unwrap();
    assert!(matches!(with("\"value\":2,\"version\":1"), Verdict::Ok { model: ModelKind::Zookeeper, .. }));
    for lost in ["\"value\":1", "\"error\":\"no_node\""] {
        let Verdict::Violation(violation) = with(lost) else { panic!("{lost} accepted") };
        assert_eq!(violation.law, "durability");
    }
    assert!(matches!(with("\"value\":2,\"version\":2"), Verdict::Violation(_)), "the version is judged too");
}

#[test]
fn zookeeper_multi_is_all_or_nothing() {
    let half = r#"
        1 invoke create "path":"/a","value":1
        1 ok create
        2 invoke multi "ops":[{"f":"set","path":"/a","value":2},{"f":"delete","path":"/missing"}]
        2 ok multi "results":[{"error":"rolled_back"},{"error":"no_node"}]
        1 invoke sync
        1 ok sync
        1 invoke get "path":"/a"
        1 ok get "value":2"#;
    bad(half, ZK, LIN);
    good(&half.replace("1 ok get \"value\":2", "1 ok get \"value\":1"), ZK);
}

#[test]
fn zookeeper_folders_are_judged_apart_where_that_is_exact() {
    let apart = r#"
        1 invoke create "path":"/a"
        1 ok create
        2 invoke create "path":"/b"
        2 ok create
        1 invoke set "path":"/a","value":1
        1 ok set "version":1
        2 invoke set "path":"/b","value":1
        2 ok set "version":1"#;
    let parts = |short: &str| match check_text(&lines(short), Some(ModelKind::ZookeeperLinearizable)).unwrap() {
        Verdict::Ok { parts, .. } => parts,
        other => panic!("{other:?}"),
    };
    assert_eq!(parts(apart), 2);
    let both =
        "1 invoke multi \"ops\":[{\"f\":\"check\",\"path\":\"/a\"},{\"f\":\"check\",\"path\":\"/b\"}]\n1 ok multi";
    assert_eq!(parts(&format!("{apart}\n{both}")), 1, "a multi ties them together");
    let root = "1 invoke children \"path\":\"/\"\n1 ok children \"value\":[\"a\",\"b\",\"zookeeper\"]";
    assert_eq!(parts(&format!("{apart}\n{root}")), 1, "whoever looks at the root sees both");
}
