//! Lines as operations on ZooKeeper's tree, by session.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{Event, History, HistoryError, Told};
use crate::Value;
use crate::linearizability::{Code, Operation, Seen, Tree, TreeCall, TreeOp, TreeOut};

/// An operation on the tree.
pub type TreeOperation = Operation<TreeCall, TreeOut>;

/// An operation of a session, with what the laws need beyond the sequential object.
#[derive(Clone, Debug)]
pub struct SessionOperation {
    /// Call, return, outcome. Its lane is the session.
    pub operation: TreeOperation,
    /// The zxid of the reply.
    pub zxid: Option<u64>,
    /// True if it sets a watch.
    pub watch: bool,
    /// The line of its invocation and, if there is one, of its reply.
    pub lines: (usize, Option<usize>),
    /// True if it stands for what a reader found when all was over.
    pub is_final: bool,
}

/// What a one-shot watch told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    /// The node was made.
    Created,
    /// The node was removed.
    Deleted,
    /// Its value was set.
    Changed,
    /// Its children changed.
    Children,
}

/// A session was told of a change.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The session.
    pub session: u64,
    /// When it was told.
    pub at: u64,
    /// Where.
    pub path: String,
    /// What.
    pub kind: NoticeKind,
    /// The line.
    pub line: usize,
}

/// A history of the tree.
#[derive(Clone, Debug)]
pub struct TreeHistory {
    /// The tree before it.
    pub tree: Tree,
    /// Operations, in the order of their calls.
    pub operations: Vec<SessionOperation>,
    /// Notices, in order.
    pub notices: Vec<Notice>,
    /// What sessions are called; one without a name here is called by its number.
    pub sessions: BTreeMap<u64, String>,
}

impl TreeHistory {
    /// What a session is called.
    #[must_use]
    pub fn session(&self, session: u64) -> String {
        self.sessions.get(&session).cloned().unwrap_or_else(|| session.to_string())
    }
}

/// Reads the history as one of ZooKeeper's tree. Unless `linearizable_reads`, reads may be stale.
///
/// # Errors
/// The first line that is no operation on the tree.
pub fn tree(history: &mut History, linearizable_reads: bool) -> Result<TreeHistory, HistoryError> {
    let mut operations = Vec::new();
    let told = std::mem::take(&mut history.told);
    for (id, told) in told.iter().enumerate() {
        operations.extend(operation(history, id, told, linearizable_reads)?);
    }
    let end = told.iter().filter_map(|told| told.ret).chain(told.iter().map(|told| told.call)).max().unwrap_or(0);
    history.told = told;
    let finals = std::mem::take(&mut history.finals);
    for (number, (_, last)) in finals.iter().enumerate() {
        operations.push(final_read(history, number, last, end.saturating_add(1))?);
    }
    history.finals = finals;
    operations.extend(silent_ends(&operations));
    operations.sort_by_key(|one| (one.operation.call, one.operation.id));
    let mut initial = Vec::new();
    for event in &history.inits {
        let Some(path) = &event.path else {
            return Err(HistoryError::new(event.line, "an init names no node", "add \"path\""));
        };
        if !path.starts_with('/') {
            return Err(HistoryError::new(event.line, format!("{path:?} is no path of a node"), "begin it with /"));
        }
        initial.push((
            path.clone(),
            event.value.as_ref().map(Value::from).unwrap_or_default(),
            event.version.unwrap_or(0),
        ));
    }
    initial.sort();
    let notices =
        history.notices.iter().map(|(_, session, event)| notice(*session, event)).collect::<Result<_, _>>()?;
    let sessions = history.names.all();
    Ok(TreeHistory { tree: Tree { initial }, operations, notices, sessions })
}

fn operation(
    history: &mut History,
    id: usize,
    told: &Told,
    linearizable_reads: bool,
) -> Result<Option<SessionOperation>, HistoryError> {
    let invoke = &told.invoke;
    let name = invoke.session_name().unwrap_or_default();
    let session = history.names.number(&name);
    let f = invoke.f.as_deref().unwrap_or_default();
    // An expiry is somebody's observation about a session, not the session's own operation.
    let lane = if f == "expire" { told.lane } else { session };
    let asker = if f == "expire" { 0 } else { session };
    let op = asked(invoke, f, invoke, session)?;
    let reads = matches!(op, TreeOp::Get { .. } | TreeOp::Exists { .. } | TreeOp::Children { .. } | TreeOp::Sync);
    let out = match &told.reply {
        None if reads => return Ok(None),
        None => None,
        Some(reply) => Some(answered(history, &op, reply)?),
    };
    let zxid = told.reply.as_ref().and_then(|reply| reply.zxid);
    let operation = Operation {
        lane,
        call: told.call,
        ret: told.ret,
        op: TreeCall { session: asker, op },
        out,
        hint: zxid,
        stale: reads && !linearizable_reads && f != "sync",
        id,
    };
    let lines = (invoke.line, told.reply.as_ref().map(|reply| reply.line));
    Ok(Some(SessionOperation { operation, zxid, watch: invoke.watch, lines, is_final: false }))
}

fn asked(event: &Event, f: &str, whole: &Event, session: u64) -> Result<TreeOp, HistoryError> {
    let line = whole.line;
    let path = || {
        let path =
            event.path.clone().ok_or_else(|| HistoryError::new(line, format!("{f} names no node"), "add \"path\""))?;
        let well =
            path == "/" || path.starts_with('/') && !path.contains("//") && (!path.ends_with('/') || event.sequential);
        well.then_some(path.clone()).ok_or_else(|| {
            HistoryError::new(line, format!("{path:?} is no path of a node"), "begin it with / and end it without")
        })
    };
    let value = || event.value.as_ref().map(Value::from).unwrap_or_default();
    let version = event.version.unwrap_or(-1);
    Ok(match f {
        "create" => {
            TreeOp::Create { path: path()?, value: value(), ephemeral: event.ephemeral, sequential: event.sequential }
        }
        "delete" => TreeOp::Delete { path: path()?, version },
        "set" => TreeOp::Set { path: path()?, value: value(), version },
        "check" => TreeOp::Check { path: path()?, version },
        "get" => TreeOp::Get { path: path()? },
        "exists" => TreeOp::Exists { path: path()? },
        "children" => TreeOp::Children { path: path()? },
        "close" | "expire" => TreeOp::Close { session },
        "sync" => TreeOp::Sync,
        "multi" => {
            let parts = event
                .ops
                .as_ref()
                .ok_or_else(|| HistoryError::new(line, "a multi has no parts", "add \"ops\": [...]"))?;
            let mut ops = Vec::with_capacity(parts.len());
            for part in parts {
                let part = part_of(line, "ops", part)?;
                let f = part.f.clone().unwrap_or_default();
                if !matches!(f.as_str(), "create" | "delete" | "set" | "check") {
                    return Err(HistoryError::new(
                        line,
                        format!("{f:?} cannot be part of a multi"),
                        "take create, delete, set or check",
                    ));
                }
                ops.push(asked(&part, &f, whole, session)?);
            }
            TreeOp::Multi(ops)
        }
        other => {
            let what = format!("no operation of ZooKeeper's tree is called {other:?}");
            let remedy =
                "take create, delete, set, get, exists, children, check, multi, sync, close or expire in \"f\"";
            return Err(HistoryError::new(line, what, remedy));
        }
    })
}

/// A part of a multi, or its result: an object with the fields of a line.
fn part_of(line: usize, field: &str, part: &Json) -> Result<Event, HistoryError> {
    let wrong = || {
        HistoryError::new(
            line,
            format!("\"{field}\" holds something that is no object"),
            "write objects such as {\"f\":\"delete\",\"path\":\"/a\"}",
        )
    };
    let mut object = part.as_object().cloned().ok_or_else(wrong)?;
    object.insert("type".to_owned(), Json::from("ok"));
    Event::parse(line, &Json::from(object).to_string())
}

fn answered(history: &mut History, op: &TreeOp, reply: &Event) -> Result<TreeOut, HistoryError> {
    if let Some(error) = &reply.error {
        return Ok(TreeOut::Error(code(error)));
    }
    let owner = reply.owner.as_deref().map(|name| if name == "0" { 0 } else { history.names.number(name) });
    let seen = Seen {
        path: reply.created.clone(),
        version: reply.version,
        cversion: reply.cversion,
        children: reply.children,
        owner,
    };
    Ok(match op {
        TreeOp::Get { .. } => match &reply.value {
            Some(value) => TreeOut::Value(value.into(), seen),
            None => {
                return Err(HistoryError::new(
                    reply.line,
                    "a get does not say what it read",
                    "add \"value\", or \"error\":\"no_node\"",
                ));
            }
        },
        TreeOp::Exists { .. } if reply.exists == Some(false) => TreeOut::Error(Code::NoNode),
        TreeOp::Children { .. } => {
            let names = reply.value.as_ref().and_then(|value| value.as_array());
            let names = names.and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
            match names {
                Some(names) => TreeOut::Names(names, seen),
                None => {
                    return Err(HistoryError::new(
                        reply.line,
                        "children does not say which",
                        "add \"value\": a list of names",
                    ));
                }
            }
        }
        TreeOp::Create { sequential: true, .. } if reply.created.is_none() => {
            return Err(HistoryError::new(
                reply.line,
                "a sequential create does not say what it made",
                "add \"created\": the path",
            ));
        }
        TreeOp::Multi(parts) => match &reply.results {
            None => TreeOut::Done(Seen::default()),
            Some(results) if results.len() == parts.len() => {
                let mut outs = Vec::with_capacity(parts.len());
                for (part, result) in parts.iter().zip(results) {
                    let result = part_of(reply.line, "results", result)?;
                    outs.push(answered(history, part, &result)?);
                }
                TreeOut::Results(outs)
            }
            Some(_) => {
                return Err(HistoryError::new(
                    reply.line,
                    "a multi has not as many results as parts",
                    "give one result for each part",
                ));
            }
        },
        _ => TreeOut::Done(seen),
    })
}

fn code(name: &str) -> Code {
    match name {
        "no_node" => Code::NoNode,
        "bad_version" => Code::BadVersion,
        "no_children_for_ephemerals" => Code::NoChildrenForEphemerals,
        "node_exists" => Code::NodeExists,
        "not_empty" => Code::NotEmpty,
        "session_expired" => Code::SessionExpired,
        "rolled_back" => Code::RolledBack,
        other => Code::Other(other.to_owned()),
    }
}

fn final_read(history: &mut History, number: usize, last: &Event, at: u64) -> Result<SessionOperation, HistoryError> {
    let f = match (&last.f, last.exists) {
        (Some(f), _) => f.clone(),
        (None, Some(_)) => "exists".to_owned(),
        (None, None) => "get".to_owned(),
    };
    if !matches!(f.as_str(), "get" | "exists" | "children") {
        return Err(HistoryError::new(
            last.line,
            format!("{f:?} reads nothing that could be final"),
            "take get, exists or children in \"f\"",
        ));
    }
    let op = asked(last, &f, last, 0)?;
    let out = answered(history, &op, last)?;
    let operation = Operation {
        lane: u64::MAX - number as u64,
        call: at,
        ret: Some(at.saturating_add(1)),
        op: TreeCall { session: 0, op },
        out: Some(out),
        hint: None,
        stale: false,
        id: history.told.len() + number,
    };
    Ok(SessionOperation {
        operation,
        zxid: last.zxid,
        watch: false,
        lines: (last.line, Some(last.line)),
        is_final: true,
    })
}

/// A session that nobody was seen to end may still have expired: its ephemeral nodes may go at any time, but nothing
/// that it asks may succeed from then on.
fn silent_ends(operations: &[SessionOperation]) -> Vec<SessionOperation> {
    let mut may_end: BTreeMap<u64, (u64, (usize, Option<usize>))> = BTreeMap::new();
    let mut ended: BTreeSet<u64> = BTreeSet::new();
    for one in operations {
        let TreeCall { session, op } = &one.operation.op;
        let expired = one.operation.out == Some(TreeOut::Error(Code::SessionExpired));
        if let TreeOp::Close { session } = op
            && !expired
        {
            ended.insert(*session);
        } else if *session != 0 && (expired || leaves_ephemeral(op)) {
            may_end.entry(*session).or_insert((one.operation.call, one.lines));
        }
    }
    may_end.retain(|session, _| !ended.contains(session));
    let base = operations.iter().map(|one| one.operation.id + 1).max().unwrap_or(0);
    let end = |(number, (session, (call, lines)))| {
        let op = TreeCall { session: 0, op: TreeOp::Close { session } };
        let id = base + number;
        let operation = Operation { lane: session, call, ret: None, op, out: None, hint: None, stale: false, id };
        SessionOperation { operation, zxid: None, watch: false, lines, is_final: false }
    };
    may_end.into_iter().enumerate().map(end).collect()
}

fn leaves_ephemeral(op: &TreeOp) -> bool {
    match op {
        TreeOp::Create { ephemeral, .. } => *ephemeral,
        TreeOp::Multi(parts) => parts.iter().any(leaves_ephemeral),
        _ => false,
    }
}

fn notice(session: u64, event: &Event) -> Result<Notice, HistoryError> {
    let wrong = |what: &str, remedy: &str| HistoryError::new(event.line, what, remedy);
    let path = event.path.clone().ok_or_else(|| wrong("an event names no node", "add \"path\""))?;
    let kind = match event.event.as_deref() {
        Some("created") => NoticeKind::Created,
        Some("deleted") => NoticeKind::Deleted,
        Some("changed") => NoticeKind::Changed,
        Some("children") => NoticeKind::Children,
        _ => {
            return Err(wrong(
                "an event does not say what happened",
                "add \"event\": created, deleted, changed or children",
            ));
        }
    };
    Ok(Notice { session, at: event.moment, path, kind, line: event.line })
}
