//! Numbers of sequential nodes under one parent only grow.

use std::collections::{BTreeMap, BTreeSet};

use super::changes::parent;
use super::{Breach, succeeded, told};
use crate::history::TreeHistory;
use crate::linearizability::{TreeOp, TreeOut};

/// Digits of the number at the end of a sequential node's name.
const DIGITS: usize = 10;

struct Numbered {
    number: u64,
    zxid: Option<u64>,
    place: usize,
}

pub(super) fn sequence(history: &TreeHistory) -> Vec<Breach> {
    let mut parents: BTreeMap<String, Vec<Numbered>> = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    for (place, one) in history.operations.iter().enumerate() {
        removed(&one.operation.op.op, &mut deleted);
        if succeeded(one)
            && let Some(out) = &one.operation.out
        {
            collect(&one.operation.op.op, out, one.zxid, place, &mut parents);
        }
    }
    let mut breaches = Vec::new();
    for (parent, mut made) in parents {
        // A parent that was made anew counts anew.
        if !deleted.contains(&parent) {
            breaches.extend(judge(history, &parent, &mut made));
        }
    }
    breaches
}

fn judge(history: &TreeHistory, parent: &str, made: &mut [Numbered]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut breach = |first: usize, second: usize, what: &str| {
        let words = format!("{} and {}, both under {parent}, {what}.", told(history, first), told(history, second));
        breaches.push(Breach { law: "sequence", words, involved: vec![first, second], notices: Vec::new() });
    };
    made.sort_by_key(|one| (one.number, one.place));
    for pair in made.windows(2) {
        if pair[0].number == pair[1].number {
            breach(pair[0].place, pair[1].place, "have one number");
        }
    }
    let mut by_zxid: Vec<&Numbered> = made.iter().filter(|one| one.zxid.is_some()).collect();
    by_zxid.sort_by_key(|one| (one.zxid, one.number));
    for pair in by_zxid.windows(2) {
        if pair[0].number > pair[1].number {
            breach(pair[0].place, pair[1].place, "have numbers against the order of their zxids");
        }
    }
    // Without zxids, real time: in the order of calls, the largest number that was returned before.
    let operation = |one: &Numbered| &history.operations[one.place].operation;
    let mut calls: Vec<&Numbered> = made.iter().filter(|one| one.zxid.is_none()).collect();
    let mut returns = calls.clone();
    calls.sort_by_key(|one| operation(one).call);
    returns.sort_by_key(|one| operation(one).ret);
    let (mut next, mut highest) = (0, None::<&Numbered>);
    for one in calls {
        while next < returns.len() && operation(returns[next]).ret < Some(operation(one).call) {
            let candidate = returns[next];
            highest = highest.filter(|so_far| so_far.number > candidate.number).or(Some(candidate));
            next += 1;
        }
        if let Some(before) = highest.filter(|before| before.number > one.number) {
            breach(before.place, one.place, "have numbers against the order in which they were made");
        }
    }
    breaches
}

fn collect(op: &TreeOp, out: &TreeOut, zxid: Option<u64>, place: usize, parents: &mut BTreeMap<String, Vec<Numbered>>) {
    match (op, out) {
        (TreeOp::Create { sequential: true, .. }, TreeOut::Done(seen)) => {
            let number = seen.path.as_deref().and_then(|path| {
                let digits = path.get(path.len().checked_sub(DIGITS)?..)?;
                Some((parent(path), digits.parse().ok()?))
            });
            if let Some((parent, number)) = number {
                parents.entry(parent.to_owned()).or_default().push(Numbered { number, zxid, place });
            }
        }
        (TreeOp::Multi(parts), TreeOut::Results(results)) => {
            for (part, result) in parts.iter().zip(results) {
                collect(part, result, zxid, place, parents);
            }
        }
        _ => {}
    }
}

fn removed(op: &TreeOp, into: &mut BTreeSet<String>) {
    match op {
        TreeOp::Delete { path, .. } => {
            into.insert(path.clone());
        }
        TreeOp::Multi(parts) => parts.iter().for_each(|part| removed(part, into)),
        _ => {}
    }
}
