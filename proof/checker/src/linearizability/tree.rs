//! ZooKeeper's tree as its programmer's guide describes it: small, slow, and sharing nothing with any server.
//!
//! - a znode has a value, a data version that counts its sets, and a child version that counts creations and
//!   deletions of children; a fresh tree holds `/` and `/zookeeper` with `config` and `quota`.
//! - create: the parent must exist and not be ephemeral, the node must not exist. A sequential create appends ten
//!   digits: how many children were ever created under the parent.
//! - set, delete, check: the node must exist and have the version asked for, if it is not -1; a deleted node has no
//!   children.
//! - multi: all of its parts, in order, or none; parts behind the failing one are not tried.
//! - close: the session's ephemeral nodes go, and nothing that the session asks afterwards is done.
//! - what a reply says (path, value, versions, children, owner) must be so; what it does not say is not judged.
//!
//! Deliberately absent: access control, quotas, containers, time-to-live. Their errors are taken as they come.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::{Account, Model};
use crate::Value;

/// The tree, before anything of the history has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Nodes beyond those of a fresh tree, with values and data versions; parents first.
    pub initial: Vec<(String, Value, i64)>,
}

/// An operation and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeCall {
    /// The session.
    pub session: u64,
    /// What it asks.
    pub op: TreeOp,
}

/// What may be asked of the tree. A version of -1 fits any.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the protocol")]
pub enum TreeOp {
    /// Make a node.
    Create { path: String, value: Value, ephemeral: bool, sequential: bool },
    /// Remove a node.
    Delete { path: String, version: i64 },
    /// Replace a node's value.
    Set { path: String, value: Value, version: i64 },
    /// Fail if the node has another version; only inside a multi.
    Check { path: String, version: i64 },
    /// What is the value?
    Get { path: String },
    /// Is it there?
    Exists { path: String },
    /// What are the names of its children?
    Children { path: String },
    /// All of these or none.
    Multi(Vec<TreeOp>),
    /// End a session, by itself or because it expired.
    Close { session: u64 },
    /// Nothing, but after everything that was done before.
    Sync,
}

/// What the tree answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeOut {
    /// Done, and what was seen of the node.
    Done(Seen),
    /// A value.
    Value(Value, Seen),
    /// Names of children, in order.
    Names(BTreeSet<String>, Seen),
    /// A multi's results.
    Results(Vec<TreeOut>),
    /// An error.
    Error(Code),
}

/// What a reply tells about a node. Nothing is judged that is not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The path that a create made.
    pub path: Option<String>,
    /// Data version.
    pub version: Option<i64>,
    /// Child version.
    pub cversion: Option<i64>,
    /// Number of children.
    pub children: Option<u64>,
    /// The session that an ephemeral node belongs to; 0 if it is none.
    pub owner: Option<u64>,
}

/// An error that a reply names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// -101
    NoNode,
    /// -103
    BadVersion,
    /// -108
    NoChildrenForEphemerals,
    /// -110
    NodeExists,
    /// -111
    NotEmpty,
    /// -112
    SessionExpired,
    /// A multi failed; which part and why is not told.
    RolledBack,
    /// One that this specification does not describe; it is believed.
    Other(String),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNode => "no_node",
            Self::BadVersion => "bad_version",
            Self::NoChildrenForEphemerals => "no_children_for_ephemerals",
            Self::NodeExists => "node_exists",
            Self::NotEmpty => "not_empty",
            Self::SessionExpired => "session_expired",
            Self::RolledBack => "rolled_back",
            Self::Other(name) => name,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Znode {
    value: Value,
    version: i64,
    /// Children ever created under it.
    creations: i64,
    owner: u64,
    children: BTreeSet<Arc<str>>,
}

impl Znode {
    fn new(value: Value, owner: u64) -> Self {
        Self { value, version: 0, creations: 0, owner, children: BTreeSet::new() }
    }

    fn child_version(&self) -> i64 {
        2 * self.creations - self.children.len() as i64
    }
}

/// One thing that changed, and what was there before.
#[derive(Clone, Debug)]
enum Change {
    Node(Arc<str>, Option<Znode>),
    Value(Arc<str>, Value, i64),
    Link { parent: Arc<str>, name: Arc<str>, added: bool },
    Closed(u64),
}

/// A state of the tree.
#[derive(Clone, Debug, Default)]
pub struct TreeState {
    nodes: BTreeMap<Arc<str>, Znode>,
    closed: BTreeSet<u64>,
    /// Exclusive-or over all facts of the state.
    fingerprint: u128,
    journal: Vec<Change>,
}

impl TreeState {
    fn fact(node: &Znode, path: &str) -> u128 {
        let text = format!("{path}\0{:?}\0{}\0{}\0{}", node.value, node.version, node.creations, node.owner);
        xxh3_128(text.as_bytes())
    }

    fn closed_fact(session: u64) -> u128 {
        xxh3_128(&session.to_le_bytes())
    }

    /// Replaces the node at `path`; its children stay with it.
    fn put(&mut self, path: &Arc<str>, node: Option<Znode>) {
        if let Some(node) = &node {
            self.fingerprint ^= Self::fact(node, path);
        }
        let before = match node {
            Some(node) => self.nodes.insert(path.clone(), node),
            None => self.nodes.remove(path),
        };
        if let Some(before) = &before {
            self.fingerprint ^= Self::fact(before, path);
        }
        self.journal.push(Change::Node(path.clone(), before));
    }

    /// Replaces a node's value and version.
    fn set(&mut self, path: &str, value: Value, version: i64) {
        let node = self.nodes.get_mut(path).expect("a node that is set exists");
        self.fingerprint ^= Self::fact(node, path);
        let before = std::mem::replace(&mut node.value, value);
        let version_before = std::mem::replace(&mut node.version, version);
        self.fingerprint ^= Self::fact(node, path);
        self.journal.push(Change::Value(path.into(), before, version_before));
    }

    /// Adds a child's name to its parent, or takes it away.
    fn link(&mut self, path: &str, added: bool) {
        let (parent, name) = split(path);
        let node = self.nodes.get_mut(parent).expect("a parent outlives its children");
        self.fingerprint ^= Self::fact(node, parent);
        let name: Arc<str> = name.into();
        if added {
            node.children.insert(name.clone());
            node.creations += 1;
        } else {
            node.children.remove(&name);
        }
        self.fingerprint ^= Self::fact(node, parent);
        self.journal.push(Change::Link { parent: parent.into(), name, added });
    }

    fn close(&mut self, session: u64) {
        if self.closed.insert(session) {
            self.fingerprint ^= Self::closed_fact(session);
            self.journal.push(Change::Closed(session));
        }
        let mine: Vec<Arc<str>> =
            self.nodes.iter().filter(|(_, node)| node.owner == session).map(|(path, _)| path.clone()).collect();
        for path in mine {
            self.put(&path, None);
            self.link(&path, false);
        }
    }

    fn back_to(&mut self, length: usize) {
        while self.journal.len() > length {
            match self.journal.pop().expect("the journal is longer") {
                Change::Closed(session) => {
                    self.closed.remove(&session);
                    self.fingerprint ^= Self::closed_fact(session);
                }
                Change::Link { parent, name, added } => {
                    let node = self.nodes.get_mut(&parent).expect("a parent outlives its children");
                    self.fingerprint ^= Self::fact(node, &parent);
                    if added {
                        node.children.remove(&name);
                        node.creations -= 1;
                    } else {
                        node.children.insert(name);
                    }
                    self.fingerprint ^= Self::fact(node, &parent);
                }
                Change::Value(path, value, version) => {
                    self.set(&path, value, version);
                    self.journal.pop();
                }
                Change::Node(path, before) => {
                    self.put(&path, before);
                    self.journal.pop();
                }
            }
        }
    }

    fn seen(&self, path: &str) -> Seen {
        let node = &self.nodes[path];
        Seen {
            path: Some(path.to_owned()),
            version: Some(node.version),
            cversion: Some(node.child_version()),
            children: Some(node.children.len() as u64),
            owner: Some(node.owner),
        }
    }

    /// What the guide says that `op` answers; the state is changed accordingly.
    pub fn answer(&mut self, session: u64, op: &TreeOp) -> TreeOut {
        let before = self.journal.len();
        let answer = match op {
            TreeOp::Create { path, value, ephemeral, sequential } => {
                self.create(path, value, if *ephemeral { session } else { 0 }, *sequential)
            }
            TreeOp::Delete { path, version } => self.at(path, *version).and_then(|()| {
                if path == "/" {
                    return Err(Code::Other("bad_arguments".to_owned()));
                }
                if !self.nodes[path.as_str()].children.is_empty() {
                    return Err(Code::NotEmpty);
                }
                self.put(&path.as_str().into(), None);
                self.link(path, false);
                Ok(TreeOut::Done(Seen::default()))
            }),
            TreeOp::Set { path, value, version } => self.at(path, *version).map(|()| {
                let next = self.nodes[path.as_str()].version.wrapping_add(1);
                self.set(path, value.clone(), next);
                TreeOut::Done(self.seen(path))
            }),
            TreeOp::Check { path, version } => self.at(path, *version).map(|()| TreeOut::Done(Seen::default())),
            TreeOp::Get { path } => {
                self.at(path, -1).map(|()| TreeOut::Value(self.nodes[path.as_str()].value.clone(), self.seen(path)))
            }
            TreeOp::Exists { path } => self.at(path, -1).map(|()| TreeOut::Done(self.seen(path))),
            TreeOp::Children { path } => self.at(path, -1).map(|()| {
                let names = self.nodes[path.as_str()].children.iter().map(|name| name.to_string()).collect();
                TreeOut::Names(names, self.seen(path))
            }),
            TreeOp::Multi(parts) => self.multi(session, parts),
            TreeOp::Close { session } => {
                self.close(*session);
                Ok(TreeOut::Done(Seen::default()))
            }
            TreeOp::Sync => Ok(TreeOut::Done(Seen::default())),
        };
        answer.unwrap_or_else(|code| {
            self.back_to(before);
            TreeOut::Error(code)
        })
    }

    /// True if a list of children has another length than there are children: seen without making the list.
    fn surely_refutes(&self, op: &TreeOp, out: Option<&TreeOut>) -> bool {
        match (op, out) {
            (TreeOp::Children { path }, Some(TreeOut::Names(names, _))) => {
                self.nodes.get(path.as_str()).is_none_or(|node| node.children.len() != names.len())
            }
            _ => false,
        }
    }

    fn at(&self, path: &str, version: i64) -> Result<(), Code> {
        let node = self.nodes.get(path).ok_or(Code::NoNode)?;
        if version != -1 && version != node.version { Err(Code::BadVersion) } else { Ok(()) }
    }

    fn create(&mut self, path: &str, value: &Value, owner: u64, sequential: bool) -> Result<TreeOut, Code> {
        let (parent, _) = split(path);
        let above = self.nodes.get(parent).ok_or(Code::NoNode)?;
        let path = if sequential { format!("{path}{:010}", above.creations) } else { path.to_owned() };
        if self.nodes.contains_key(path.as_str()) {
            return Err(Code::NodeExists);
        }
        if above.owner != 0 {
            return Err(Code::NoChildrenForEphemerals);
        }
        self.put(&path.as_str().into(), Some(Znode::new(value.clone(), owner)));
        self.link(&path, true);
        Ok(TreeOut::Done(self.seen(&path)))
    }

    /// Every part, or none and what each part came to: the failing one its error, the others that they were undone.
    fn multi(&mut self, session: u64, parts: &[TreeOp]) -> Result<TreeOut, Code> {
        let before = self.journal.len();
        let mut results = Vec::with_capacity(parts.len());
        for part in parts {
            let result = self.answer(session, part);
            let failed = matches!(result, TreeOut::Error(_));
            results.push(result);
            if failed {
                self.back_to(before);
                let undone = results.len() - 1;
                results[..undone].fill(TreeOut::Error(Code::RolledBack));
                results.resize(parts.len(), TreeOut::Error(Code::RolledBack));
                break;
            }
        }
        Ok(TreeOut::Results(results))
    }
}

/// Parent and name of a path; the parent of `/a` is `/`.
fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

/// True if an honest tree that would answer `truth` may have replied `told`.
fn fits(truth: &TreeOut, told: &TreeOut) -> bool {
    let seen_fits = |truth: &Seen, told: &Seen| {
        fn same<T: PartialEq>(truth: &Option<T>, told: &Option<T>) -> bool {
            told.is_none() || truth.is_none() || told == truth
        }
        same(&truth.path, &told.path)
            && same(&truth.version, &told.version)
            && same(&truth.cversion, &told.cversion)
            && same(&truth.children, &told.children)
            && same(&truth.owner, &told.owner)
    };
    match (truth, told) {
        (TreeOut::Error(truth), TreeOut::Error(told)) => *told == Code::RolledBack || truth == told,
        (TreeOut::Results(truth), TreeOut::Error(Code::RolledBack)) => {
            truth.iter().any(|part| matches!(part, TreeOut::Error(_)))
        }
        // A multi's error may be told as that of its failing part.
        (TreeOut::Results(truth), TreeOut::Error(told)) => truth.contains(&TreeOut::Error(told.clone())),
        (TreeOut::Results(truth), TreeOut::Results(told)) => {
            truth.len() == told.len() && truth.iter().zip(told).all(|(truth, told)| fits(truth, told))
        }
        (TreeOut::Results(truth), TreeOut::Done(_)) => !truth.iter().any(|part| matches!(part, TreeOut::Error(_))),
        (TreeOut::Done(truth) | TreeOut::Value(_, truth) | TreeOut::Names(_, truth), TreeOut::Done(told)) => {
            seen_fits(truth, told)
        }
        (TreeOut::Value(truth, seen), TreeOut::Value(told, told_seen)) => truth == told && seen_fits(seen, told_seen),
        (TreeOut::Names(truth, seen), TreeOut::Names(told, told_seen)) => truth == told && seen_fits(seen, told_seen),
        _ => false,
    }
}

impl Model for Tree {
    type State = TreeState;
    type Undo = usize;
    type Op = TreeCall;
    type Out = TreeOut;

    fn init(&self) -> TreeState {
        let mut state = TreeState::default();
        state.put(&"/".into(), Some(Znode::new(Value::Null, 0)));
        for path in ["/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
            state.put(&path.into(), Some(Znode::new(Value::Null, 0)));
            state.link(path, true);
        }
        for path in ["/", "/zookeeper"] {
            // What a server is born with was not created: the first sequential child is number 0.
            let mut node = state.nodes[path].clone();
            node.creations = 0;
            state.put(&path.into(), Some(node));
        }
        for (path, value, version) in &self.initial {
            if state.nodes.contains_key(path.as_str()) || !state.nodes.contains_key(split(path).0) {
                continue;
            }
            let node = Znode { version: *version, ..Znode::new(value.clone(), 0) };
            state.put(&path.as_str().into(), Some(node));
            state.link(path, true);
        }
        state.journal.clear();
        state
    }

    fn step(&self, state: &mut TreeState, call: &TreeCall, out: Option<&TreeOut>) -> Option<usize> {
        let before = state.journal.len();
        let believed = matches!(out, Some(TreeOut::Error(Code::Other(_))));
        if believed {
            return Some(before);
        }
        let refused = Some(&TreeOut::Error(Code::SessionExpired));
        let fit = if let (TreeOp::Close { session }, true) = (&call.op, out == refused) {
            state.closed.contains(session)
        } else if state.closed.contains(&call.session) && !matches!(call.op, TreeOp::Close { .. }) {
            out.is_none() || out == refused
        } else {
            !state.surely_refutes(&call.op, out) && {
                let truth = state.answer(call.session, &call.op);
                out.is_none_or(|told| fits(&truth, told))
            }
        };
        if !fit {
            state.back_to(before);
        }
        fit.then_some(before)
    }

    fn undo(&self, state: &mut TreeState, undo: usize) {
        state.back_to(undo);
    }

    fn fingerprint(&self, state: &TreeState) -> u128 {
        state.fingerprint
    }

    fn observes_only(&self, call: &TreeCall, out: Option<&TreeOut>) -> bool {
        let failed = match out {
            Some(TreeOut::Error(_)) => true,
            Some(TreeOut::Results(parts)) => parts.iter().any(|part| matches!(part, TreeOut::Error(_))),
            _ => false,
        };
        failed
            || matches!(
                call.op,
                TreeOp::Get { .. }
                    | TreeOp::Exists { .. }
                    | TreeOp::Children { .. }
                    | TreeOp::Check { .. }
                    | TreeOp::Sync
            )
    }

    fn matters_to(
        &self,
        (call, out): (&TreeCall, Option<&TreeOut>),
        (other, _): (&TreeCall, Option<&TreeOut>),
    ) -> bool {
        if self.observes_only(call, out) {
            return false;
        }
        let (mut here, mut there) = (Vec::new(), Vec::new());
        footprint(&call.op, &mut here);
        footprint(&other.op, &mut there);
        let within = |a: &str, b: &str| a == b || a.starts_with(b) && (b == "/" || a.as_bytes()[b.len()] == b'/');
        let closes = |op: &TreeOp| matches!(op, TreeOp::Close { .. });
        closes(&call.op)
            || closes(&other.op)
            // A create under a parent moves the parent's counters; what lies above the parent does not move.
            || here.iter().any(|a| there.iter().any(|b| within(a, b) && b != "/" || within(b, a) && a != "/" || a == b))
    }

    fn is_needed_before(&self, state: &TreeState, call: &TreeCall, (next, out): (&TreeCall, Option<&TreeOut>)) -> bool {
        let TreeOp::Close { session } = call.op else { return self.matters_to((call, None), (next, out)) };
        if next.session == session || matches!(next.op, TreeOp::Close { .. }) {
            return true;
        }
        let mut there = Vec::new();
        footprint(&next.op, &mut there);
        let mut mine = state.nodes.iter().filter(|(_, node)| node.owner == session);
        mine.any(|(path, _)| there.iter().any(|other| **path == **other || split(path).0 == other))
    }

    fn account(&self, call: &TreeCall, out: Option<&TreeOut>) -> Account {
        words(call, out)
    }
}

/// The paths that an operation reads or changes.
fn footprint(op: &TreeOp, paths: &mut Vec<String>) {
    match op {
        TreeOp::Create { path, .. } | TreeOp::Delete { path, .. } => {
            paths.push(split(path).0.to_owned());
            paths.push(path.clone());
        }
        TreeOp::Set { path, .. }
        | TreeOp::Check { path, .. }
        | TreeOp::Get { path }
        | TreeOp::Exists { path }
        | TreeOp::Children { path } => paths.push(path.clone()),
        TreeOp::Multi(parts) => parts.iter().for_each(|part| footprint(part, paths)),
        TreeOp::Close { .. } | TreeOp::Sync => {}
    }
}

fn words(call: &TreeCall, out: Option<&TreeOut>) -> Account {
    let mut account = Account::default();
    let at = |version: &i64| if *version == -1 { String::new() } else { format!(" if v{version}") };
    let asked = match &call.op {
        TreeOp::Create { path, value, ephemeral, sequential } => {
            path.clone_into(&mut account.subject);
            account.wrote = Some(value.to_string());
            let kind = format!("{}{}", if *ephemeral { " eph" } else { "" }, if *sequential { " seq" } else { "" });
            format!("create {path}{kind}")
        }
        TreeOp::Delete { path, version } => {
            path.clone_into(&mut account.subject);
            account.wrote = Some("nothing".to_owned());
            format!("delete {path}{}", at(version))
        }
        TreeOp::Set { path, value, version } => {
            path.clone_into(&mut account.subject);
            account.wrote = Some(value.to_string());
            format!("set {path} {value}{}", at(version))
        }
        TreeOp::Check { path, version } => format!("check {path}{}", at(version)),
        TreeOp::Get { path } | TreeOp::Exists { path } | TreeOp::Children { path } => {
            path.clone_into(&mut account.subject);
            let verb = match &call.op {
                TreeOp::Get { .. } => "get",
                TreeOp::Exists { .. } => "exists",
                _ => "children",
            };
            format!("{verb} {path}")
        }
        TreeOp::Multi(parts) => format!("multi of {}", parts.len()),
        TreeOp::Close { session } => format!("close session {session}"),
        TreeOp::Sync => "sync".to_owned(),
    };
    let answer = answer_words(&call.op, out, &mut account);
    account.label = format!("{asked}{answer}");
    account
}

fn answer_words(op: &TreeOp, out: Option<&TreeOut>, account: &mut Account) -> String {
    match out {
        None => " ?".to_owned(),
        Some(TreeOut::Error(code)) => {
            account.wrote = None;
            account.saw = Some(code.to_string());
            format!(" → {code}")
        }
        Some(TreeOut::Value(value, _)) => {
            account.saw = Some(value.to_string());
            format!(" → {value}")
        }
        Some(TreeOut::Names(names, _)) => {
            let names = format!("[{}]", names.iter().cloned().collect::<Vec<_>>().join(" "));
            account.saw = Some(names.clone());
            format!(" → {names}")
        }
        Some(TreeOut::Done(Seen { path: Some(path), .. })) if matches!(op, TreeOp::Create { sequential: true, .. }) => {
            format!(" → {}", split(path).1)
        }
        Some(TreeOut::Done(Seen { version: Some(version), .. })) => {
            if account.wrote.is_none() {
                account.saw = Some(format!("version {version}"));
            }
            format!(" → v{version}")
        }
        Some(TreeOut::Done(_) | TreeOut::Results(_)) => String::new(),
    }
}
