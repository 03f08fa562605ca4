//! Every interleaving of two proposers and three acceptors, explored by `stateright` over the shipped `on` functions.
//!
//! What was sent once can be delivered at any time, any number of times, or never: that is loss, duplication and
//! reordering in one. With a disk, one acceptor's answers wait for a sync that covers any number of messages, and a crash
//! takes back what was not synced; the others sync at once, so their crashes are no more than lost answers.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::super::{Acceptor, AcceptorId, Event, Message, Number, Proposer, ProposerState};
use crate::Mutant;

const ACCEPTORS: usize = 3;
/// The acceptor that has a disk.
const SLOW: usize = 0;
const WISHES: [u8; 2] = [10, 20];

type Said = Message<u8>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Flying {
    Ask { from: usize, to: usize, message: Said },
    Answer { from: usize, to: usize, message: Said },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    proposers: Vec<Proposer<u8>>,
    attempts: [u8; 2],
    acceptors: Vec<Acceptor<u8>>,
    disk: Acceptor<u8>,
    held: BTreeSet<Flying>,
    crashes: u8,
    flying: BTreeSet<Flying>,
    /// Who ever accepted what, under which number; and what the acceptor with a disk has yet to sync.
    votes: BTreeSet<(Number, u8, usize)>,
    casting: BTreeSet<(Number, u8, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Propose(usize),
    Deliver(Flying),
    Sync,
    Crash,
}

#[derive(Clone, Debug, Default)]
struct Group {
    attempts: [u8; 2],
    /// With a disk: how many crashes.
    crashes: Option<u8>,
    mutant: Option<Mutant>,
    answers_before_sync: bool,
}

impl World {
    fn post(&mut self, from: usize, out: Vec<(AcceptorId, Said)>) {
        let asks = out.into_iter().map(|(to, message)| {
            let to = usize::try_from(to.0).unwrap();
            Flying::Ask { from, to, message }
        });
        self.flying.extend(asks);
        self.proposers[from].on(Event::Sent);
    }

    fn vote(&self, acceptor: usize) -> Option<(Number, u8, usize)> {
        self.acceptors[acceptor].accepted().map(|(n, value)| (*n, *value, acceptor))
    }

    /// Forgets answers that can do nothing any more. A rejection only ever fails an attempt, and a failed last attempt
    /// is one that waits forever, so it is kept only where another attempt may follow.
    fn forget(&mut self) {
        let (proposers, attempts) = (&self.proposers, &self.attempts);
        self.flying.retain(|flying| match flying {
            Flying::Ask { .. } => true,
            Flying::Answer { to, message, .. } => match (message, proposers[*to].state()) {
                (Message::Promise(n, _), ProposerState::WaitingPromises)
                | (Message::Accepted(n), ProposerState::WaitingAccepts) => *n == proposers[*to].number(),
                (Message::Reject(n, _), ProposerState::WaitingPromises | ProposerState::WaitingAccepts) => {
                    *n == proposers[*to].number() && attempts[*to] > 0
                }
                _ => false,
            },
        });
    }

    /// Values that a majority accepted under one number, at any time.
    fn chosen(&self) -> BTreeSet<u8> {
        let count = |n: Number, value: u8| self.votes.iter().filter(|(m, v, _)| (*m, *v) == (n, value)).count();
        let chosen = self.votes.iter().filter(|(n, value, _)| count(*n, *value) > ACCEPTORS / 2);
        chosen.map(|(_, value, _)| *value).collect()
    }

    fn decided(&self) -> BTreeSet<u8> {
        self.proposers.iter().filter_map(|proposer| proposer.chosen().copied()).collect()
    }
}

impl Model for Group {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let ids = (0..ACCEPTORS as u64).map(AcceptorId);
        vec![World {
            proposers: (0..2).map(|id| Proposer::new(id, 2, ids.clone()).with_mutant(self.mutant)).collect(),
            attempts: self.attempts,
            acceptors: vec![Acceptor::with_mutant(self.mutant); ACCEPTORS],
            disk: Acceptor::with_mutant(self.mutant),
            held: BTreeSet::new(),
            crashes: self.crashes.unwrap_or(0),
            flying: BTreeSet::new(),
            votes: BTreeSet::new(),
            casting: BTreeSet::new(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let may_propose = |p: &usize| world.attempts[*p] > 0 && world.proposers[*p].state() != ProposerState::Success;
        actions.extend((0..2).filter(may_propose).map(Action::Propose));
        actions.extend(world.flying.iter().cloned().map(Action::Deliver));
        if world.acceptors[SLOW] != world.disk || !world.held.is_empty() {
            if self.crashes.is_some() {
                actions.push(Action::Sync);
            }
            if world.crashes > 0 {
                actions.push(Action::Crash);
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Propose(p) => {
                world.attempts[p] -= 1;
                world.proposers[p].on(Event::Timeout);
                world.proposers[p].on(Event::Retry);
                let out = world.proposers[p].on(Event::Propose(WISHES[p]));
                world.post(p, out);
            }
            Action::Deliver(Flying::Ask { from, to, message }) => {
                let answer = world.acceptors[to].on(message)?;
                world.acceptors[to].invariants();
                let answer = Flying::Answer { from: to, to: from, message: answer };
                let vote = world.vote(to);
                if self.crashes.is_some() && to == SLOW && !self.answers_before_sync {
                    world.held.insert(answer);
                    world.casting.extend(vote);
                } else {
                    world.flying.insert(answer);
                    world.votes.extend(vote);
                }
            }
            Action::Deliver(Flying::Answer { from, to, message }) => {
                let out = world.proposers[to].on(Event::From(AcceptorId(from as u64), message));
                world.proposers[to].invariants();
                world.post(to, out);
            }
            Action::Sync => {
                world.disk = world.acceptors[SLOW].clone();
                let World { held, casting, flying, votes, .. } = &mut world;
                flying.append(held);
                votes.append(casting);
            }
            Action::Crash => {
                world.crashes -= 1;
                world.acceptors[SLOW] = world.disk.clone();
                world.held.clear();
                world.casting.clear();
            }
        }
        world.forget();
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("agreement", |_, world: &World| {
                let all: BTreeSet<u8> = world.chosen().union(&world.decided()).copied().collect();
                all.len() <= 1
            }),
            Property::always("validity", |_, world: &World| world.decided().iter().all(|value| WISHES.contains(value))),
            Property::always("what is decided is chosen", |_, world: &World| {
                world.decided().is_subset(&world.chosen())
            }),
            Property::sometimes("the first wish is chosen", |_, world: &World| world.chosen().contains(&WISHES[0])),
            Property::sometimes("the second wish is chosen", |_, world: &World| world.chosen().contains(&WISHES[1])),
            Property::sometimes("a proposer learns of the other's wish", |_, world: &World| {
                world.proposers[1].chosen() == Some(&WISHES[0])
            }),
        ]
    }
}

/// Explores everything; every state must keep the rules, and the good things must be possible.
fn explore(name: &str, group: Group) {
    let checker = group.checker().threads(2).spawn_bfs().join();
    println!("{name}: {} states, {} distinct", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000, "a model in which little happens");
}

/// True if some interleaving breaks agreement.
fn breaks_agreement(group: Group) -> bool {
    let checker =
        group.checker().threads(2).finish_when(HasDiscoveries::AnyOf(["agreement"].into())).spawn_bfs().join();
    let found = checker.discovery("agreement");
    if let Some(path) = &found {
        println!(
            "agreement is broken after {} steps, {} states",
            path.clone().into_actions().len(),
            checker.state_count()
        );
    }
    found.is_some()
}

#[test]
fn two_proposers_over_a_bad_network() {
    explore("one attempt each", Group { attempts: [1, 1], ..Group::default() });
}

#[test]
fn acceptors_that_crash() {
    explore("crashes", Group { attempts: [1, 1], crashes: Some(1), ..Group::default() });
}

#[test]
#[ignore = "takes minutes without optimisation: `cargo xtask test models` runs it"]
fn a_proposer_that_tries_again() {
    explore("a second attempt", Group { attempts: [2, 1], ..Group::default() });
}

#[test]
fn an_acceptor_that_accepts_below_its_promise_is_found() {
    assert!(breaks_agreement(Group { attempts: [1, 1], mutant: Some(Mutant::AcceptBelowPromise), ..Group::default() }));
}

#[test]
fn a_proposer_that_ignores_what_was_accepted_is_found() {
    assert!(breaks_agreement(Group { attempts: [1, 1], mutant: Some(Mutant::ValueChoiceIgnored), ..Group::default() }));
}

#[test]
fn an_acceptor_that_answers_before_its_sync_is_found() {
    let group = Group { attempts: [1, 1], crashes: Some(1), answers_before_sync: true, ..Group::default() };
    assert!(breaks_agreement(group));
}
