//! Histories of honest objects are accepted; damaged ones are judged as a checker by brute force judges them.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

use fastrand::Rng;
use proptest::prelude::*;
use verity_checker::Value;
use verity_checker::linearizability::{
    Cell, CellOp, CellOut, Limits, Model, Operation, Operations, Order, Outcome, Tree, TreeCall, TreeOp, TreeOut,
    TreeState, search,
};
use verity_checker::smallest;

/// Runs `clients` against an atomic object: each operation takes effect at one moment between call and return.
/// One in `lost` answers is lost, its operation done or not; 0 means none.
fn simulate<O: Clone, R>(
    rng: &mut Rng,
    clients: usize,
    count: usize,
    lost: usize,
    mut ask: impl FnMut(&mut Rng, u64) -> O,
    mut apply: impl FnMut(&O) -> R,
) -> Vec<Operation<O, R>> {
    struct Busy {
        place: usize,
        applied: bool,
    }
    let mut history: Vec<Operation<O, R>> = Vec::new();
    let mut outcomes: Vec<Option<R>> = Vec::new();
    let mut busy: Vec<Option<Busy>> = (0..clients).map(|_| None).collect();
    let (mut lanes, mut next_lane): (Vec<u64>, u64) = ((1..=clients as u64).collect(), clients as u64 + 1);
    let (mut time, mut applied) = (0, 0);
    while history.len() < count || busy.iter().any(Option::is_some) {
        time += 1;
        let client = rng.usize(..clients);
        match &mut busy[client] {
            None if history.len() < count => {
                let place = history.len();
                let op = ask(rng, lanes[client]);
                let one = Operation {
                    lane: lanes[client],
                    call: time,
                    ret: None,
                    op,
                    out: None,
                    hint: None,
                    stale: false,
                    id: place,
                };
                history.push(one);
                outcomes.push(None);
                busy[client] = Some(Busy { place, applied: false });
            }
            None => {}
            Some(one) if lost > 0 && rng.usize(..lost) == 0 => {
                history[one.place].hint = None;
                lanes[client] = next_lane;
                next_lane += 1;
                busy[client] = None;
            }
            Some(one) if !one.applied => {
                one.applied = true;
                applied += 1;
                outcomes[one.place] = Some(apply(&history[one.place].op));
                history[one.place].hint = Some(applied);
            }
            Some(one) => {
                history[one.place].ret = Some(time);
                history[one.place].out = outcomes[one.place].take();
                busy[client] = None;
            }
        }
    }
    for one in history.iter_mut().filter(|one| one.ret.is_none()) {
        one.hint = None;
    }
    history
}

fn cell_history(seed: u64, clients: usize, count: usize, lost: usize, values: i64) -> Operations<Cell> {
    let mut state = Value::Null;
    let ask = |rng: &mut Rng, _| match rng.u8(..10) {
        0..5 => CellOp::Read,
        5..8 => CellOp::Write(rng.i64(0..values).into()),
        _ => CellOp::Cas(rng.i64(0..values).into(), rng.i64(0..values).into()),
    };
    let mut history = simulate(&mut Rng::with_seed(seed), clients, count, lost, ask, |op| match op {
        CellOp::Read => CellOut::Read(state.clone()),
        CellOp::Cas(from, _) if *from != state => CellOut::Mismatch,
        CellOp::Cas(_, to) | CellOp::Write(to) => {
            state = to.clone();
            CellOut::Done
        }
        CellOp::Append(_) | CellOp::Delete => unreachable!("not asked for"),
    });
    history.retain(|one| one.ret.is_some() || one.op != CellOp::Read);
    history
}

fn tree_op(rng: &mut Rng, paths: usize) -> TreeOp {
    let path = |rng: &mut Rng| match rng.usize(..paths) {
        0 => "/a".to_owned(),
        n if n % 2 == 0 => format!("/a/{n}"),
        n => format!("/{n}"),
    };
    let version = |rng: &mut Rng| if rng.bool() { -1 } else { rng.i64(0..3) };
    match rng.u8(..12) {
        0..3 => TreeOp::Create {
            path: path(rng),
            value: rng.i64(0..4).into(),
            ephemeral: rng.u8(..4) == 0,
            sequential: rng.u8(..4) == 0,
        },
        3 => TreeOp::Delete { path: path(rng), version: version(rng) },
        4..7 => TreeOp::Set { path: path(rng), value: rng.i64(0..100).into(), version: version(rng) },
        7 => TreeOp::Exists { path: path(rng) },
        8 => TreeOp::Children { path: if rng.bool() { "/a".to_owned() } else { "/".to_owned() } },
        9 => TreeOp::Multi(vec![
            TreeOp::Check { path: path(rng), version: version(rng) },
            TreeOp::Set { path: path(rng), value: rng.i64(0..100).into(), version: -1 },
            TreeOp::Create { path: path(rng), value: Value::Null, ephemeral: false, sequential: true },
        ]),
        _ => TreeOp::Get { path: path(rng) },
    }
}

fn tree_history(seed: u64, clients: usize, count: usize, lost: usize, paths: usize) -> Operations<Tree> {
    let mut state: TreeState = Tree::default().init();
    let ask = |rng: &mut Rng, lane| {
        let op = if rng.usize(..count.max(200)) == 0 { TreeOp::Close { session: lane } } else { tree_op(rng, paths) };
        // An operation after the end of its session is answered by the model below only as such.
        TreeCall { session: lane, op }
    };
    let mut ended = std::collections::BTreeSet::new();
    let mut history = simulate(&mut Rng::with_seed(seed), clients, count, lost, ask, |call| {
        if let TreeOp::Close { session } = call.op {
            ended.insert(session);
        } else if ended.contains(&call.session) {
            return TreeOut::Error(verity_checker::linearizability::Code::SessionExpired);
        }
        state.answer(call.session, &call.op)
    });
    let model = Tree::default();
    history.retain(|one| one.ret.is_some() || !model.observes_only(&one.op, None));
    history
}

fn accepted<M: Model>(model: &M, history: &Operations<M>) -> bool {
    match search(model, history, &Limits::default(), Order::Advice) {
        Outcome::Linearizable(order) => {
            assert!(is_witness(model, history, &order), "the order that was found does not explain the history");
            true
        }
        Outcome::Violation(_) => false,
        Outcome::Unknown { steps } => panic!("the search gave up after {steps} steps"),
    }
}

/// The definition: all that was answered, in an order that respects real time and lanes, and every outcome fits.
fn is_witness<M: Model>(model: &M, history: &Operations<M>, order: &[usize]) -> bool {
    let mut state = model.init();
    for (number, &place) in order.iter().enumerate() {
        for &earlier in &order[..number] {
            let (before, after) = (&history[earlier], &history[place]);
            let late = after.ret.is_some_and(|ret| ret < before.call) && !before.stale;
            let lane = after.lane == before.lane && after.ret.is_some() && before.ret.is_some() && place < earlier;
            if late || lane {
                return false;
            }
        }
        if model.step(&mut state, &history[place].op, history[place].out.as_ref()).is_none() {
            return false;
        }
    }
    (0..history.len()).all(|place| history[place].ret.is_none() || order.contains(&place))
}

/// Every order of every choice of unknown operations, tried.
fn brute_force<M: Model>(model: &M, history: &Operations<M>) -> bool {
    fn permute<M: Model>(model: &M, history: &Operations<M>, order: &mut Vec<usize>) -> bool {
        if is_witness(model, history, order) {
            return true;
        }
        for place in 0..history.len() {
            if !order.contains(&place) {
                order.push(place);
                if permute(model, history, order) {
                    return true;
                }
                order.pop();
            }
        }
        false
    }
    permute(model, history, &mut Vec::new())
}

/// Changes one thing that somebody saw.
fn damage_cell(rng: &mut Rng, history: &mut Operations<Cell>) {
    let place = rng.usize(..history.len());
    let one = &mut history[place];
    one.out = match one.out.take() {
        Some(CellOut::Read(_)) => Some(CellOut::Read(rng.i64(0..4).into())),
        Some(CellOut::Mismatch) => Some(CellOut::Done),
        Some(CellOut::Done) if matches!(one.op, CellOp::Cas(..)) => Some(CellOut::Mismatch),
        other => other,
    };
}

fn damage_tree(rng: &mut Rng, history: &mut Operations<Tree>) {
    let place = rng.usize(..history.len());
    let donor = rng.usize(..history.len());
    if history[place].op.op == history[donor].op.op {
        history[place].out = history[donor].out.clone().or(history[place].out.clone());
    }
    if let Some(TreeOut::Value(value, _)) = &mut history[place].out {
        *value = rng.i64(0..4).into();
    }
    if let Some(TreeOut::Done(seen)) = &mut history[place].out {
        seen.version = seen.version.map(|version| version + rng.i64(0..2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn honest_cells_are_accepted(seed: u64, clients in 1_usize..8, lost in prop_oneof![Just(0_usize), 20_usize..60]) {
        prop_assert!(accepted(&Cell::default(), &cell_history(seed, clients, 60, lost, 4)));
    }

    #[test]
    fn honest_trees_are_accepted(seed: u64, clients in 1_usize..8, lost in prop_oneof![Just(0_usize), 30_usize..80]) {
        let history = tree_history(seed, clients, 60, lost, 5);
        prop_assert!(accepted(&Tree::default(), &history));
        let law = search(&Tree::default(), &history, &Limits::default(), Order::Law);
        prop_assert!(matches!(law, Outcome::Linearizable(_)), "the order of effects is one of them");
    }
}

/// How many of `cases` damaged histories both checkers reject; they must agree on each.
fn agree<M: Model>(
    model: &M,
    cases: u64,
    make: impl Fn(u64) -> Operations<M>,
    damage: impl Fn(&mut Rng, &mut Operations<M>),
) -> usize {
    let mut rejected = 0;
    for seed in 0..cases {
        let mut rng = Rng::with_seed(seed ^ 0x5eed);
        let mut history = make(seed);
        if history.is_empty() {
            continue;
        }
        damage(&mut rng, &mut history);
        for one in &mut history {
            // Some histories have reads that may be stale.
            one.stale = seed % 3 == 0 && model.observes_only(&one.op, one.out.as_ref());
        }
        let truth = brute_force(model, &history);
        assert_eq!(accepted(model, &history), truth, "seed {seed}");
        if !truth {
            rejected += 1;
            let Outcome::Violation(stuck) = search(model, &history, &Limits::default(), Order::Advice) else {
                panic!("seed {seed}: rejected before");
            };
            let part = smallest(model, &history, &stuck, &Limits::default(), Order::Advice);
            assert!(part.len() <= history.len());
            assert!(!brute_force(model, &part), "seed {seed}: the smallest part is no violation");
        }
    }
    rejected
}

#[test]
fn damaged_cells_are_judged_as_by_brute_force() {
    let make = |seed| cell_history(seed, 1 + seed as usize % 4, 6, if seed % 2 == 0 { 0 } else { 10 }, 4);
    let rejected = agree(&Cell::default(), 1_500, make, damage_cell);
    assert!(rejected > 300, "only {rejected} of 1,500 were violations: the damage is too mild to test anything");
}

#[test]
fn damaged_trees_are_judged_as_by_brute_force() {
    let make = |seed| tree_history(seed, 1 + seed as usize % 4, 6, if seed % 2 == 0 { 0 } else { 12 }, 3);
    let rejected = agree(&Tree::default(), 1_500, make, damage_tree);
    assert!(rejected > 60, "only {rejected} of 1,500 were violations: the damage is too mild to test anything");
}

#[test]
fn a_read_of_a_value_that_was_never_written_is_rejected() {
    for seed in 0..50 {
        let mut history = cell_history(seed, 5, 300, 100, 5);
        let reads: Vec<usize> = (0..history.len()).filter(|place| history[*place].op == CellOp::Read).collect();
        let place = reads[seed as usize % reads.len()];
        history[place].out = Some(CellOut::Read(999.into()));
        assert!(!accepted(&Cell::default(), &history), "seed {seed}");
    }
}

#[test]
fn long_histories_are_judged() {
    let history = tree_history(7, 8, 5_000, 1_000, 40);
    assert!(accepted(&Tree::default(), &history));
    let mut stale = history.clone();
    for one in &mut stale {
        one.stale = Tree::default().observes_only(&one.op, None);
    }
    assert!(accepted(&Tree::default(), &stale));
    let last = history.iter().rposition(|one| matches!(one.out, Some(TreeOut::Value(..)))).expect("somebody reads");
    let mut damaged = history.clone();
    if let Some(TreeOut::Value(value, _)) = &mut damaged[last].out {
        *value = 12_345.into();
    }
    let outcome = search(&Tree::default(), &damaged, &Limits::default(), Order::Law);
    assert!(matches!(outcome, Outcome::Violation(_)), "{outcome:?}");
}

#[test]
fn limits_end_the_search() {
    let history = cell_history(3, 6, 200, 0, 3);
    let limits = Limits { steps_max: 20, ..Limits::default() };
    assert!(matches!(search(&Cell::default(), &history, &limits, Order::Advice), Outcome::Unknown { .. }));
}
