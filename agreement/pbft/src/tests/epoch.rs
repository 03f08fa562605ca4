//! Changes of members: what begins one, what makes it believed, and what a replica remembers of it.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_contract::{Agreement, Change, Input, Members, Output, Verdict};
use verity_types::{Digest, LogIndex, NodeId};

use super::rig::{One, config, keys};
use crate::epoch::{Chain, Link, Rules, Wish};
use crate::keys::Sig;
use crate::message::{Batch, Content, Message, Proof, Request, Scope, Stable, parse};
use crate::state::Context;

fn voters(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn wish(epoch: u64, ids: &[u64]) -> Wish {
    Wish { epoch, voters: voters(ids), context: Bytes::from_static(b"c") }
}

fn request(client: u64, seq: u64, endorses: bool, op: Bytes) -> Request {
    let unsigned = Request { client: NodeId(client), incarnation: 1, seq, endorses, op, sig: Sig([0; 64]) };
    Request { sig: keys(client).sign(Scope::default().request(&unsigned)), ..unsigned }
}

fn batch(requests: Vec<Request>) -> Batch {
    Batch { term: 1, time: 0, content: Content::Requests(requests) }
}

fn group(ids: &[u64]) -> Context {
    Context { members: Members::of_voters(voters(ids)), ..Context::default() }
}

/// Each of the requests in a batch of its own, from 1 on; where the epoch then ends.
fn passed(context: &mut Context, requests: &[Request]) -> Option<u64> {
    let rules = Rules::of(&config());
    for (n, request) in (1..).zip(requests) {
        assert!(context.pass(n, &batch(vec![request.clone()]), rules).ended.is_none());
    }
    context.ending.as_ref().map(|ending| ending.at)
}

#[test]
fn a_change_begins_when_f_plus_one_say_the_same_last() {
    let mut seqs = [0; 8];
    let mut says = |client: u64, wish: &Wish| {
        let seq = &mut seqs[usize::try_from(client).expect("few")];
        *seq += 1;
        request(client, *seq, true, wish.encode())
    };
    let (five, six, none) = (wish(0, &[1, 2, 3, 4, 5]), wish(0, &[1, 2, 3, 4, 6]), wish(0, &[1, 2, 3, 4]));
    let later = Wish { epoch: 1, ..five.clone() };
    let other = Wish { context: Bytes::from_static(b"d"), ..five.clone() };
    let all = [
        says(1, &five),
        says(1, &five),
        says(2, &six),
        says(2, &none),
        says(3, &later),
        says(4, &other),
        says(5, &five),
        says(1, &six),
    ];
    let mut context = group(&[1, 2, 3, 4]);
    assert_eq!(
        passed(&mut context, &all),
        None,
        "one word twice, taken back, of another epoch, context, or a stranger's"
    );
    assert_eq!(context.endorsed.keys().copied().collect::<BTreeSet<_>>(), voters(&[1, 4]));
    let operation = request(2, 3, false, six.encode());
    assert_eq!(passed(&mut context, &[operation]), None, "a client's bytes endorse nothing");
    let rules = Rules::of(&config());
    context.pass(17, &batch(vec![request(2, 4, true, six.encode())]), rules);
    let ending = context.ending.clone().expect("two of four say the same");
    assert_eq!((ending.at, ending.wish), (40, six), "the first multiple of 8 that is 17 and 16 or more");
    assert!(context.endorsed.is_empty());
    let last = context.pass(40, &batch(vec![request(4, 2, false, Bytes::from_static(b"op"))]), rules);
    assert_eq!((last.admitted, context.epoch, context.start), (vec![false], 1, 40), "nothing is executed at the end");
    assert_eq!(context.members, Members::of_voters(voters(&[1, 2, 3, 4, 6])));
    assert_eq!(Context::decode(context.encode()), Ok(context));
}

#[test]
fn what_replicas_remember_of_a_change_comes_back_as_it_went() {
    let mut context = group(&[1, 2, 3, 4, 5, 6, 7]);
    let all = [1, 2].map(|id| request(id, 1, true, wish(0, &[1, 2, 3, 4]).encode()));
    assert_eq!(passed(&mut context, &all), None);
    assert_eq!(Context::decode(context.encode()), Ok(context.clone()));
    context.pass(3, &batch(vec![request(3, 1, true, wish(0, &[1, 2, 3, 4]).encode())]), Rules::of(&config()));
    assert!(context.ending.is_some());
    assert_eq!(Context::decode(context.encode()), Ok(context));
    for nonsense in [wish(0, &[]), wish(0, &[0, 1])] {
        assert!(Wish::decode(nonsense.encode()).is_err(), "{nonsense:?}");
    }
    let bytes = wish(7, &[1, 2]).encode();
    assert_eq!(Wish::decode(bytes.clone()), Ok(wish(7, &[1, 2])));
    (0..bytes.len()).for_each(|cut| assert!(Wish::decode(bytes.slice(..cut)).is_err(), "cut at {cut}"));
}

#[test]
fn what_is_signed_as_one_kind_of_request_is_none_of_the_other() {
    let endorsement = request(1, 1, true, wish(0, &[1]).encode());
    let operation = Request { endorses: false, ..endorsement.clone() };
    assert_ne!(Scope::default().request(&endorsement), Scope::default().request(&operation));
}

/// How an epoch of these members ended at `n`, by the word of some, in a context that says so.
fn link(epoch: u64, n: u64, context: &Context, by: &[u64]) -> Link {
    let machine = Digest([7; 32]);
    let digest = context.digest(machine);
    let hash = Scope { epoch, ..Scope::default() }.checkpoint(n, digest);
    let votes = by.iter().map(|id| (NodeId(*id), keys(*id).sign(hash))).collect();
    Link { stable: Stable { n, epoch, digest, votes }, body: context.body(machine), members: context.members.clone() }
}

#[test]
fn only_a_quorum_of_an_epoch_says_who_the_next_members_are() {
    let chain = Chain::from(0, 0, Members::of_voters(voters(&[1, 2, 3, 4])));
    let group_name = Bytes::new();
    let next = Context { epoch: 1, start: 24, ..group(&[1, 2, 3, 5]) };
    let sound = link(0, 24, &next, &[1, 2, 3]);
    assert!(chain.bears_out(&sound, &keys(5), &group_name));
    let others = Members::of_voters(voters(&[5, 6, 7]));
    let wrong = [
        Link { members: others, ..sound.clone() },
        Link { body: Digest([1; 32]), ..sound.clone() },
        link(0, 24, &next, &[1, 2]),
        link(0, 24, &next, &[1, 2, 5]),
        link(1, 24, &next, &[1, 2, 3]),
        Link { stable: Stable { n: 32, ..sound.stable.clone() }, ..sound.clone() },
        link(0, 24, &Context { epoch: 2, ..next.clone() }, &[1, 2, 3]),
    ];
    for (at, link) in wrong.iter().enumerate() {
        assert!(!chain.bears_out(link, &keys(5), &group_name), "wrong link {at}");
    }
    let after = Context { epoch: 2, start: 48, ..group(&[2, 5, 6, 7]) };
    let (mut far, links) = (chain.clone(), vec![sound.clone(), link(1, 48, &after, &[1, 3, 5])]);
    assert!(far.clone().follow(links.clone(), 1, &keys(5), &group_name));
    assert!(far.follow(links, 2, &keys(5), &group_name));
    assert_eq!((far.epoch(), far.start(), &far.members().voters), (2, 48, &voters(&[2, 5, 6, 7])));
    assert_eq!([24, 25, 48, 49].map(|n| far.epoch_of(n)), [0, 1, 1, 2]);
    assert_eq!(far.members_of(1).map(|members| &members.voters), Some(&voters(&[1, 2, 3, 5])));
    let forged = vec![sound, link(1, 48, &after, &[1, 3, 4])];
    assert!(!chain.clone().follow(forged, 2, &keys(5), &group_name), "4 is no member there any more");
}

impl One {
    /// The entries 1 to `count` of epoch 0: 3 and 4 endorse a fifth member first.
    fn follow(&mut self, count: u64) {
        let scope = Scope::default();
        let entry = |n: u64| {
            let requests = match n {
                1 | 2 => vec![request(n + 2, 1, true, wish(0, &[1, 2, 3, 4, 5]).encode())],
                _ => Vec::new(),
            };
            let batch = batch(requests);
            let hash = scope.commit(0, n, scope.batch(&batch));
            (batch, Proof { view: 0, votes: [1, 3, 4].map(|id| (NodeId(id), keys(id).sign(hash))).into() })
        };
        let message = Message::Entries { first: 1, entries: (1..=count).map(entry).collect() };
        self.hear(3, 0, &message);
        self.sync();
        for index in (8..=count).step_by(8).map(LogIndex) {
            self.input(Input::Checkpointed { index, digest: Digest([7; 32]) });
        }
    }

    /// The others say the same of the state at `n`.
    fn stabilise(&mut self, n: u64) {
        let digest = self.pbft.checkpoints.own(n).expect("it was there");
        for id in [3, 4] {
            let sig = keys(id).sign(Scope::default().checkpoint(n, digest));
            self.hear(id, 0, &Message::Checkpoint { n, digest, sig });
        }
    }

    /// What the primary of view 0 assigns in this epoch; how many prepares that leads to.
    fn votes_for(&mut self, epoch: u64, n: u64) -> usize {
        let scope = Scope { epoch, ..Scope::default() };
        let batch = Batch { term: (epoch << 40) + 1, ..batch(Vec::new()) };
        let sig = keys(1).sign(scope.pre_prepare(0, n, scope.batch(&batch)));
        let mut out = self.hear(1, epoch, &Message::PrePrepare { view: 0, n, batch, sig });
        out.extend(self.input(Input::Verdict { index: LogIndex(n), verdict: Verdict::Accept }));
        let is_prepare = |output: &&Output| match output {
            Output::Send { bytes, .. } => matches!(parse(bytes.clone()), Ok((_, Message::Prepare { .. }))),
            _ => false,
        };
        out.iter().filter(is_prepare).count()
    }
}

#[test]
fn nobody_who_executed_a_change_votes_behind_its_end_in_this_life_or_the_next() {
    let mut one = One::start(2, Vec::new());
    one.follow(17);
    one.stabilise(16);
    assert_eq!(one.pbft.end(), Some(24), "the change is at 2, and 2 and 16 is 18");
    assert!(one.votes_for(0, 24) > 0);
    assert_eq!(one.votes_for(0, 25), 0);
    let mut again = one.restart();
    assert_eq!(again.pbft.end(), Some(24), "before anything is executed again");
    assert_eq!(again.votes_for(0, 25), 0);
}

#[test]
fn an_epoch_begins_once_its_first_state_is_stable_and_votes_of_the_last_one_are_none() {
    let mut one = One::start(2, Vec::new());
    one.follow(24);
    assert_eq!((one.pbft.status().members.voters.len(), one.pbft.scope.epoch), (5, 0), "executed, not yet stable");
    let term = one.pbft.status().term;
    // A vote of the next epoch may come sooner than the proof; it is kept.
    assert_eq!(one.votes_for(1, 25), 0);
    one.stabilise(24);
    assert_eq!((one.pbft.scope.epoch, one.pbft.view, one.pbft.low()), (1, 0, 24));
    assert!(one.pbft.status().term > term);
    assert!(one.pbft.slots[&25].accepted.is_some());
    assert!(one.pbft.votes() && one.votes_for(0, 26) == 0 && one.votes_for(1, 26) > 0);
    one.sync();
    let again = one.restart();
    assert_eq!((again.pbft.scope.epoch, again.pbft.quorum.size, again.pbft.votes()), (1, 4, true));
    assert!(again.pbft.slots[&26].accepted.is_some(), "a vote of this epoch is found again");
}

#[test]
fn a_vote_of_an_epoch_that_is_over_is_not_found_again() {
    let mut one = One::start(2, Vec::new());
    one.follow(1);
    // It knows of no change, and somebody proves a checkpoint that it did not come to.
    let mut context = one.pbft.context.clone();
    let rules = Rules::of(&config());
    context.pass(2, &batch(vec![request(4, 1, true, wish(0, &[1, 2, 3, 4, 5]).encode())]), rules);
    (3..=24).for_each(|n| drop(context.pass(n, &batch(Vec::new()), rules)));
    let link = link(0, 24, &context, &[1, 3, 4]);
    one.hear(3, 0, &Message::Link(link));
    assert_eq!(one.pbft.low(), 24);
    assert!(one.votes_for(0, 25) > 0, "it cannot know, and what it says is no part of any quorum");
    one.follow(24);
    assert_eq!((one.pbft.scope.epoch, one.pbft.slots.len()), (1, 0));
    one.sync();
    let again = one.restart();
    assert_eq!((again.pbft.scope.epoch, again.pbft.slots.len()), (1, 1));
    assert!(again.pbft.slots[&25].accepted.is_none() && again.pbft.slots[&25].prepared.is_none());
}

#[test]
fn a_change_that_cannot_be_is_refused_in_one_line() {
    let mut one = One::start(2, Vec::new());
    let mut asks = |ids: &[u64], learners: &[u64]| {
        let change = Change { voters: voters(ids), learners: voters(learners), context: Bytes::new() };
        let (mut out, now) = (Vec::new(), one.now);
        let result = one.pbft.reconfigure().expect("it changes members").on_reconfigure(now, change, &mut out);
        (result, out.iter().filter(|output| matches!(output, Output::Send { .. })).count())
    };
    for (ids, learners) in [(&[][..], &[][..]), (&[0, 1], &[]), (&[1, 2, 3, 9], &[]), (&[1, 2, 3], &[4])] {
        assert!(asks(ids, learners).0.is_err_and(|why| !why.contains('\n')), "{ids:?} {learners:?}");
    }
    assert_eq!(asks(&[1, 2, 3, 4], &[]), (Ok(()), 0), "the members in force are nothing to ask for");
    assert_eq!(asks(&[1, 2, 3, 5], &[]), (Ok(()), 1));
    assert_eq!(asks(&[1, 2, 3, 5], &[]), (Ok(()), 0), "asked for twice is asked for once");
    assert_eq!(asks(&[1, 2, 3, 4], &[]), (Ok(()), 1), "it is taken back");
}
