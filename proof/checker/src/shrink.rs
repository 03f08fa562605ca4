//! The smallest part of a history that still cannot be explained.
//!
//! Whatever is left out, the rest must be something that an honest system's history could not contain; so only
//! these are left out:
//! - what came after: a prefix of a linearizable history is linearizable. Operations that are open at the cut have an
//!   unknown outcome. The shortest such prefix is found by bisection.
//! - operations that change nothing: without one of them a linearizable history stays so.
//! - writes on which no outcome that is left depends ([`Model::matters_to`]).
//!
//! Plain delta debugging would leave out the write that a read saw, and present a read of nobody's value.

use crate::linearizability::{Limits, Model, Operation, Operations, Order, Outcome, Stuck, search};

/// Steps of the sequential object, for all attempts together.
const STEPS_MAX: u64 = 2_000_000;
/// Writes are only left out of histories of at most this length: the question is asked for each pair.
const PAIRS_FROM_MAX: usize = 2_000;

struct Shrinker<'a, M: Model> {
    model: &'a M,
    limits: &'a Limits,
    order: Order,
    steps_left: u64,
}

/// A part of `history`, a violation by [`search`], that is one too and from which nothing can be left out, or that
/// was reached when the effort ended. `stuck` is what the search answered.
pub fn smallest<M: Model>(
    model: &M,
    history: &Operations<M>,
    stuck: &Stuck,
    limits: &Limits,
    order: Order,
) -> Operations<M> {
    let mut shrinker = Shrinker { model, limits, order, steps_left: STEPS_MAX };
    let mut rest = shrinker.shortest_prefix(history, stuck);
    loop {
        let before = rest.len();
        rest = shrinker.without_observations(rest);
        rest = shrinker.without_idle_writes(rest);
        if rest.len() == before || shrinker.steps_left == 0 {
            return rest;
        }
    }
}

/// The history as it was known at moment `at`.
fn cut<M: Model>(model: &M, history: &Operations<M>, at: u64) -> Operations<M> {
    let known = history.iter().filter(|one| one.call <= at);
    let open = |one: &Operation<M::Op, M::Out>| one.ret.is_none_or(|ret| ret > at);
    known
        .filter(|one| {
            !open(one) || !model.observes_only(&one.op, None) && !model.observes_only(&one.op, one.out.as_ref())
        })
        .map(|one| {
            let mut one = one.clone();
            if open(&one) {
                one.ret = None;
                one.out = None;
                one.hint = None;
            }
            one
        })
        .collect()
}

impl<M: Model> Shrinker<'_, M> {
    fn fails(&mut self, history: &Operations<M>) -> bool {
        matches!(self.outcome(history), Some(Outcome::Violation(_)))
    }

    fn explains(&mut self, history: &Operations<M>) -> bool {
        matches!(self.outcome(history), Some(Outcome::Linearizable(_)))
    }

    fn outcome(&mut self, history: &Operations<M>) -> Option<Outcome> {
        if self.steps_left == 0 {
            return None;
        }
        let limits = Limits { steps_max: self.limits.steps_max.min(self.steps_left), ..*self.limits };
        let outcome = search(self.model, history, &limits, self.order);
        let steps = match &outcome {
            Outcome::Violation(stuck) => stuck.steps,
            Outcome::Unknown { steps } => *steps,
            Outcome::Linearizable(order) => order.len() as u64,
        };
        self.steps_left = self.steps_left.saturating_sub(steps.max(history.len() as u64));
        Some(outcome)
    }

    fn shortest_prefix(&mut self, history: &Operations<M>, stuck: &Stuck) -> Operations<M> {
        let mut returns: Vec<u64> = history.iter().filter_map(|one| one.ret).collect();
        returns.sort_unstable();
        returns.dedup();
        let (mut fine, mut failing) = (0, returns.len());
        let mut best = None;
        // Most often the search came as far as the history can be explained, and the next return is the one.
        let next = stuck.heads.iter().filter_map(|place| history[*place].ret).min();
        if let Some(at) = next.and_then(|next| returns.binary_search(&next).ok()) {
            let before = at.checked_sub(1).map_or_else(Vec::new, |at| cut(self.model, history, returns[at]));
            if self.explains(&before) {
                fine = at;
            }
            let part = cut(self.model, history, returns[at]);
            if self.fails(&part) {
                failing = at;
                best = Some(part);
            } else {
                fine = at + 1;
            }
        }
        while fine < failing {
            let middle = fine + (failing - fine) / 2;
            let part = cut(self.model, history, returns[middle]);
            if self.fails(&part) {
                failing = middle;
                best = Some(part);
            } else {
                fine = middle + 1;
            }
        }
        best.unwrap_or_else(|| history.clone())
    }

    /// Leaves out operations that change nothing: half of them, a quarter, ..., one.
    fn without_observations(&mut self, mut rest: Operations<M>) -> Operations<M> {
        let mut size = rest.len().div_ceil(2);
        while size >= 1 && self.steps_left > 0 {
            let mut from = 0;
            while from < rest.len() && self.steps_left > 0 {
                let until = (from + size).min(rest.len());
                let free = |one: &Operation<M::Op, M::Out>| self.model.observes_only(&one.op, one.out.as_ref());
                let part: Operations<M> = (0..rest.len())
                    .filter(|place| !((from..until).contains(place) && free(&rest[*place])))
                    .map(|place| rest[place].clone())
                    .collect();
                if part.len() < rest.len() && self.fails(&part) {
                    from = until - (rest.len() - part.len());
                    rest = part;
                } else {
                    from = until;
                }
            }
            size /= 2;
        }
        rest
    }

    fn without_idle_writes(&mut self, mut rest: Operations<M>) -> Operations<M> {
        if rest.len() > PAIRS_FROM_MAX {
            return rest;
        }
        let mut place = rest.len();
        while place > 0 {
            place -= 1;
            let one = &rest[place];
            let matters = |other: usize| {
                let other = &rest[other];
                self.model.matters_to((&one.op, one.out.as_ref()), (&other.op, other.out.as_ref()))
            };
            let idle = !self.model.observes_only(&one.op, one.out.as_ref())
                && (0..rest.len()).all(|other| other == place || !matters(other));
            if idle {
                let mut part = rest.clone();
                part.remove(place);
                if self.fails(&part) {
                    rest = part;
                }
            }
        }
        rest
    }
}
