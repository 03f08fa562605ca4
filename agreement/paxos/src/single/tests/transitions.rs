//! One test for each arrow of both state machines.

use super::super::{Acceptor, AcceptorId, AcceptorState, Event, Message, Number, Proposer, ProposerState};

type Said = Message<&'static str>;

fn proposer() -> Proposer<&'static str> {
    Proposer::new(1, 4, (1..=3).map(AcceptorId))
}

fn tell(proposer: &mut Proposer<&'static str>, from: u64, said: Said) -> Vec<(AcceptorId, Said)> {
    let out = proposer.on(Event::From(AcceptorId(from), said));
    proposer.invariants();
    out
}

/// A proposer that waits for promises of its first number.
fn waiting() -> (Proposer<&'static str>, Number) {
    let mut p = proposer();
    p.on(Event::Propose("wish"));
    p.on(Event::Sent);
    let n = p.number();
    (p, n)
}

/// A proposer that waits for acceptances of its first number.
fn accepting() -> (Proposer<&'static str>, Number) {
    let (mut p, n) = waiting();
    tell(&mut p, 1, Message::Promise(n, None));
    assert_eq!(tell(&mut p, 2, Message::Promise(n, None)).len(), 3);
    p.on(Event::Sent);
    (p, n)
}

#[test]
fn idle_to_preparing_upon_propose() {
    let mut p = proposer();
    assert_eq!(p.state(), ProposerState::Idle);
    let out = p.on(Event::Propose("wish"));
    assert_eq!(p.state(), ProposerState::Preparing);
    assert!(out.len() == 3 && out.iter().all(|(_, m)| *m == Message::Prepare(p.number())));
}

#[test]
fn preparing_to_waiting_promises_once_sent() {
    let mut p = proposer();
    p.on(Event::Propose("wish"));
    let n = p.number();
    tell(&mut p, 1, Message::Promise(n, None));
    assert_eq!(p.state(), ProposerState::Preparing, "nothing can answer what has not left");
    p.on(Event::Sent);
    assert_eq!(p.state(), ProposerState::WaitingPromises);
}

#[test]
fn waiting_promises_to_accepting_upon_a_majority() {
    let (mut p, n) = waiting();
    assert!(tell(&mut p, 1, Message::Promise(n, Some((Number(2), "old")))).is_empty());
    assert!(tell(&mut p, 1, Message::Promise(n, Some((Number(2), "old")))).is_empty(), "a double counts once");
    assert!(tell(&mut p, 2, Message::Promise(Number(n.0 + 4), None)).is_empty(), "another number does not count");
    assert!(tell(&mut p, 9, Message::Promise(n, None)).is_empty(), "a stranger does not count");
    let out = tell(&mut p, 2, Message::Promise(n, Some((Number(3), "newer"))));
    assert_eq!(p.state(), ProposerState::Accepting);
    assert!(out.len() == 3 && out.iter().all(|(_, m)| *m == Message::Accept(n, "newer")), "{out:?}");
}

#[test]
fn waiting_promises_to_failed_without_a_majority() {
    let (mut p, n) = waiting();
    tell(&mut p, 1, Message::Reject(n, Number(40)));
    assert_eq!(p.state(), ProposerState::WaitingPromises, "two can still promise");
    tell(&mut p, 2, Message::Reject(n, Number(41)));
    assert_eq!(p.state(), ProposerState::Failed);
    let (mut p, _) = waiting();
    p.on(Event::Timeout);
    assert_eq!(p.state(), ProposerState::Failed);
}

#[test]
fn accepting_to_waiting_accepts_once_sent() {
    let (mut p, n) = waiting();
    tell(&mut p, 3, Message::Promise(n, None));
    tell(&mut p, 1, Message::Promise(n, None));
    assert_eq!(p.state(), ProposerState::Accepting);
    p.on(Event::Sent);
    assert_eq!(p.state(), ProposerState::WaitingAccepts);
}

#[test]
fn waiting_accepts_to_success_upon_a_majority() {
    let (mut p, n) = accepting();
    tell(&mut p, 1, Message::Accepted(n));
    tell(&mut p, 1, Message::Accepted(n));
    assert_eq!((p.state(), p.chosen()), (ProposerState::WaitingAccepts, None));
    tell(&mut p, 3, Message::Accepted(n));
    assert_eq!((p.state(), p.chosen()), (ProposerState::Success, Some(&"wish")));
}

#[test]
fn waiting_accepts_to_failed_without_a_majority() {
    let (mut p, n) = accepting();
    tell(&mut p, 1, Message::Reject(n, Number(40)));
    tell(&mut p, 2, Message::Reject(n, Number(40)));
    assert_eq!(p.state(), ProposerState::Failed);
    let (mut p, _) = accepting();
    p.on(Event::Timeout);
    assert_eq!((p.state(), p.chosen()), (ProposerState::Failed, None));
}

#[test]
fn failed_to_idle_upon_retry_and_the_next_number_is_above_what_refused() {
    let (mut p, n) = accepting();
    tell(&mut p, 1, Message::Reject(n, Number(40)));
    tell(&mut p, 2, Message::Reject(n, Number(42)));
    p.on(Event::Retry);
    assert_eq!(p.state(), ProposerState::Idle);
    p.on(Event::Propose("wish"));
    assert!(p.number() > Number(42) && p.number().0 % 4 == 1, "{:?}", p.number());
}

#[test]
fn success_to_idle_once_done() {
    let (mut p, n) = accepting();
    tell(&mut p, 1, Message::Accepted(n));
    tell(&mut p, 2, Message::Accepted(n));
    p.on(Event::Done);
    assert_eq!((p.state(), p.chosen()), (ProposerState::Idle, None));
}

#[test]
fn ready_to_promised_upon_prepare() {
    let mut a = Acceptor::default();
    assert_eq!(a.state(), AcceptorState::Ready);
    assert_eq!(a.on(Message::Prepare(Number(5))), Some(Message::<&str>::Promise(Number(5), None)));
    assert_eq!((a.state(), a.promised()), (AcceptorState::Promised, Some(Number(5))));
    assert_eq!(a.on(Message::Prepare(Number(5))), Some(Message::Reject(Number(5), Number(5))));
    assert_eq!(a.on(Message::Prepare(Number(4))), Some(Message::Reject(Number(4), Number(5))));
    a.invariants();
}

#[test]
fn promised_to_accepted_upon_accept() {
    let mut a = Acceptor::default();
    a.on(Message::Prepare(Number(5)));
    assert_eq!(a.on(Message::Accept(Number(4), "low")), Some(Message::Reject(Number(4), Number(5))));
    assert_eq!(a.state(), AcceptorState::Promised);
    assert_eq!(a.on(Message::Accept(Number(5), "v")), Some(Message::Accepted(Number(5))));
    assert_eq!((a.state(), a.accepted()), (AcceptorState::Accepted, Some(&(Number(5), "v"))));
    let mut missed = Acceptor::default();
    assert_eq!(missed.on(Message::Accept(Number(7), "v")), Some(Message::Accepted(Number(7))));
    assert_eq!(missed.promised(), Some(Number(7)), "to accept is to promise");
}

#[test]
fn accepted_to_promised_upon_a_higher_prepare() {
    let mut a = Acceptor::default();
    a.on(Message::Prepare(Number(5)));
    a.on(Message::Accept(Number(5), "v"));
    assert_eq!(a.on(Message::Prepare(Number(5))), Some(Message::Reject(Number(5), Number(5))));
    assert_eq!(a.state(), AcceptorState::Accepted);
    assert_eq!(a.on(Message::Prepare(Number(6))), Some(Message::Promise(Number(6), Some((Number(5), "v")))));
    assert_eq!(a.state(), AcceptorState::Promised);
    a.invariants();
}
