//! Histories of an honest service, by the line, are accepted by every model and every law; those of a service that
//! lies now and then are not.
//!
//! The service is a log of operations and nodes that apply it, each as far as it got. A session sits at one node:
//!
//! - upon a write: it enters the log, maybe long after it was asked for; its reply leaves when the node has applied it;
//! - upon a read: the node answers from what it has applied, and sets a watch if it is asked to;
//! - upon a `sync`: the node applies the whole log first;
//! - upon applying: watches fire, before any reply that shows the change;
//! - upon a lost reply: the write enters the log now, later, or never, and the session goes to a node that has applied
//!   what the session has seen;
//! - sessions close, or expire; their ephemeral nodes go with them.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use verity_checker::linearizability::{Code, Model, Seen, Tree, TreeOp, TreeOut, TreeState};
use verity_checker::{ModelKind, Verdict, check_text};

const NODES: usize = 3;
const CLIENTS: usize = 4;

/// What the service does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Nothing.
    None,
    /// A session may go to a node that is behind what it has seen.
    GoesBack,
    /// A watch may not fire.
    LosesWatches,
    /// The last write that was acknowledged is gone when all is over.
    LosesWrites,
    /// A session's ephemeral nodes stay when it ends.
    KeepsEphemerals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Data,
    Child,
}

struct Node {
    applied: usize,
    state: TreeState,
    ephemerals: BTreeMap<String, u64>,
    ended: BTreeSet<u64>,
    /// Armed watches: session, path, class.
    watches: BTreeSet<(u64, String, Class)>,
    outs: Vec<TreeOut>,
}

struct Logged {
    session: u64,
    op: TreeOp,
}

enum Doing {
    Nothing,
    /// Asked; not in the log yet.
    Asked(TreeOp, bool),
    /// In the log at this place.
    Logged(TreeOp, usize),
}

struct Client {
    session: u64,
    node: usize,
    /// The zxid that the session has been shown.
    seen: usize,
    doing: Doing,
}

struct World {
    rng: Rng,
    lie: Lie,
    linearizable: bool,
    lines: Vec<String>,
    log: Vec<Logged>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// Writes whose reply is lost and that are still under way.
    floating: Vec<Logged>,
    /// Sessions that expire: 0 asked for, 1 in the log.
    expiring: BTreeMap<u64, u8>,
    sessions: u64,
    values: i64,
}

impl Node {
    fn apply(&mut self, entry: &Logged, lie: Lie, rng: &mut Rng) -> Vec<(u64, String, &'static str)> {
        self.applied += 1;
        let mut changes = Vec::new();
        let out = if let TreeOp::Close { session } = entry.op {
            let was_open = self.ended.insert(session);
            let mine: Vec<String> =
                self.ephemerals.iter().filter(|(_, owner)| **owner == session).map(|(path, _)| path.clone()).collect();
            if !was_open {
                // It expired, or was closed, before.
                TreeOut::Error(Code::SessionExpired)
            } else if lie == Lie::KeepsEphemerals && !mine.is_empty() {
                TreeOut::Done(Seen::default())
            } else {
                mine.iter().for_each(|path| removed(path, &mut changes));
                self.ephemerals.retain(|_, owner| *owner != session);
                self.watches.retain(|(watcher, ..)| *watcher != session);
                self.state.answer(entry.session, &entry.op)
            }
        } else if self.ended.contains(&entry.session) {
            TreeOut::Error(Code::SessionExpired)
        } else {
            let out = self.state.answer(entry.session, &entry.op);
            self.note(entry.session, &entry.op, &out, &mut changes);
            out
        };
        self.outs.push(out);
        let mut told = Vec::new();
        for (path, kind) in changes {
            let classes: &[Class] = match kind {
                "children" => &[Class::Child],
                "deleted" => &[Class::Data, Class::Child],
                _ => &[Class::Data],
            };
            let armed: BTreeSet<u64> = self
                .watches
                .iter()
                .filter(|(_, at, class)| *at == path && classes.contains(class))
                .map(|(session, ..)| *session)
                .collect();
            self.watches.retain(|(_, at, class)| *at != path || !classes.contains(class));
            told.extend(armed.into_iter().map(|session| (session, path.clone(), kind)));
        }
        if lie == Lie::LosesWatches {
            told.retain(|_| rng.bool());
        }
        told
    }

    fn note(&mut self, session: u64, op: &TreeOp, out: &TreeOut, changes: &mut Vec<(String, &'static str)>) {
        match (op, out) {
            (TreeOp::Create { ephemeral, .. }, TreeOut::Done(seen)) => {
                let path = seen.path.clone().unwrap();
                changes.push((path.clone(), "created"));
                changes.push((parent(&path).to_owned(), "children"));
                if *ephemeral {
                    self.ephemerals.insert(path, session);
                }
            }
            (TreeOp::Delete { path, .. }, TreeOut::Done(_)) => {
                self.ephemerals.remove(path);
                removed(path, changes);
            }
            (TreeOp::Set { path, .. }, TreeOut::Done(_)) => changes.push((path.clone(), "changed")),
            (TreeOp::Multi(parts), TreeOut::Results(results))
                if !results.iter().any(|result| matches!(result, TreeOut::Error(_))) =>
            {
                parts.iter().zip(results).for_each(|(part, result)| self.note(session, part, result, changes));
            }
            _ => {}
        }
    }
}

fn removed(path: &str, changes: &mut Vec<(String, &'static str)>) {
    changes.push((path.to_owned(), "deleted"));
    changes.push((parent(path).to_owned(), "children"));
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

impl World {
    fn new(seed: u64, lie: Lie, linearizable: bool) -> Self {
        let node = || Node {
            applied: 0,
            state: Tree::default().init(),
            ephemerals: BTreeMap::new(),
            ended: BTreeSet::new(),
            watches: BTreeSet::new(),
            outs: Vec::new(),
        };
        let client = |n: usize| Client { session: n as u64 + 1, node: n % NODES, seen: 0, doing: Doing::Nothing };
        Self {
            rng: Rng::with_seed(seed),
            lie,
            linearizable,
            lines: Vec::new(),
            log: Vec::new(),
            nodes: (0..NODES).map(|_| node()).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            floating: Vec::new(),
            expiring: BTreeMap::new(),
            sessions: CLIENTS as u64,
            values: 0,
        }
    }

    fn write(&mut self, kind: &str, process: &str, session: u64, mut line: Json) {
        line["type"] = json!(kind);
        line["process"] = json!(process);
        line["session"] = json!(format!("s{session}"));
        line["time"] = json!(self.lines.len() + 1);
        self.lines.push(line.to_string());
    }

    fn run(mut self, steps: usize) -> String {
        for step in 0..steps {
            match self.rng.u32(..20) {
                0..6 => {
                    let node = self.rng.usize(..NODES);
                    self.advance(node, self.nodes[node].applied + 1);
                }
                6 if !self.floating.is_empty() => {
                    let which = self.rng.usize(..self.floating.len());
                    let entry = self.floating.swap_remove(which);
                    self.log.push(entry);
                }
                7 => self.expire(),
                _ => {
                    let client = self.rng.usize(..CLIENTS);
                    self.act(client, step * 10 > steps * 9);
                }
            }
        }
        (0..CLIENTS).for_each(|client| self.finish(client));
        self.finals();
        self.lines.join("\n")
    }

    /// Lets a node apply the log up to a place.
    fn advance(&mut self, node: usize, upto: usize) {
        while self.nodes[node].applied < upto.min(self.log.len()) {
            let entry = &self.log[self.nodes[node].applied];
            let told = self.nodes[node].apply(entry, self.lie, &mut self.rng);
            for (session, path, kind) in told {
                let name = format!("watcher of {session}");
                self.write("event", &name, session, json!({ "path": path, "event": kind }));
            }
        }
    }

    fn expire(&mut self) {
        let next = self.expiring.iter().find(|(_, stage)| **stage == 0).map(|(session, _)| *session);
        if let Some(session) = next {
            self.log.push(Logged { session: 0, op: TreeOp::Close { session } });
            self.expiring.insert(session, 1);
        } else if self.rng.u32(..6) == 0 {
            let session = self.clients[self.rng.usize(..CLIENTS)].session;
            if let Entry::Vacant(entry) = self.expiring.entry(session) {
                entry.insert(0);
                self.write("invoke", &format!("end of {session}"), session, json!({ "f": "expire" }));
            }
        }
    }

    fn act(&mut self, client: usize, ending: bool) {
        match std::mem::replace(&mut self.clients[client].doing, Doing::Nothing) {
            Doing::Nothing if ending => {}
            Doing::Nothing => self.ask(client),
            Doing::Asked(op, watch) if is_read(&op) => self.read(client, op, watch),
            Doing::Asked(op, _) => {
                let entry = Logged { session: self.clients[client].session, op: op.clone() };
                if self.rng.u32(..15) == 0 {
                    if self.rng.u32(..3) > 0 {
                        self.floating.push(entry);
                    }
                    return self.lose(client, &op);
                }
                self.log.push(entry);
                self.clients[client].doing = Doing::Logged(op, self.log.len());
            }
            Doing::Logged(op, _) if self.rng.u32(..20) == 0 => self.lose(client, &op),
            Doing::Logged(op, zxid) => self.answer(client, op, zxid),
        }
    }

    fn ask(&mut self, client: usize) {
        let op = self.draw(client);
        let watch = is_read(&op) && op != TreeOp::Sync && self.rng.u32(..4) == 0;
        let mut line = asked(&op);
        if watch {
            line["watch"] = json!(true);
        }
        let session = self.clients[client].session;
        self.write("invoke", &format!("c{client}"), session, line);
        self.clients[client].doing = Doing::Asked(op, watch);
    }

    fn read(&mut self, client: usize, op: TreeOp, watch: bool) {
        let Client { session, node, seen, .. } = self.clients[client];
        if self.linearizable || op == TreeOp::Sync {
            self.advance(node, self.log.len());
        }
        let at = &mut self.nodes[node];
        if at.ended.contains(&session) {
            return self.renew(client, &op);
        }
        let out = at.state.answer(session, &op);
        if watch {
            let found = !matches!(out, TreeOut::Error(_));
            match &op {
                TreeOp::Get { path } if found => drop(at.watches.insert((session, path.clone(), Class::Data))),
                TreeOp::Exists { path } => drop(at.watches.insert((session, path.clone(), Class::Data))),
                TreeOp::Children { path } if found => drop(at.watches.insert((session, path.clone(), Class::Child))),
                _ => {}
            }
        }
        let zxid = at.applied;
        self.clients[client].seen = seen.max(zxid);
        self.reply(client, &op, &out, zxid);
    }

    fn answer(&mut self, client: usize, op: TreeOp, zxid: usize) {
        let node = self.clients[client].node;
        self.advance(node, zxid);
        let out = self.nodes[node].outs[zxid - 1].clone();
        self.clients[client].seen = self.clients[client].seen.max(zxid);
        if out == TreeOut::Error(Code::SessionExpired) {
            return self.renew(client, &op);
        }
        self.reply(client, &op, &out, zxid);
        if matches!(op, TreeOp::Close { .. }) {
            self.fresh_session(client);
        }
    }

    fn reply(&mut self, client: usize, op: &TreeOp, out: &TreeOut, zxid: usize) {
        let mut line = answered(op, out);
        line["zxid"] = json!(zxid);
        let session = self.clients[client].session;
        self.write("ok", &format!("c{client}"), session, line);
    }

    /// The session is over, as the client now hears.
    fn renew(&mut self, client: usize, op: &TreeOp) {
        let session = self.clients[client].session;
        let line = answered(op, &TreeOut::Error(Code::SessionExpired));
        self.write("ok", &format!("c{client}"), session, line);
        self.fresh_session(client);
    }

    fn fresh_session(&mut self, client: usize) {
        let before = self.clients[client].session;
        if self.expiring.insert(before, 2) == Some(1) {
            self.write("ok", &format!("end of {before}"), before, json!({ "f": "expire" }));
        }
        self.sessions += 1;
        let node = self.rng.usize(..NODES);
        self.clients[client] = Client { session: self.sessions, node, seen: 0, doing: Doing::Nothing };
    }

    /// No reply comes. Watches do not survive here, so a session that has some gets a successor.
    fn lose(&mut self, client: usize, op: &TreeOp) {
        let Client { session, node, seen, .. } = self.clients[client];
        self.write("info", &format!("c{client}"), session, json!({}));
        let watches = self.nodes[node].watches.iter().any(|(watcher, ..)| *watcher == session);
        if watches || matches!(op, TreeOp::Close { .. }) {
            self.nodes[node].watches.retain(|(watcher, ..)| *watcher != session);
            self.sessions += 1;
            self.clients[client] = Client { session: self.sessions, node, seen: 0, doing: Doing::Nothing };
            return;
        }
        let next = self.rng.usize(..NODES);
        if self.lie != Lie::GoesBack {
            self.advance(next, seen);
        }
        self.clients[client].node = next;
        self.clients[client].doing = Doing::Nothing;
    }

    fn finish(&mut self, client: usize) {
        for _ in 0..10 {
            if matches!(self.clients[client].doing, Doing::Nothing) {
                return;
            }
            self.act(client, true);
        }
    }

    /// What a reader finds when all is over. What floats now never enters the log.
    fn finals(&mut self) {
        if self.lie == Lie::LosesWrites
            && let Some(last) = self.log.iter().rposition(|entry| matches!(entry.op, TreeOp::Set { .. }))
        {
            self.log.remove(last);
        }
        let mut state = Tree::default().init();
        let mut node = Node {
            applied: 0,
            state: std::mem::take(&mut state),
            ephemerals: BTreeMap::new(),
            ended: BTreeSet::new(),
            watches: BTreeSet::new(),
            outs: Vec::new(),
        };
        for entry in &self.log {
            node.apply(entry, self.lie, &mut self.rng);
        }
        for path in paths() {
            for op in [TreeOp::Get { path: path.clone() }, TreeOp::Children { path: path.clone() }] {
                let mut line = asked(&op);
                let out = answered(&op, &node.state.answer(0, &op));
                out.as_object().unwrap().iter().for_each(|(field, value)| line[field] = value.clone());
                line["type"] = json!("final");
                self.lines.push(line.to_string());
            }
        }
    }

    fn draw(&mut self, client: usize) -> TreeOp {
        let all = paths();
        let path = all[self.rng.usize(..all.len())].clone();
        self.values += 1;
        let value = self.values.into();
        let version = if self.rng.bool() { -1 } else { self.rng.i64(0..3) };
        match self.rng.u32(..40) {
            0..8 => TreeOp::Create { path, value, ephemeral: self.rng.bool(), sequential: false },
            8..12 => {
                let path = format!("{}/s-", ["/a", "/b"][self.rng.usize(..2)]);
                TreeOp::Create { path, value, ephemeral: self.rng.bool(), sequential: true }
            }
            12..16 => TreeOp::Delete { path, version },
            16..22 => TreeOp::Set { path, value, version },
            22..24 => TreeOp::Multi(vec![
                TreeOp::Set { path: path.clone(), value, version },
                TreeOp::Create { path: "/a/s-".into(), value: 0.into(), ephemeral: false, sequential: true },
            ]),
            24..31 => TreeOp::Get { path },
            31..34 => TreeOp::Exists { path },
            34..37 => TreeOp::Children { path },
            37..39 => TreeOp::Sync,
            _ => TreeOp::Close { session: self.clients[client].session },
        }
    }
}

fn paths() -> Vec<String> {
    ["/a", "/b", "/a/x", "/a/y", "/b/x"].map(str::to_owned).to_vec()
}

fn is_read(op: &TreeOp) -> bool {
    matches!(op, TreeOp::Get { .. } | TreeOp::Exists { .. } | TreeOp::Children { .. } | TreeOp::Sync)
}

fn plain(value: &verity_checker::Value) -> Json {
    value.to_string().parse::<i64>().map_or(Json::Null, Json::from)
}

fn asked(op: &TreeOp) -> Json {
    match op {
        TreeOp::Create { path, value, ephemeral, sequential } => {
            json!({"f":"create","path":path,"value":plain(value),"ephemeral":ephemeral,"sequential":sequential})
        }
        TreeOp::Delete { path, version } => json!({"f":"delete","path":path,"version":version}),
        TreeOp::Set { path, value, version } => {
            json!({"f":"set","path":path,"value":plain(value),"version":version})
        }
        TreeOp::Get { path } => json!({"f":"get","path":path}),
        TreeOp::Exists { path } => json!({"f":"exists","path":path}),
        TreeOp::Children { path } => json!({"f":"children","path":path}),
        TreeOp::Multi(parts) => json!({"f":"multi","ops":parts.iter().map(asked).collect::<Vec<_>>()}),
        TreeOp::Close { .. } => json!({"f":"close"}),
        TreeOp::Sync => json!({"f":"sync"}),
        TreeOp::Check { .. } => unreachable!("not drawn"),
    }
}

fn answered(op: &TreeOp, out: &TreeOut) -> Json {
    let seen = |seen: &Seen| {
        let owner = seen.owner.map(|owner| if owner == 0 { json!(0) } else { json!(format!("s{owner}")) });
        json!({"version":seen.version,"cversion":seen.cversion,"children":seen.children,"owner":owner})
    };
    let mut line = match out {
        TreeOut::Error(code) => json!({ "error": code.to_string() }),
        TreeOut::Done(told) if matches!(op, TreeOp::Create { .. }) => {
            let mut line = seen(told);
            line["created"] = json!(told.path);
            line
        }
        TreeOut::Done(told) => seen(told),
        TreeOut::Value(value, told) => {
            let mut line = seen(told);
            line["value"] = plain(value);
            line
        }
        TreeOut::Names(names, told) => {
            let mut line = seen(told);
            line["value"] = json!(names);
            line
        }
        TreeOut::Results(results) => {
            let TreeOp::Multi(parts) = op else { unreachable!("only a multi has results") };
            json!({ "results": parts.iter().zip(results).map(|(part, out)| answered(part, out)).collect::<Vec<_>>() })
        }
    };
    if !matches!(op, TreeOp::Check { .. }) {
        line["f"] = asked(op)["f"].take();
    }
    line
}

fn accepted(text: &str, model: ModelKind) -> Result<(), String> {
    match check_text(text, Some(model)).unwrap() {
        Verdict::Ok { .. } => Ok(()),
        Verdict::Violation(violation) => Err(format!("{}: {}\n{}", violation.law, violation.words, violation.smallest)),
        Verdict::Unknown { why } => Err(why),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn honest_sessions_with_stale_reads_are_accepted(seed: u64, steps in 20_usize..500) {
        let text = World::new(seed, Lie::None, false).run(steps);
        prop_assert_eq!(accepted(&text, ModelKind::Zookeeper), Ok(()));
    }

    #[test]
    fn honest_sessions_with_linearizable_reads_are_accepted(seed: u64, steps in 20_usize..500) {
        let text = World::new(seed, Lie::None, true).run(steps);
        prop_assert_eq!(accepted(&text, ModelKind::ZookeeperLinearizable), Ok(()));
        prop_assert_eq!(accepted(&text, ModelKind::Zookeeper), Ok(()));
    }
}

#[test]
fn each_lie_is_caught_by_its_law() {
    const SEEDS: u64 = 60;
    const ENOUGH: usize = 4;
    let lies = [
        (Lie::GoesBack, &["session order"][..]),
        (Lie::LosesWatches, &["watch"]),
        (Lie::LosesWrites, &["durability", "linearizability"]),
        (Lie::KeepsEphemerals, &["ephemeral", "linearizability"]),
    ];
    for (lie, laws) in lies {
        let mut caught = 0;
        for seed in 0..SEEDS {
            if caught == ENOUGH {
                break;
            }
            let text = World::new(seed, lie, false).run(400);
            if let Verdict::Violation(violation) = check_text(&text, Some(ModelKind::Zookeeper)).unwrap() {
                caught += usize::from(laws.contains(&violation.law.as_str()));
            }
        }
        assert!(caught == ENOUGH, "{lie:?} was caught by {laws:?} in {caught} of {SEEDS} histories only");
    }
}

#[test]
fn what_is_generated_is_rich() {
    let (mut ok, mut found) = (0, BTreeMap::new());
    for seed in 0..20 {
        let text = World::new(seed, Lie::None, false).run(500);
        for line in text.lines() {
            let line: Json = serde_json::from_str(line).unwrap();
            ok += usize::from(line["type"] == "ok");
            for what in ["info", "event"] {
                *found.entry(what).or_insert(0) += usize::from(line["type"] == what);
            }
            *found.entry("expire").or_insert(0) += usize::from(line["f"] == "expire" && line["type"] == "ok");
            *found.entry("owned").or_insert(0) += usize::from(line["owner"].as_str().is_some_and(|o| o != "0"));
        }
    }
    assert!(ok > 1_000, "{ok} answers");
    assert!(found.values().all(|count| *count >= 20), "{found:?}");
}
