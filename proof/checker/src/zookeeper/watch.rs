//! A watch fires once, and before its session sees what it fires for.

use std::collections::BTreeMap;

use super::changes::{Change, Changes, What};
use super::{Breach, succeeded, told};
use crate::history::{NoticeKind, TreeHistory};
use crate::linearizability::{Code, TreeOp, TreeOut};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Data,
    Child,
}

/// What happens to a session, in the order in which its client sees it.
enum Item {
    /// A reply sets a watch, if it asked for one.
    Arm(usize),
    /// A notice comes.
    Notice(usize),
    /// A reply shows a state.
    Check(usize),
}

/// The watches that are set: path and class, the zxid at which it was set, and the operation that set it.
type Armed = BTreeMap<(String, Class), (u64, usize)>;

pub(super) fn watches(history: &TreeHistory) -> Vec<Breach> {
    let changes = Changes::of(history);
    let mut streams: BTreeMap<u64, Vec<(u64, u8, Item)>> = BTreeMap::new();
    for (place, one) in history.operations.iter().enumerate() {
        let (session, Some(ret)) = (one.operation.op.session, one.operation.ret) else { continue };
        if session != 0 {
            let stream = streams.entry(session).or_default();
            stream.push((ret, 0, Item::Arm(place)));
            stream.push((ret, 2, Item::Check(place)));
        }
    }
    for (place, notice) in history.notices.iter().enumerate() {
        streams.entry(notice.session).or_default().push((notice.at, 1, Item::Notice(place)));
    }
    let mut breaches = Vec::new();
    for stream in streams.values_mut() {
        stream.sort_by_key(|(at, phase, _)| (*at, *phase));
        let mut armed = Armed::new();
        for (_, _, item) in stream.iter() {
            match item {
                Item::Arm(place) => arm(history, *place, &mut armed),
                Item::Notice(place) => breaches.extend(fire(history, *place, &mut armed)),
                Item::Check(place) => breaches.extend(check(history, &changes, *place, &mut armed)),
            }
        }
    }
    breaches
}

fn arm(history: &TreeHistory, place: usize, armed: &mut Armed) {
    let one = &history.operations[place];
    if !one.watch {
        return;
    }
    let absent = one.operation.out == Some(TreeOut::Error(Code::NoNode));
    let key = match &one.operation.op.op {
        TreeOp::Get { path } if succeeded(one) => (path.clone(), Class::Data),
        TreeOp::Exists { path } if succeeded(one) || absent => (path.clone(), Class::Data),
        TreeOp::Children { path } if succeeded(one) => (path.clone(), Class::Child),
        _ => return,
    };
    // Setting what is set already changes nothing: it is one watch.
    armed.entry(key).or_insert((one.zxid.unwrap_or(u64::MAX), place));
}

fn fire(history: &TreeHistory, place: usize, armed: &mut Armed) -> Option<Breach> {
    let notice = &history.notices[place];
    let classes: &[Class] = match notice.kind {
        NoticeKind::Created | NoticeKind::Changed => &[Class::Data],
        NoticeKind::Children => &[Class::Child],
        NoticeKind::Deleted => &[Class::Data, Class::Child],
    };
    let mut fired = false;
    for class in classes {
        fired |= armed.remove(&(notice.path.clone(), *class)).is_some();
    }
    if fired {
        return None;
    }
    let who = history.session(notice.session);
    let words = format!(
        "session {who} was told that {} was {} (line {}), but had no watch there: none was set, or it had fired already.",
        notice.path,
        match notice.kind {
            NoticeKind::Created => "created",
            NoticeKind::Deleted => "deleted",
            NoticeKind::Changed => "changed",
            NoticeKind::Children => "given other children",
        },
        notice.line
    );
    Some(Breach { law: "watch", words, involved: Vec::new(), notices: vec![place] })
}

fn check(history: &TreeHistory, changes: &Changes, place: usize, armed: &mut Armed) -> Option<Breach> {
    let seen = history.operations[place].zxid?;
    let missed = armed.iter().find_map(|((path, class), (set, setter))| {
        let list = changes.at(path);
        let from = list.partition_point(|change| change.zxid <= *set);
        let first = list[from..].iter().find(|change| concerns(*class, change))?;
        (first.zxid <= seen).then(|| ((path.clone(), *class), *setter, first.place))
    });
    let (key, setter, change) = missed?;
    armed.remove(&key);
    let words = format!(
        "{} shows the state behind {}, but the session has not been told of it by the watch of {}.",
        told(history, place),
        told(history, change),
        told(history, setter)
    );
    let mut involved = vec![setter, change];
    if place != change {
        involved.push(place);
    }
    Some(Breach { law: "watch", words, involved, notices: Vec::new() })
}

fn concerns(class: Class, change: &Change) -> bool {
    match class {
        Class::Data => change.what != What::Children,
        Class::Child => matches!(change.what, What::Children | What::Deleted),
    }
}
