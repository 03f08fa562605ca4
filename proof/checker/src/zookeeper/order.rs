//! Sessions never go back, and zxids agree with real time.

use std::collections::BTreeMap;

use super::{Breach, succeeded, told};
use crate::history::TreeHistory;
use crate::linearizability::{Model, TreeOp};

/// A session's replies carry zxids that do not fall.
pub(super) fn session_order(history: &TreeHistory) -> Vec<Breach> {
    let mut latest: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    let mut breaches = Vec::new();
    for (place, one) in history.operations.iter().enumerate() {
        let session = one.operation.op.session;
        let Some(zxid) = one.zxid.filter(|_| session != 0 && one.operation.ret.is_some()) else { continue };
        if let Some(&(highest, before)) = latest.get(&session)
            && zxid < highest
        {
            let words = format!("{} goes back behind {}.", told(history, place), told(history, before));
            breaches.push(Breach { law: "session order", words, involved: vec![before, place], notices: Vec::new() });
            continue;
        }
        latest.insert(session, (zxid, place));
    }
    breaches
}

/// Writes have zxids of their own; an earlier write has a smaller one; nothing is seen before it was asked for.
pub(super) fn zxid_order(history: &TreeHistory) -> Vec<Breach> {
    let operations = &history.operations;
    let is_write = |place: &usize| {
        let one = &operations[*place];
        let changes = !history.tree.observes_only(&one.operation.op, one.operation.out.as_ref());
        // A session that is closed twice is closed by one of the two.
        let closes = matches!(one.operation.op.op, TreeOp::Close { .. });
        succeeded(one) && changes && !closes && one.zxid.is_some() && one.operation.ret.is_some()
    };
    let zxid = |place: usize| operations[place].zxid.unwrap_or(0);
    let mut writes: Vec<usize> = (0..operations.len()).filter(is_write).collect();
    let mut breaches = Vec::new();
    let mut breach = |first: usize, second: usize, words: String| {
        breaches.push(Breach { law: "zxid order", words, involved: vec![first, second], notices: Vec::new() });
    };
    // In the order of calls: the largest zxid among the writes that had returned before.
    let mut returns = writes.clone();
    returns.sort_by_key(|place| operations[*place].operation.ret);
    let (mut next, mut highest) = (0, None::<usize>);
    for &place in &writes {
        while next < returns.len() && operations[returns[next]].operation.ret < Some(operations[place].operation.call) {
            highest = Some(highest.map_or(returns[next], |so_far| {
                if zxid(returns[next]) > zxid(so_far) { returns[next] } else { so_far }
            }));
            next += 1;
        }
        if let Some(before) = highest.filter(|before| zxid(*before) >= zxid(place)) {
            let words = format!(
                "{} was over before {} began, and yet its zxid is not the smaller one.",
                told(history, before),
                told(history, place)
            );
            breach(before, place, words);
        }
    }
    writes.sort_by_key(|place| (zxid(*place), *place));
    for pair in writes.windows(2) {
        if zxid(pair[0]) == zxid(pair[1]) {
            let words = format!("{} and {} have one zxid.", told(history, pair[0]), told(history, pair[1]));
            breach(pair[0], pair[1], words);
        }
    }
    // For each write, by zxid: the one among it and those before it that was called last.
    let mut last_called: Vec<usize> = Vec::with_capacity(writes.len());
    for &place in &writes {
        let before = last_called.last().copied().unwrap_or(place);
        let later = operations[place].operation.call > operations[before].operation.call;
        last_called.push(if later { place } else { before });
    }
    for (place, one) in operations.iter().enumerate() {
        let (Some(seen), Some(ret)) = (one.zxid, one.operation.ret) else { continue };
        let count = writes.partition_point(|write| zxid(*write) <= seen);
        if let Some(&write) = count.checked_sub(1).map(|at| &last_called[at])
            && write != place
            && operations[write].operation.call > ret
        {
            let words = format!(
                "{} was over before {} was asked for, and yet its zxid covers it.",
                told(history, place),
                told(history, write)
            );
            breach(write, place, words);
        }
    }
    breaches
}
