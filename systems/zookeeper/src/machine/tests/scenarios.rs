//! Runs `testdata/*.txt`: blocks of commands, `----`, and what they answer. With `VERITY_REWRITE` set in the
//! environment the files are rewritten with what the tree answers now.
//!
//! `session ID`, `auth SESSION SCHEME ID`, `time MS`, `create|create2|container|ttl SESSION PATH [key=value]..`,
//! `delete|check SESSION PATH [VERSION]`, `set SESSION PATH DATA [VERSION]`, `setacl SESSION PATH ACL [VERSION]`,
//! `get|stat|ls|acl|count|ephemerals SESSION PATH`, `close SESSION`, `multi SESSION` with its operations on lines
//! that begin with a dash, `configure SWITCH..`, `snapshot`.

use std::fmt::Write as _;
use std::path::Path;

use super::rig::{NODE, Outcome, Rig, restored, snapshot};
use crate::machine::{TreeConfig, close_session, configure};
use crate::wire::{
    Acl, CreateRequest, CreateTtlRequest, Decode, ErrorCode, ErrorResponse, GetAclResponse, GetDataResponse, Id,
    MultiHeader, OpCode, PathOnly, PathVersion, PathWatch, Reader, Request, SetAclRequest, SetDataRequest, Stat,
    Strings,
};
use verity_contract::StateMachine;

#[test]
fn every_scenario_answers_as_written() {
    let folder =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is")).join("testdata");
    let mut count = 0;
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("testdata").map(|f| f.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "txt"));
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        let now = run(&text, &mut count);
        if std::env::var_os("VERITY_REWRITE").is_some() {
            std::fs::write(&file, now).expect("writable");
        } else {
            assert_eq!(text, now, "{}", file.display());
        }
    }
    assert!(count > 50, "scenarios were run");
}

fn run(text: &str, count: &mut usize) -> String {
    let mut rig = Rig::new(TreeConfig::default());
    let mut out = Vec::new();
    for block in text.trim_end().split("\n\n") {
        let (input, _) = block.split_once("\n----").unwrap_or((block, ""));
        let mut now = input.to_owned();
        if !input.lines().all(|line| line.starts_with('#')) {
            now.push_str("\n----");
            let mut lines = input.lines().filter(|line| !line.starts_with('#')).peekable();
            while let Some(line) = lines.next() {
                let mut inner = Vec::new();
                while let Some(more) = lines.next_if(|line| line.starts_with("- ")) {
                    inner.push(&more[2..]);
                }
                *count += 1;
                let _ = write!(now, "\n{}", answer(&mut rig, line, &inner));
            }
        }
        out.push(now);
    }
    out.join("\n\n") + "\n"
}

fn number(text: &str) -> i32 {
    text.parse().unwrap_or_else(|_| panic!("{text} is a number"))
}

fn acl(text: &str) -> Vec<Acl<'_>> {
    let entry = |entry| {
        let mut parts = str::splitn(entry, 3, ':');
        let mut next = || parts.next().expect("perms:scheme:id");
        Acl { perms: number(next()), id: Id { scheme: next(), id: next() } }
    };
    text.split(',').filter(|entry| !entry.is_empty()).map(entry).collect()
}

/// A write's request from the words of its line, the session left out.
fn write_request<'a>(words: &[&'a str]) -> Option<Request<'a>> {
    let path = *words.get(1)?;
    let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let version = |at: usize| words.get(at).map_or(-1, |text| number(text));
    let data = match value("data") {
        Some("null") => None,
        data => Some(data.unwrap_or_default().as_bytes()),
    };
    let flags = value("mode").map_or(0, number);
    let list = value("acl").map_or(vec![Acl::OPEN], acl);
    let create = CreateRequest { path, data, acl: list.clone(), flags };
    Some(match words[0] {
        "create" => Request::Create(OpCode::Create, create),
        "create2" => Request::Create(OpCode::Create2, create),
        "container" => Request::Create(OpCode::CreateContainer, create),
        "ttl" => {
            let ttl = value("ttl").map_or(1000, number).into();
            Request::CreateTtl(CreateTtlRequest { path, data, acl: list, flags, ttl })
        }
        "delete" => Request::Delete(PathVersion { path, version: version(2) }),
        "check" => Request::Check(PathVersion { path, version: version(2) }),
        "set" => Request::SetData(SetDataRequest { path, data: Some(words[2].as_bytes()), version: version(3) }),
        "setacl" => Request::SetAcl(SetAclRequest { path, acl: acl(words[2]), version: version(3) }),
        _ => return None,
    })
}

fn answer(rig: &mut Rig, line: &str, inner: &[&str]) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    match words[0] {
        "session" => return text_of(&rig.session(number(words[1]).into()), ""),
        "close" => return text_of(&rig.apply(NODE, close_session(number(words[1]).into())), ""),
        "auth" => {
            rig.auth(number(words[1]).into(), words[2], words.get(3).unwrap_or(&""));
            return "ok".into();
        }
        "time" => {
            rig.time = u64::try_from(number(words[1])).expect("not negative");
            return "ok".into();
        }
        "configure" => {
            let on = |name| words.contains(&name);
            let config = TreeConfig {
                extended_types: on("extended"),
                enforce_quota: on("quota"),
                skip_acl: on("skipacl"),
                ..TreeConfig::default()
            };
            return text_of(&rig.apply(NODE, configure(&config)), "");
        }
        "snapshot" => {
            let before = rig.tree.digest();
            rig.tree = restored(&snapshot(&mut rig.tree, 100));
            assert_eq!(rig.tree.digest(), before, "a snapshot is the state");
            return "same".into();
        }
        _ => {}
    }
    let session = number(words.remove(1)).into();
    if words[0] == "multi" {
        let split: Vec<Vec<&str>> = inner.iter().map(|line| line.split(' ').collect()).collect();
        let list = split.iter().map(|words| write_request(words).expect("a write")).collect();
        let outcome = rig.write(session, &Request::Multi(list));
        let results = multi_results(&outcome.body);
        return text_of(&outcome, &results);
    }
    match write_request(&words) {
        Some(request) => {
            let outcome = rig.write(session, &request);
            let body = match request.op() {
                OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl if outcome.err == 0 => {
                    <&str>::from_bytes(&outcome.body).expect("a path").to_owned()
                }
                OpCode::SetData | OpCode::SetAcl if outcome.err == 0 => {
                    let stat = Stat::from_bytes(&outcome.body).expect("a stat");
                    format!("v={} av={}", stat.version, stat.aversion)
                }
                _ => String::new(),
            };
            text_of(&outcome, &body)
        }
        None => read_answer(rig, session, &words),
    }
}

fn text_of(outcome: &Outcome, body: &str) -> String {
    let mut text = if outcome.err == 0 { "ok".to_owned() } else { name_of(outcome.err) };
    let _ = write!(text, " zxid={}", outcome.zxid);
    if !body.is_empty() {
        let _ = write!(text, " {body}");
    }
    for event in &outcome.events {
        let _ = write!(text, "\n  ! {event}");
    }
    text
}

fn name_of(err: i32) -> String {
    ErrorCode::from_number(err).map_or(err.to_string(), |code| format!("{code:?}"))
}

fn multi_results(body: &[u8]) -> String {
    let mut reader = Reader::new(body);
    let mut text = Vec::new();
    loop {
        let header = MultiHeader::decode(&mut reader).expect("a header");
        if header.done {
            return format!("[{}]", text.join(", "));
        }
        text.push(match OpCode::from_number(header.op).expect("an opcode") {
            OpCode::Error => name_of(ErrorResponse::decode(&mut reader).expect("an error").err),
            OpCode::Create => <&str>::decode(&mut reader).expect("a path").to_owned(),
            OpCode::Create2 => {
                let path = <&str>::decode(&mut reader).expect("a path").to_owned();
                format!("{path}+stat {}", Stat::decode(&mut reader).expect("a stat").czxid)
            }
            OpCode::SetData => format!("v={}", Stat::decode(&mut reader).expect("a stat").version),
            op => format!("{op:?}"),
        });
    }
}

fn read_answer(rig: &mut Rig, session: i64, words: &[&str]) -> String {
    let path = words.get(1).copied().unwrap_or_default();
    let watch = PathWatch { path, watch: false };
    let request = match words[0] {
        "get" => Request::GetData(watch),
        "stat" => Request::Exists(watch),
        "ls" => Request::GetChildren(watch),
        "acl" => Request::GetAcl(PathOnly { path }),
        "count" => Request::GetAllChildrenNumber(PathOnly { path }),
        "ephemerals" => Request::GetEphemerals(PathOnly { path }),
        other => panic!("unknown word {other}"),
    };
    let (err, body) = rig.read(session, &request);
    if err != 0 {
        return name_of(err);
    }
    match request {
        Request::GetData(_) => {
            let data = GetDataResponse::from_bytes(&body).expect("data and stat").data;
            data.map_or("null".to_owned(), |data| format!("{:?}", String::from_utf8_lossy(data)))
        }
        Request::Exists(_) => {
            let s = Stat::from_bytes(&body).expect("a stat");
            format!(
                "c={} m={} p={} ct={} mt={} v={} cv={} av={} owner={} size={} children={}",
                s.czxid,
                s.mzxid,
                s.pzxid,
                s.ctime,
                s.mtime,
                s.version,
                s.cversion,
                s.aversion,
                s.ephemeral_owner,
                s.data_length,
                s.num_children
            )
        }
        Request::GetAcl(_) => {
            let list = GetAclResponse::from_bytes(&body).expect("a list and a stat").acl;
            let entries: Vec<String> =
                list.iter().map(|acl| format!("{}:{}:{}", acl.perms, acl.id.scheme, acl.id.id)).collect();
            entries.join(",")
        }
        Request::GetAllChildrenNumber(_) => i32::from_bytes(&body).expect("a count").to_string(),
        _ => format!("[{}]", Strings::from_bytes(&body).expect("strings").list.join(", ")),
    }
}
