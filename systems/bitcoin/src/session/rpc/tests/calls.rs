//! How requests are answered, whatever they ask for.

use super::world::World;
use crate::session::rpc::Json;

#[test]
fn the_first_form_has_result_and_error() {
    let mut world = World::new();
    let got = world.post(r#"{"id":"x","method":"getblockcount"}"#).expect("at once");
    assert_eq!((got.status, got.body.as_str()), (200, "{\"result\":0,\"error\":null,\"id\":\"x\"}\n"));
    assert!(got.head.contains("Content-Type: application/json"));
}

#[test]
fn the_second_form_has_one_of_both() {
    let mut world = World::new();
    let got = world.post(r#"{"jsonrpc":"2.0","id":7,"method":"getblockcount","params":{}}"#).expect("at once");
    assert_eq!((got.status, got.body.as_str()), (200, "{\"jsonrpc\":\"2.0\",\"result\":0,\"id\":7}\n"));
    let got = world.post(r#"{"jsonrpc":"2.0","id":7,"method":"x"}"#).expect("at once");
    let body = "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32601,\"message\":\"Method not found\"},\"id\":7}\n";
    assert_eq!((got.status, got.body.as_str()), (200, body));
}

#[test]
fn statuses_tell_errors_of_the_first_form() {
    let mut world = World::new();
    for (body, status, code, words) in [
        ("{", 500, -32700, "Parse error"),
        ("1", 500, -32700, "Top-level object parse error"),
        (r#"{"id":1}"#, 400, -32600, "Missing method"),
        (r#"{"id":1,"method":1}"#, 400, -32600, "Method must be a string"),
        (r#"{"id":1,"method":"stop","params":1}"#, 400, -32600, "Params must be an array or object"),
        (r#"{"id":1,"jsonrpc":"3.0","method":"x"}"#, 400, -32600, "JSON-RPC version not supported"),
        (r#"{"id":1,"jsonrpc":2,"method":"x"}"#, 400, -32600, "jsonrpc field must be a string"),
        (r#"{"id":1,"method":"x"}"#, 404, -32601, "Method not found"),
        (r#"{"id":1,"method":"getblockhash","params":[-1]}"#, 500, -8, "Block height out of range"),
    ] {
        let got = world.post(body).expect("at once");
        assert_eq!(got.status, status, "{body}");
        assert!(got.body.contains(&format!("{{\"code\":{code},\"message\":\"{words}\"}}")), "{body}: {}", got.body);
    }
}

#[test]
fn notifications_are_not_answered() {
    let mut world = World::new();
    for body in [r#"{"jsonrpc":"2.0","method":"getblockcount"}"#, r#"[{"jsonrpc":"2.0","method":"getblockcount"}]"#] {
        let got = world.post(body).expect("at once");
        assert_eq!((got.status, got.body.as_str()), (204, ""), "{body}");
    }
}

#[test]
fn arrays_are_answered_one_by_one() {
    let mut world = World::new();
    let got = world.post("[]").expect("at once");
    assert_eq!((got.status, got.body.as_str()), (200, "[]\n"));
    let body = r#"[{"id":1,"method":"getblockcount"},{"jsonrpc":"2.0","id":2,"method":"x"},7]"#;
    let got = world.post(body).expect("at once");
    assert_eq!(
        got.body,
        "[{\"result\":0,\"error\":null,\"id\":1},\
         {\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32601,\"message\":\"Method not found\"},\"id\":2},\
         {\"result\":null,\"error\":{\"code\":-32600,\"message\":\"Invalid Request object\"},\"id\":null}]\n"
    );
}

#[test]
fn whoever_is_not_known_is_sent_away() {
    let mut world = World::new();
    world.user = "u:x".into();
    let got = world.post("{}").expect("at once");
    assert_eq!(got.status, 401);
    assert!(got.head.contains("WWW-Authenticate: Basic realm=\"jsonrpc\""));
    assert_eq!(world.get("/").status, 405);
    assert_eq!(world.get("/").body, "JSONRPC server handles only POST requests");
    assert_eq!(world.get("/x").status, 404);
}

#[test]
fn whitelists_hold() {
    let mut world = World::with(|config| config.auth.add_whitelist("u:getblockcount"));
    assert_eq!(world.post(r#"{"method":"getblockcount"}"#).expect("at once").status, 200);
    assert_eq!(world.post(r#"{"method":"stop"}"#).expect("at once").status, 403);
    assert_eq!(world.post(r#"[{"method":"getblockcount"},{"method":"stop"}]"#).expect("at once").status, 403);
    let mut world = World::with(|config| config.auth.set_deny_others(true));
    assert_eq!(world.post(r#"{"method":"getblockcount"}"#).expect("at once").status, 403);
}

#[test]
fn a_node_that_is_not_ready_says_so() {
    let mut world = World::new();
    world.rpc.set_warmup("Loading block index…");
    let got = world.post(r#"{"id":1,"method":"getblockcount"}"#).expect("at once");
    assert_eq!(got.status, 500);
    assert!(got.body.contains("{\"code\":-28,\"message\":\"Loading block index…\"}"));
    assert_eq!(world.get("/rest/chaininfo.json").status, 503);
}

#[test]
fn waiting_ends_with_a_block_or_with_time() {
    let mut world = World::new();
    let wait = world.post(r#"{"id":1,"method":"waitfornewblock"}"#).expect_err("it waits");
    let active = world.ok("getrpcinfo", "[]");
    let names: Vec<_> = active.get("active_commands").items().unwrap().iter().map(|row| row.get("method")).collect();
    assert_eq!(names, [&Json::from("waitfornewblock"), &Json::from("getrpcinfo")]);
    assert_eq!(world.poll(), []);
    world.mine(1);
    assert_eq!(world.poll(), [wait]);
    let wait = world.post(r#"[{"id":1,"method":"waitforblockheight","params":[9,500]}]"#).expect_err("it waits");
    assert_eq!(world.rpc.wake_at(), Some(500));
    world.now_ms = 499;
    assert_eq!(world.poll(), []);
    world.now_ms = 500;
    assert_eq!(world.poll(), [wait]);
    assert_eq!(world.ok("waitforblockheight", "[1]").get("height").int(), Ok(1));
    assert_eq!(world.err("waitfornewblock", "[-1]"), (-1, "Negative timeout".into()));
    assert_eq!(world.rpc.waiting(), 0);
}

#[test]
fn help_lists_methods_by_category() {
    let mut world = World::new();
    let help = world.ok("help", "[]");
    let help = help.text().expect("a text").to_string();
    assert!(help.starts_with("== Blockchain ==\n"), "{help}");
    assert!(help.contains("\ngetblock \"blockhash\" ( verbosity )\n"));
    assert!(help.contains("\n\n== Util ==\n") && !help.contains("generatetoaddress"));
    assert_eq!(world.ok("help", r#"["x"]"#).text(), Ok("help: unknown command: x"));
    assert!(world.ok("help", r#"["stop"]"#).text().is_ok_and(|text| text.starts_with("stop\n\n")));
    assert!(world.ok("help", r#"["dump_all_command_conversions"]"#).items().is_ok_and(|rows| rows.len() > 150));
    assert_eq!(world.ok("stop", "[]").text(), Ok("Bitcoin Core stopping"));
    assert!(world.stop);
}

#[test]
fn calls_are_logged_where_asked_for() {
    let on = |said: &[&str]| {
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        World::with(|config| config.log_categories = said)
    };
    for said in [&[][..], &["net"], &["rpc", "0"], &["1", "none", "zmq"]] {
        let mut world = on(said);
        world.post(r#"{"method":"getblockcount"}"#).expect("at once");
        assert!(world.rpc.take_lines().is_empty(), "{said:?}");
    }
    for said in [&["1"][..], &["rpc"], &["0", "all"], &[""]] {
        let mut world = on(said);
        world.post(r#"[{"method":"getblockcount"},{"method":"a\nb\"c"}]"#).expect("at once");
        let lines = world.rpc.take_lines();
        assert_eq!(lines.len(), 2, "{said:?}");
        assert!(lines[0].starts_with("ThreadRPCServer method=getblockcount user="), "{}", lines[0]);
        assert!(lines[1].starts_with("ThreadRPCServer method=abc user="), "{}", lines[1]);
        assert!(world.rpc.take_lines().is_empty());
    }
}
