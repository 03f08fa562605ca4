//! Which outputs to spend.
//!
//! - branch and bound: a set that needs no change, by depth first over what each is worth after its own fee;
//! - single random draw: in random order, until there is enough for the payment and for change;
//! - knapsack: many random sets, of which the least that is enough is taken.
//!
//! Of what these find, the one that wastes least is taken: fees that are paid now beyond those in the long term, and change.
//! What one type of outputs can pay is not paid by a mixture, which would tell that they belong together.

use fastrand::Rng;

const TRIES_MAX: usize = 100_000;
const KNAPSACK_ROUNDS: usize = 1_000;
/// The least change that is aimed at, in satoshi.
pub(crate) const CHANGE_MIN: i64 = 50_000;
/// The most.
const CHANGE_MAX: i64 = 1_000_000;

/// An output that may be chosen, in satoshi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its place in the caller's list.
    pub(crate) at: usize,
    pub(crate) value: i64,
    /// What it takes to spend it now.
    pub(crate) fee: i64,
    /// What it would take in the long term.
    pub(crate) long_term_fee: i64,
    pub(crate) weight: u64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// What all must come to.
    pub(crate) amount: i64,
    /// A payment pays the fee: outputs count whole.
    pub(crate) whole: bool,
    /// What change takes now and when it is spent.
    pub(crate) change_cost: i64,
    /// What change takes now.
    pub(crate) change_fee: i64,
    /// Change below it is none.
    pub(crate) change_worth: i64,
    /// Change is aimed at above it.
    pub(crate) change_goal: i64,
    /// No heavier set.
    pub(crate) weight_max: u64,
}

impl Target {
    fn worth(&self, candidate: &Candidate) -> i64 {
        if self.whole { candidate.value } else { candidate.value - candidate.fee }
    }

    /// What is left over for change, after its own fee.
    pub(crate) fn change(&self, chosen: &[Candidate]) -> i64 {
        let sum: i64 = chosen.iter().map(|one| self.worth(one)).sum();
        let change = sum - self.amount - if self.whole { 0 } else { self.change_fee };
        if change < self.change_worth { 0 } else { change }
    }

    /// What a choice wastes.
    fn waste(&self, chosen: &[Candidate]) -> i64 {
        let inputs: i64 = chosen.iter().map(|one| one.fee - one.long_term_fee).sum();
        let sum: i64 = chosen.iter().map(|one| self.worth(one)).sum();
        inputs + if self.change(chosen) > 0 { self.change_cost } else { sum - self.amount }
    }
}

/// What change is aimed at, for payments of this size.
pub(crate) fn change_goal(payment: i64, change_fee: i64, rng: &mut Rng) -> i64 {
    if payment <= CHANGE_MIN / 2 {
        return change_fee + CHANGE_MIN;
    }
    let upper = (payment * 2).min(CHANGE_MAX);
    change_fee + CHANGE_MIN + rng.i64(0..(upper - CHANGE_MIN).max(1))
}

/// The best choice from groups of which each is tried by itself, and then from all together.
pub(crate) fn choose(groups: &[Vec<Candidate>], target: &Target, rng: &mut Rng) -> Option<Vec<Candidate>> {
    let mut found: Vec<Vec<Candidate>> = groups.iter().filter_map(|group| from_one(group, target, rng)).collect();
    if found.is_empty() && groups.len() > 1 {
        found.extend(from_one(&groups.concat(), target, rng));
    }
    found.into_iter().min_by_key(|chosen| target.waste(chosen))
}

fn from_one(candidates: &[Candidate], target: &Target, rng: &mut Rng) -> Option<Vec<Candidate>> {
    // What costs more than it is worth only adds to the fee.
    let pool: Vec<Candidate> = candidates.iter().filter(|one| target.worth(one) > 0).copied().collect();
    let light = |chosen: &Vec<Candidate>| chosen.iter().map(|one| one.weight).sum::<u64>() <= target.weight_max;
    let mut found = Vec::new();
    if !target.whole {
        found.extend(branch_and_bound(&pool, target));
    }
    found.extend(knapsack(&pool, target, rng));
    found.extend(single_random_draw(&pool, target, rng));
    found.retain(light);
    found.into_iter().min_by_key(|chosen| (target.waste(chosen), std::cmp::Reverse(chosen.len())))
}

/// The set within the cost of change above the target that wastes least.
fn branch_and_bound(pool: &[Candidate], target: &Target) -> Option<Vec<Candidate>> {
    let mut pool = pool.to_vec();
    pool.sort_by_key(|one| (std::cmp::Reverse(target.worth(one)), one.fee - one.long_term_fee));
    let mut left: i64 = pool.iter().map(|one| target.worth(one)).sum();
    if left < target.amount {
        return None;
    }
    let expensive = pool.first().is_some_and(|one| one.fee > one.long_term_fee);
    let (mut chosen, mut sum, mut waste, mut at) = (Vec::<usize>::new(), 0, 0, 0);
    let mut best: Option<(i64, Vec<usize>)> = None;
    for _ in 0..TRIES_MAX {
        let enough = sum >= target.amount;
        let back = sum + left < target.amount
            || sum > target.amount + target.change_cost
            || (expensive && best.as_ref().is_some_and(|(least, _)| waste > *least));
        if enough && !back {
            let total = waste + (sum - target.amount);
            if best.as_ref().is_none_or(|(least, _)| total <= *least) {
                best = Some((total, chosen.clone()));
            }
        }
        if back || enough || at == pool.len() {
            let Some(last) = chosen.pop() else { break };
            // What was left out since then is there again.
            while at > last + 1 {
                at -= 1;
                left += target.worth(&pool[at]);
            }
            sum -= target.worth(&pool[last]);
            waste -= pool[last].fee - pool[last].long_term_fee;
            continue;
        }
        let one = &pool[at];
        left -= target.worth(one);
        // The twin of one that was left out is left out too.
        let twin = at > 0
            && chosen.last() != Some(&(at - 1))
            && target.worth(one) == target.worth(&pool[at - 1])
            && one.fee == pool[at - 1].fee;
        if !twin {
            chosen.push(at);
            sum += target.worth(one);
            waste += one.fee - one.long_term_fee;
        }
        at += 1;
    }
    best.map(|(_, chosen)| chosen.into_iter().map(|at| pool[at]).collect())
}

/// In random order until there is enough, with the lightest ones left out again while the set is too heavy.
fn single_random_draw(pool: &[Candidate], target: &Target, rng: &mut Rng) -> Option<Vec<Candidate>> {
    let goal = target.amount + CHANGE_MIN + if target.whole { 0 } else { target.change_fee };
    let mut order = pool.to_vec();
    rng.shuffle(&mut order);
    let (mut chosen, mut sum, mut weight) = (Vec::<Candidate>::new(), 0, 0);
    for one in order {
        sum += target.worth(&one);
        weight += one.weight;
        chosen.push(one);
        while weight > target.weight_max && !chosen.is_empty() {
            let least = (0..chosen.len()).min_by_key(|at| target.worth(&chosen[*at]))?;
            let one = chosen.swap_remove(least);
            sum -= target.worth(&one);
            weight -= one.weight;
        }
        if sum >= goal {
            return Some(chosen);
        }
    }
    None
}

/// The least set that is enough, as far as chance finds it; or the one output that is larger.
fn knapsack(pool: &[Candidate], target: &Target, rng: &mut Rng) -> Option<Vec<Candidate>> {
    let mut order = pool.to_vec();
    rng.shuffle(&mut order);
    if let Some(one) = order.iter().find(|one| target.worth(one) == target.amount) {
        return Some(vec![*one]);
    }
    let goal = target.amount + target.change_goal;
    let mut smaller: Vec<Candidate> = order.iter().filter(|one| target.worth(one) < goal).copied().collect();
    let larger = order.iter().filter(|one| target.worth(one) >= goal).min_by_key(|one| target.worth(one)).copied();
    let total: i64 = smaller.iter().map(|one| target.worth(one)).sum();
    if total == target.amount {
        return Some(smaller);
    }
    if total < target.amount {
        return larger.map(|one| vec![one]);
    }
    smaller.sort_by_key(|one| std::cmp::Reverse(target.worth(one)));
    let mut best = least_set(&smaller, target, target.amount, rng);
    if best.1 != target.amount && total >= goal {
        best = least_set(&smaller, target, goal, rng);
    }
    match larger {
        Some(one) if (best.1 != target.amount && best.1 < goal) || target.worth(&one) <= best.1 => Some(vec![one]),
        _ => Some(smaller.into_iter().zip(best.0).filter(|(_, taken)| *taken).map(|(one, _)| one).collect()),
    }
}

/// Which of these, and what they come to: at least `goal`, which all together reach.
fn least_set(pool: &[Candidate], target: &Target, goal: i64, rng: &mut Rng) -> (Vec<bool>, i64) {
    let mut best = (vec![true; pool.len()], pool.iter().map(|one| target.worth(one)).sum::<i64>());
    for _ in 0..KNAPSACK_ROUNDS {
        if best.1 == goal {
            break;
        }
        let (mut taken, mut sum, mut reached) = (vec![false; pool.len()], 0, false);
        for pass in 0..2 {
            for (at, one) in pool.iter().enumerate() {
                if reached || taken[at] || (pass == 0 && rng.bool()) {
                    continue;
                }
                taken[at] = true;
                sum += target.worth(one);
                if sum >= goal {
                    if sum < best.1 {
                        best = (taken.clone(), sum);
                    }
                    reached = sum == goal;
                    taken[at] = false;
                    sum -= target.worth(one);
                }
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(values: &[i64]) -> Vec<Candidate> {
        let one =
            |(at, value): (usize, &i64)| Candidate { at, value: *value, fee: 68, long_term_fee: 680, weight: 272 };
        values.iter().enumerate().map(one).collect()
    }

    fn target(amount: i64) -> Target {
        Target {
            amount,
            whole: false,
            change_cost: 100,
            change_fee: 31,
            change_worth: 330,
            change_goal: CHANGE_MIN + 31,
            weight_max: 400_000,
        }
    }

    #[test]
    fn a_set_without_change_is_found() {
        let pool = candidates(&[100_000, 70_068, 50_068, 20_000, 30_068]);
        let chosen = branch_and_bound(&pool, &target(150_136 - 136)).expect("there is one");
        assert_eq!(target(150_000).change(&chosen), 0);
        assert_eq!(branch_and_bound(&pool, &target(260_000)), None);
        assert_eq!(branch_and_bound(&pool, &target(10_000)), None);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_enough(values in prop::collection::vec(1_000_i64..1_000_000, 1..40), part in 1_i64..100, seed: u64) {
            let pool = candidates(&values);
            let total: i64 = values.iter().map(|value| value - 68).sum();
            let wanted = target((total * part / 100).max(1));
            let mut rng = fastrand::Rng::with_seed(seed);
            let chosen = choose(&[pool], &wanted, &mut rng).expect("all together are enough");
            let sum: i64 = chosen.iter().map(|one| one.value - one.fee).sum();
            prop_assert!(sum >= wanted.amount);
            let mut places: Vec<usize> = chosen.iter().map(|one| one.at).collect();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), chosen.len());
        }

        #[test]
        fn more_than_all_is_never_found(values in prop::collection::vec(1_000_i64..1_000_000, 0..40), seed: u64) {
            let total: i64 = values.iter().map(|value| value - 68).sum();
            let wanted = target(total + 1);
            prop_assert_eq!(choose(&[candidates(&values)], &wanted, &mut fastrand::Rng::with_seed(seed)), None);
        }
    }
}
