//! Bugs planted on purpose, each named after what it breaks.
//!
//! A checker that cannot fail is worth nothing: the default swarm must catch every one of them.

use verity_contract::{
    Agreement, AgreementStatus, Barrier, BarrierId, Input, Output, Reconfigure, RecordKind, Transfer,
};
use verity_types::{LogIndex, Mono, Nanos};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// Votes and promises are not written to the log.
    VoteNotPersisted,
    /// A leader commits what it has written, whatever the others say.
    CommitWithoutQuorum,
    /// Linearizable reads are answered without asking anyone.
    StaleReadWithoutBarrier,
    /// The log's records are acknowledged before they are synced.
    AckBeforeSync,
    /// A snapshot leaves the sessions out.
    SnapshotMissingSession,
    /// A watch event is sent after the reply of the operation that caused it.
    WatchAfterReply,
    /// Ephemeral nodes outlive their session.
    EphemeralSurvivesSession,
    /// A Paxos acceptor accepts ballots below its promise.
    AcceptBelowPromise,
    /// A Paxos proposer ignores the values that its promises carry.
    ValueChoiceIgnored,
}

impl Mutant {
    /// All of them, with their names.
    pub const ALL: [(Mutant, &'static str); 9] = [
        (Mutant::VoteNotPersisted, "vote-not-persisted"),
        (Mutant::CommitWithoutQuorum, "commit-without-quorum"),
        (Mutant::StaleReadWithoutBarrier, "stale-read-without-barrier"),
        (Mutant::AckBeforeSync, "ack-before-sync"),
        (Mutant::SnapshotMissingSession, "snapshot-missing-session"),
        (Mutant::WatchAfterReply, "watch-after-reply"),
        (Mutant::EphemeralSurvivesSession, "ephemeral-survives-session"),
        (Mutant::AcceptBelowPromise, "accept-below-promise"),
        (Mutant::ValueChoiceIgnored, "value-choice-ignored"),
    ];

    /// The mutant of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(mutant, _)| *mutant)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(mutant, _)| *mutant == self).map_or("", |(_, name)| name)
    }
}

/// Plants a mutant that sits between an engine and its driver; others pass the engine through.
#[must_use]
pub fn mutate(engine: Box<dyn Agreement>, mutant: Option<Mutant>) -> Box<dyn Agreement> {
    match mutant {
        Some(mutant @ (Mutant::VoteNotPersisted | Mutant::StaleReadWithoutBarrier)) => {
            Box::new(Mutated { inner: engine, mutant, applied: LogIndex(0) })
        }
        _ => engine,
    }
}

struct Mutated {
    inner: Box<dyn Agreement>,
    mutant: Mutant,
    applied: LogIndex,
}

impl Agreement for Mutated {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        if let Input::Applied(index) = input {
            self.applied = index;
        }
        let from = out.len();
        self.inner.on(now, input, out);
        if self.mutant == Mutant::VoteNotPersisted {
            for output in &mut out[from..] {
                if let Output::Persist { records, .. } = output {
                    records.retain(|record| record.kind != RecordKind::State);
                }
            }
        }
    }

    fn tick_interval(&self) -> Nanos {
        self.inner.tick_interval()
    }

    fn status(&self) -> AgreementStatus {
        self.inner.status()
    }

    fn invariants(&self) {
        self.inner.invariants();
    }

    fn barrier(&mut self) -> Option<&mut dyn Barrier> {
        if self.mutant == Mutant::StaleReadWithoutBarrier { Some(self) } else { self.inner.barrier() }
    }

    fn reconfigure(&mut self) -> Option<&mut dyn Reconfigure> {
        self.inner.reconfigure()
    }

    fn transfer(&mut self) -> Option<&mut dyn Transfer> {
        self.inner.transfer()
    }
}

impl Barrier for Mutated {
    fn on_barrier(&mut self, _now: Mono, id: BarrierId, out: &mut Vec<Output>) {
        out.push(Output::ReadReady { id, index: self.applied });
    }
}
