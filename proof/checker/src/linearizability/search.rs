//! The search for an order, with a memory of what has been tried.
//!
//! - each lane is a queue; only heads are candidates. A head may come next if no other head returned before its call.
//! - upon a head that changes nothing and whose outcome fits: take it at once. It could stand later too, but whatever
//!   order has it later is as good with it here, so there is nothing to choose.
//! - upon heads that change the state: try each, those with the smallest hint first, then by their returns.
//! - upon an operation of unknown outcome: try it only if something that may come next could need it directly before;
//!   otherwise it can as well come later, or never. Else every subset of the unknown would be tried.
//! - upon a configuration (positions in the lanes, and state) that was met before: turn back (Lowe 2017, §4).
//! - upon the end of every completed operation: the order is a witness. Unknown ones left over did not happen.
//!
//! Why lanes rather than a list of calls and returns: the configuration is one small vector, and pipelined sessions
//! and stale reads are the same loop. Configurations are remembered as 128-bit sums, so memory does not grow with the
//! length of the history; two that collide (2^-80 for ten million) would be taken for one.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashSet;

use super::{Model, Operation};

/// More configurations than this are not remembered: about 130 MB.
pub const CONFIGURATIONS_MAX: usize = 4_000_000;

/// What a search may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of the sequential object.
    pub steps_max: u64,
    /// Remembered configurations, at most [`CONFIGURATIONS_MAX`].
    pub configurations_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps_max: 50_000_000, configurations_max: CONFIGURATIONS_MAX }
    }
}

/// Whether hints are advice or law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hints say what to try first.
    Advice,
    /// Completed operations that change state take effect in the order of their hints.
    Law,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This order explains everything. Places in the history.
    Linearizable(Vec<usize>),
    /// No order does.
    Violation(Stuck),
    /// The limits were reached first.
    Unknown {
        /// Steps taken.
        steps: u64,
    },
}

/// How far the search came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// How many completed operations the longest partial order holds.
    pub explained: usize,
    /// The completed operations of which one had to come next and none could. Places in the history.
    pub heads: Vec<usize>,
    /// Steps taken.
    pub steps: u64,
}

#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed");
    }
    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = (fingerprint >> 64) as u64 ^ fingerprint as u64;
    }
}

struct Lane {
    /// Places in the history, in order.
    places: Vec<usize>,
    next: usize,
}

/// One choice, and what follows from it without choice.
struct Frame<U> {
    /// The lane that was advanced and what takes it back; `None` at the root.
    taken: Option<(usize, U)>,
    /// Lanes advanced by operations that change nothing.
    absorbed: Vec<usize>,
    /// Lanes still to try here, best last.
    candidates: Vec<usize>,
}

struct Searcher<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Op, M::Out>],
    limits: &'a Limits,
    lanes: Vec<Lane>,
    /// When the operation, and all that follow it in its lane, must have taken effect.
    due: Vec<u64>,
    /// Places of completed operations by hint, if the hints are law, and how many of them are placed.
    by_hint: Vec<usize>,
    hinted: usize,
    state: M::State,
    /// Sum over the placed operations.
    placed: u128,
    done: usize,
    completed: usize,
    order: Vec<usize>,
    met: HashSet<u128, BuildHasherDefault<AsIs>>,
    steps: u64,
    deepest: Stuck,
}

/// Looks for an order that explains `history`. Operations of a lane must stand in the order of their calls.
pub fn search<M: Model>(model: &M, history: &[Operation<M::Op, M::Out>], limits: &Limits, order: Order) -> Outcome {
    Searcher::new(model, history, limits, order).run()
}

impl<'a, M: Model> Searcher<'a, M> {
    fn new(model: &'a M, history: &'a [Operation<M::Op, M::Out>], limits: &'a Limits, order: Order) -> Self {
        let mut lanes: Vec<Lane> = Vec::new();
        let mut known = std::collections::BTreeMap::new();
        for (place, operation) in history.iter().enumerate() {
            // What may never have happened holds up nobody: it is a lane of its own.
            let lane =
                if operation.ret.is_none() { lanes.len() } else { *known.entry(operation.lane).or_insert(lanes.len()) };
            if lane == lanes.len() {
                lanes.push(Lane { places: Vec::new(), next: 0 });
            }
            lanes[lane].places.push(place);
        }
        let mut due = vec![u64::MAX; history.len()];
        for lane in &lanes {
            let mut least = u64::MAX;
            for &place in lane.places.iter().rev() {
                least = least.min(history[place].ret.unwrap_or(u64::MAX));
                due[place] = least;
            }
        }
        let mut by_hint: Vec<usize> = Vec::new();
        if order == Order::Law {
            let changes = |place: &usize| {
                let one = &history[*place];
                one.ret.is_some() && one.hint.is_some() && !model.observes_only(&one.op, one.out.as_ref())
            };
            by_hint = (0..history.len()).filter(changes).collect();
            by_hint.sort_by_key(|place| (history[*place].hint, *place));
        }
        Self {
            model,
            history,
            limits,
            lanes,
            due,
            by_hint,
            hinted: 0,
            state: model.init(),
            placed: 0,
            done: 0,
            completed: history.iter().filter(|one| one.ret.is_some()).count(),
            order: Vec::new(),
            met: HashSet::default(),
            steps: 0,
            deepest: Stuck { explained: 0, heads: Vec::new(), steps: 0 },
        }
    }

    fn run(mut self) -> Outcome {
        let root = self.frame(None);
        let mut stack = vec![root];
        while self.done < self.completed {
            let Some(top) = stack.last_mut() else {
                return Outcome::Violation(Stuck { steps: self.steps, ..self.deepest });
            };
            let Some(lane) = top.candidates.pop() else {
                let frame = stack.pop().expect("the stack has a top");
                self.retreat(frame);
                continue;
            };
            if self.steps >= self.limits.steps_max || self.met.len() >= self.limits.configurations_max {
                return Outcome::Unknown { steps: self.steps };
            }
            if let Some(undo) = self.advance(lane) {
                let frame = self.frame(Some((lane, undo)));
                stack.push(frame);
            }
        }
        Outcome::Linearizable(self.order)
    }

    /// Takes the head of `lane`, unless its outcome does not fit or the configuration was met before.
    fn advance(&mut self, lane: usize) -> Option<M::Undo> {
        let place = self.head(lane).expect("a candidate has a head");
        let operation = &self.history[place];
        let before = operation.ret.is_none().then(|| self.model.fingerprint(&self.state));
        self.steps += 1;
        let undo = self.model.step(&mut self.state, &operation.op, operation.out.as_ref())?;
        let after = self.model.fingerprint(&self.state);
        // An operation that need not have happened and changes nothing opens no way that is not open without it.
        let idle = before == Some(after);
        if idle || !self.met.insert(self.placed ^ mark(place) ^ after) {
            self.model.undo(&mut self.state, undo);
            return None;
        }
        self.place(lane, place);
        Some(undo)
    }

    /// What follows from the configuration: first what needs no choice, then the choices.
    fn frame(&mut self, taken: Option<(usize, M::Undo)>) -> Frame<M::Undo> {
        let absorbed = self.absorb();
        let limits = self.soonest();
        let mut candidates: Vec<usize> = (0..self.lanes.len())
            .filter(|lane| {
                self.head(*lane).is_some_and(|place| {
                    let one = &self.history[place];
                    !self.model.observes_only(&one.op, one.out.as_ref())
                        && self.may_come_next(*lane, place, limits)
                        && self.is_next_by_hint(place)
                })
            })
            .collect();
        candidates.retain(|lane| self.may_be_needed(*lane, limits));
        candidates.sort_by_key(|lane| {
            let place = self.head(*lane).expect("candidates have heads");
            let one = &self.history[place];
            std::cmp::Reverse((one.ret.is_none(), one.hint.unwrap_or(u64::MAX), one.ret, place))
        });
        if self.done > self.deepest.explained || self.deepest.heads.is_empty() {
            let heads = (0..self.lanes.len()).filter_map(|lane| self.head(lane));
            let heads = heads.filter(|place| {
                let one = &self.history[*place];
                one.ret.is_some() && (one.stale || one.call <= limits.0.0)
            });
            self.deepest = Stuck { explained: self.done, heads: heads.collect(), steps: 0 };
        }
        Frame { taken, absorbed, candidates }
    }

    fn absorb(&mut self) -> Vec<usize> {
        let mut absorbed = Vec::new();
        loop {
            let before = absorbed.len();
            let limits = self.soonest();
            for lane in 0..self.lanes.len() {
                while let Some(place) = self.head(lane) {
                    let one = &self.history[place];
                    let free = one.ret.is_some() && self.model.observes_only(&one.op, one.out.as_ref());
                    if !free || !self.may_come_next(lane, place, limits) {
                        break;
                    }
                    self.steps += 1;
                    let Some(undo) = self.model.step(&mut self.state, &one.op, one.out.as_ref()) else { break };
                    self.model.undo(&mut self.state, undo);
                    self.place(lane, place);
                    absorbed.push(lane);
                }
            }
            if absorbed.len() == before {
                return absorbed;
            }
        }
    }

    fn retreat(&mut self, frame: Frame<M::Undo>) {
        for lane in frame.absorbed.into_iter().rev() {
            self.unplace(lane);
        }
        if let Some((lane, undo)) = frame.taken {
            self.unplace(lane);
            self.model.undo(&mut self.state, undo);
        }
    }

    fn place(&mut self, lane: usize, place: usize) {
        self.lanes[lane].next += 1;
        self.placed ^= mark(place);
        self.done += usize::from(self.history[place].ret.is_some());
        self.hinted += usize::from(self.by_hint.get(self.hinted) == Some(&place));
        self.order.push(place);
    }

    fn unplace(&mut self, lane: usize) {
        let place = self.order.pop().expect("what is taken back was placed");
        self.lanes[lane].next -= 1;
        assert_eq!(self.head(lane), Some(place), "operations are taken back in reverse order");
        self.placed ^= mark(place);
        self.done -= usize::from(self.history[place].ret.is_some());
        self.hinted -= usize::from(self.hinted > 0 && self.by_hint[self.hinted - 1] == place);
    }

    fn head(&self, lane: usize) -> Option<usize> {
        self.lanes[lane].places.get(self.lanes[lane].next).copied()
    }

    /// The least due time among the heads with its lane, and the least among the others.
    fn soonest(&self) -> ((u64, usize), u64) {
        let (mut first, mut second) = ((u64::MAX, usize::MAX), u64::MAX);
        for lane in 0..self.lanes.len() {
            if let Some(place) = self.head(lane) {
                let due = self.due[place];
                if due < first.0 {
                    second = first.0;
                    first = (due, lane);
                } else {
                    second = second.min(due);
                }
            }
        }
        (first, second)
    }

    fn may_come_next(&self, lane: usize, place: usize, (first, second): ((u64, usize), u64)) -> bool {
        let others = if first.1 == lane { second } else { first.0 };
        self.history[place].stale || others >= self.history[place].call
    }

    /// False for an operation of unknown outcome that nothing which may come next could need before it.
    fn may_be_needed(&self, lane: usize, limits: ((u64, usize), u64)) -> bool {
        let unknown = self.head(lane).expect("a candidate has a head");
        if self.history[unknown].ret.is_some() {
            return true;
        }
        (0..self.lanes.len()).filter(|other| *other != lane).any(|other| {
            self.head(other).is_some_and(|place| {
                let next = &self.history[place];
                self.may_come_next(other, place, limits)
                    && self.model.is_needed_before(
                        &self.state,
                        &self.history[unknown].op,
                        (&next.op, next.out.as_ref()),
                    )
            })
        })
    }

    fn is_next_by_hint(&self, place: usize) -> bool {
        let one = &self.history[place];
        self.by_hint.is_empty()
            || one.ret.is_none()
            || one.hint.is_none()
            || self.by_hint.get(self.hinted) == Some(&place)
    }
}

/// A fixed random-looking number for a place; their exclusive-or stands for a set of places.
fn mark(place: usize) -> u128 {
    let place = place as u64;
    u128::from(scatter(2 * place + 1)) << 64 | u128::from(scatter(2 * place + 2))
}

/// SplitMix64's output function (Steele, Lea & Flood 2014).
fn scatter(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
