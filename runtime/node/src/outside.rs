//! The threads on which a node asks outside of itself: one for each channel, so that a slow answer holds up no other.
//!
//! - upon a call: it joins its channel's queue; a service is told at once if that is full, and a machine's always has room,
//!   since it has one call at a time;
//! - upon an answer: it goes to the core by message;
//! - upon a panic, or what stops the node: the node stops and says why.
//!
//! Deliberately absent: what is asked, and whom.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use verity_contract::{Channel, Failure, Outside, SessionInput};
use verity_replica::{Caller, Input};

use crate::storage::FromStorage;
use crate::task::told;

/// So many calls of a channel may wait.
const CALLS_MAX: usize = 1_024;

/// The core's side of the threads. Dropping it ends them.
pub(crate) struct OutsideHandle {
    channels: Vec<SyncSender<(Caller, Bytes)>>,
    answers: UnboundedSender<FromStorage>,
    threads: Vec<JoinHandle<()>>,
    ends: Arc<AtomicBool>,
}

fn answered(caller: Caller, result: Result<Bytes, Failure>) -> Input {
    match caller {
        Caller::Machine(group) => Input::Called(group, result.expect("a machine has one call at a time")),
        Caller::Service(service, token) => Input::Session { service, input: SessionInput::Completed { token, result } },
    }
}

impl OutsideHandle {
    #[expect(clippy::disallowed_methods, reason = "the node's own threads: others' processes block")]
    pub(crate) fn start(outsides: Vec<Box<dyn Outside>>, answers: &UnboundedSender<FromStorage>) -> Self {
        let ends = Arc::<AtomicBool>::default();
        let (mut channels, mut threads) = (Vec::new(), Vec::new());
        for outside in outsides {
            let (calls, queue) = sync_channel(CALLS_MAX);
            let (answers, ends, span) = (answers.clone(), Arc::clone(&ends), tracing::Span::current());
            channels.push(calls);
            threads.push(std::thread::spawn(move || {
                let _span = span.entered();
                run(outside, &queue, &answers, &ends);
            }));
        }
        Self { channels, answers: answers.clone(), threads, ends }
    }

    /// Hands a call to its channel.
    pub(crate) fn call(&self, caller: Caller, Channel(channel): Channel, ask: Bytes) {
        let Some(calls) = self.channels.get(channel) else {
            unreachable!("channel {channel} is asked for, and the node was given {}", self.channels.len())
        };
        // A thread that is gone has said why.
        if let Err(TrySendError::Full(_)) = calls.try_send((caller, ask)) {
            let _ = self.answers.send(FromStorage::Input(answered(caller, Err(Failure::Overloaded))));
        }
    }
}

fn run(
    mut outside: Box<dyn Outside>,
    queue: &Receiver<(Caller, Bytes)>,
    answers: &UnboundedSender<FromStorage>,
    ends: &AtomicBool,
) {
    let goes_on = || !ends.load(Ordering::Relaxed);
    while let Ok((caller, ask)) = queue.recv() {
        let answer = match catch_unwind(AssertUnwindSafe(|| outside.call(ask, &goes_on))) {
            Ok(Ok(Some(answer))) => FromStorage::Input(answered(caller, Ok(answer))),
            Ok(Ok(None)) => return,
            Ok(Err(reason)) => FromStorage::Fatal(reason),
            Err(panic) => FromStorage::Fatal(told(panic.as_ref())),
        };
        let is_last = matches!(answer, FromStorage::Fatal(_));
        if answers.send(answer).is_err() || is_last {
            return;
        }
    }
}

impl Drop for OutsideHandle {
    /// HAZARD: a thread that outlived its node would go on driving an application that the node's next start drives, too.
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.channels.clear();
        for thread in self.threads.drain(..) {
            thread.join().expect("a channel's thread tells of its panic and ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use verity_replica::ServiceId;
    use verity_types::{GroupId, Token};

    use super::*;

    struct Echo;

    impl Outside for Echo {
        fn call(&mut self, ask: Bytes, goes_on: &dyn Fn() -> bool) -> Result<Option<Bytes>, String> {
            match &ask[..] {
                b"wait" => {
                    while goes_on() {
                        std::thread::yield_now();
                    }
                    Ok(None)
                }
                b"stop" => Err("it says something else".to_owned()),
                _ => Ok(Some(ask)),
            }
        }
    }

    #[test]
    fn calls_are_answered_and_nothing_outlives_the_node() {
        let (answers, mut told) = tokio::sync::mpsc::unbounded_channel();
        let outside = OutsideHandle::start(vec![Box::new(Echo), Box::new(Echo), Box::new(Echo)], &answers);
        let service = Caller::Service(ServiceId(0), Token(7));
        outside.call(Caller::Machine(GroupId(4)), Channel::ORDERED, "one".into());
        let FromStorage::Input(Input::Called(group, answer)) = told.blocking_recv().expect("an answer") else {
            panic!("another answer")
        };
        assert_eq!((group, &answer[..]), (GroupId(4), &b"one"[..]));
        outside.call(service, Channel(2), "stop".into());
        let Some(FromStorage::Fatal(reason)) = told.blocking_recv() else { panic!("it goes on") };
        assert_eq!(reason, "it says something else");
        (0..=CALLS_MAX + 1).for_each(|_| outside.call(service, Channel(1), "wait".into()));
        let Some(FromStorage::Input(Input::Session { input, .. })) = told.blocking_recv() else { panic!("no answer") };
        let SessionInput::Completed { result, .. } = input else { panic!("another answer") };
        assert_eq!(result, Err(Failure::Overloaded), "a queue is bounded");
        drop(outside);
    }
}
