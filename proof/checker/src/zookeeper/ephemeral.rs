//! Ephemeral nodes live as long as their sessions; acknowledged writes outlive everything.

use std::collections::BTreeMap;

use super::changes::{Change, Changes, What};
use super::{Breach, succeeded, told};
use crate::Value;
use crate::history::TreeHistory;
use crate::linearizability::{Code, TreeOp, TreeOut};

/// A life of an ephemeral node.
struct Life<'a> {
    path: &'a str,
    created: &'a Change,
    owner: u64,
    /// The zxid of the next known creation or deletion of the path.
    until: u64,
}

/// What a session sees: the state is no older than `floor` and no younger than `ceiling`.
struct View {
    floor: u64,
    /// The earlier operation of the session that showed the floor.
    floor_by: Option<usize>,
    ceiling: u64,
    place: usize,
}

pub(super) fn ephemerals(history: &TreeHistory) -> Vec<Breach> {
    let changes = Changes::of(history);
    let mut closed: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    let mut alive: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    let mut floors: BTreeMap<u64, (u64, Option<usize>)> = BTreeMap::new();
    let mut looks: BTreeMap<&str, Vec<(View, bool)>> = BTreeMap::new();
    for (place, one) in history.operations.iter().enumerate() {
        let call = &one.operation.op;
        let Some(zxid) = one.zxid else { continue };
        if let TreeOp::Close { session } = call.op {
            if succeeded(one) {
                closed.entry(session).or_insert((zxid, place));
            }
            continue;
        }
        let floor = floors.entry(call.session).or_default();
        let (shown, floor_by) = if one.is_final { (zxid, None) } else { *floor };
        let view = View { floor: shown, floor_by, ceiling: zxid, place };
        *floor = (*floor).max((zxid, Some(place)));
        if one.operation.out != Some(TreeOut::Error(Code::SessionExpired)) && call.session != 0 {
            let latest = alive.entry(call.session).or_default();
            *latest = (*latest).max((zxid, place));
        }
        if let TreeOp::Get { path } | TreeOp::Exists { path } = &call.op {
            match &one.operation.out {
                Some(TreeOut::Error(Code::NoNode)) => looks.entry(path).or_default().push((view, false)),
                Some(TreeOut::Error(_)) | None => {}
                Some(_) => looks.entry(path).or_default().push((view, true)),
            }
        }
    }
    let mut breaches = Vec::new();
    for life in lives(&changes) {
        for (view, there) in looks.get(life.path).into_iter().flatten() {
            let end = closed.get(&life.owner).filter(|(end, _)| life.created.zxid < *end && *end <= view.floor);
            if let (true, Some((_, end))) = (*there, end)
                && view.ceiling < life.until
            {
                let words = format!(
                    "{} still finds the ephemeral node of {}, whose session had ended by {}.",
                    told(history, view.place),
                    told(history, life.created.place),
                    told(history, *end)
                );
                let involved =
                    [life.created.place, *end].into_iter().chain(view.floor_by).chain([view.place]).collect();
                breaches.push(Breach { law: "ephemeral", words, involved, notices: Vec::new() });
            }
            let lives_on = alive.get(&life.owner).filter(|(latest, _)| *latest >= view.ceiling);
            if let (false, Some((_, proof))) = (*there, lives_on)
                && life.created.zxid <= view.floor
                && view.ceiling < life.until
            {
                let words = format!(
                    "{} misses the ephemeral node of {}, whose session lived on and which nobody had deleted.",
                    told(history, view.place),
                    told(history, life.created.place)
                );
                let involved =
                    [life.created.place, *proof].into_iter().chain(view.floor_by).chain([view.place]).collect();
                breaches.push(Breach { law: "ephemeral", words, involved, notices: Vec::new() });
            }
        }
    }
    breaches
}

/// The lives of ephemeral nodes at paths of which everything is known.
fn lives(changes: &Changes) -> Vec<Life<'_>> {
    let mut lives = Vec::new();
    for (path, list) in changes.known.iter().filter(|(path, _)| !changes.is_uncertain(path)) {
        for (number, created) in list.iter().enumerate() {
            if let What::Created(_, Some(owner)) = created.what {
                let turn = |change: &&Change| matches!(change.what, What::Created(..) | What::Deleted);
                let until = list[number + 1..].iter().find(turn).map_or(u64::MAX, |change| change.zxid);
                lives.push(Life { path, created, owner, until });
            }
        }
    }
    lives
}

/// What a final reader finds is what the last acknowledged write left.
pub(super) fn durability(history: &TreeHistory) -> Vec<Breach> {
    let changes = Changes::of(history);
    let mut breaches = Vec::new();
    for (place, one) in history.operations.iter().enumerate().filter(|(_, one)| one.is_final) {
        let (TreeOp::Get { path } | TreeOp::Exists { path }) = &one.operation.op.op else { continue };
        let list = changes.at(path);
        let Some(last) = list.iter().rev().find(|change| change.what != What::Children) else { continue };
        let ephemeral = list.iter().any(|change| matches!(change.what, What::Created(_, Some(_))));
        if changes.is_uncertain(path) || ephemeral {
            continue;
        }
        let expected: Option<&Value> = match &last.what {
            What::Created(value, _) | What::Set(value) => Some(value),
            What::Deleted | What::Children => None,
        };
        let kept = match (&one.operation.out, expected) {
            (Some(TreeOut::Value(found, _)), Some(value)) => found == value,
            (Some(TreeOut::Done(_)), Some(_)) => true,
            (Some(TreeOut::Error(Code::NoNode)), wanted) => wanted.is_none(),
            (Some(TreeOut::Error(_)), _) => true,
            _ => false,
        };
        if !kept {
            let words = format!(
                "{} was acknowledged, and nothing is known to have come behind it, but {} does not find it.",
                told(history, last.place),
                told(history, place)
            );
            breaches.push(Breach { law: "durability", words, involved: vec![last.place, place], notices: Vec::new() });
        }
    }
    breaches
}
