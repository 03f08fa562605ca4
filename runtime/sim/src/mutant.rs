//! Bugs planted on purpose, each named after what it breaks.
//!
//! A checker that cannot fail is worth nothing: the default swarm must catch every one of them.

use bytes::Bytes;
use verity_contract::{
    Agreement, AgreementStatus, Barrier, BarrierId, Change, Input, Output, Reconfigure, Record, RecordKind, Transfer,
    Witness,
};
use verity_types::{LogIndex, Mono, Nanos, NodeId, WallMs};

use crate::twice::Began;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// Votes and promises are not written to the log.
    VoteNotPersisted,
    /// A leader commits what it has written, whatever the others say.
    CommitWithoutQuorum,
    /// Linearizable reads are answered without asking anyone.
    StaleReadWithoutBarrier,
    /// Who believes to lead answers barriers without asking whether others still follow.
    BarrierAnsweredByOldLeader,
    /// An engine counts its leases on a clock that runs by far more than the bound too fast or too slow.
    LeaseIgnoresDrift,
    /// The log's records are acknowledged before they are synced.
    AckBeforeSync,
    /// Messages that rest on a record leave before it is synced.
    MessageBeforeSync,
    /// A snapshot that a peer sent is acknowledged before it is synced.
    SnapshotBeforeSync,
    /// A snapshot leaves the sessions out.
    SnapshotMissingSession,
    /// A snapshot leaves out which commands were applied.
    SnapshotWithoutLanes,
    /// A command that is sent again to a new leader is applied again.
    LaneAppliesTwice,
    /// A watch event is sent after the reply of the operation that caused it.
    WatchAfterReply,
    /// Ephemeral nodes outlive their session.
    EphemeralSurvivesSession,
    /// A Paxos acceptor accepts ballots below its promise.
    AcceptBelowPromise,
    /// A Paxos proposer ignores the values that its promises carry.
    ValueChoiceIgnored,
    /// A Paxos leader changes members without a majority of those that come.
    ChangeCountsOneMajority,
    /// A partition takes a transactional batch although a transaction ended since the coordinator was asked: it joins the
    /// next one, or one that nobody will end.
    AppendIgnoresGuard,
    /// A partition takes a marker that comes late for one about the transaction that is open now.
    MarkerHitsNextTransaction,
    /// Who reads committed records alone is shown what lies behind the last stable offset.
    FetchIgnoresLastStable,
    /// Who reads committed records alone is not told which of them were aborted.
    FetchOmitsAborted,
    /// A partition forgets which batches a producer has sent.
    ProducerForgotten,
    /// The coordinator takes a transaction for ended once the first of its partitions has its marker.
    MarkersTakenForWritten,
    /// The coordinator lets a member of an earlier generation commit.
    CommitIgnoresGeneration,
    /// The coordinator forgets some commits that it acknowledged.
    CommitForgotten,
    /// The coordinator gives every member of a generation what the first of them is to have.
    AssignmentShared,
    /// The coordinator gives a partition away before its owner has let it go (KIP-848).
    RevocationNotAwaited,
    /// The coordinator takes records for released that a share group's member has accepted (KIP-932).
    AcceptedRecordAgain,
    /// The coordinator forgets who has acquired a record.
    RecordAcquiredTwice,
    /// The coordinator takes records that a share group was not given for such as it is not to see.
    RecordArchivedUnseen,
    /// The coordinator gives a record to members of a share group again and again.
    DeliveryLimitIgnored,
    /// Compaction removes the last record of a key.
    CompactionDropsLatest,
    /// A partition that was restored from a snapshot has forgotten where its log starts.
    LogStartGoesBack,
    /// A ledger leaves the last transaction of a block waiting for another one.
    TransactionStaysWaiting,
    /// A ledger's header says the state before the one that the last block left.
    HeaderSaysOldState,
    /// A chain that undoes a block keeps the coins that it made.
    UndoKeepsOutputs,
    /// A chain that undoes a block does not bring back the coins that it spent.
    UndoForgetsCoins,
    /// A Bitcoin node answers before what it says is on stable storage.
    AnswerBeforeFlush,
    /// A chain never leaves the branch that it is on.
    HeavierBranchIgnored,
    /// The mempool does not take back what undone blocks had.
    RevertedPaymentsForgotten,
    /// A Bitcoin node tells nobody of blocks that it came to by a reorganisation.
    ReorganisationNotTold,
}

impl Mutant {
    /// All of them, with their names.
    pub const ALL: [(Mutant, &'static str); 40] = [
        (Mutant::VoteNotPersisted, "vote-not-persisted"),
        (Mutant::CommitWithoutQuorum, "commit-without-quorum"),
        (Mutant::StaleReadWithoutBarrier, "stale-read-without-barrier"),
        (Mutant::BarrierAnsweredByOldLeader, "barrier-answered-by-old-leader"),
        (Mutant::LeaseIgnoresDrift, "lease-ignores-drift"),
        (Mutant::AckBeforeSync, "ack-before-sync"),
        (Mutant::MessageBeforeSync, "message-before-sync"),
        (Mutant::SnapshotBeforeSync, "snapshot-before-sync"),
        (Mutant::SnapshotMissingSession, "snapshot-missing-session"),
        (Mutant::SnapshotWithoutLanes, "snapshot-without-lanes"),
        (Mutant::LaneAppliesTwice, "lane-applies-twice"),
        (Mutant::WatchAfterReply, "watch-after-reply"),
        (Mutant::EphemeralSurvivesSession, "ephemeral-survives-session"),
        (Mutant::AcceptBelowPromise, "accept-below-promise"),
        (Mutant::ValueChoiceIgnored, "value-choice-ignored"),
        (Mutant::ChangeCountsOneMajority, "change-counts-one-majority"),
        (Mutant::AppendIgnoresGuard, "append-ignores-guard"),
        (Mutant::MarkerHitsNextTransaction, "marker-hits-next-transaction"),
        (Mutant::FetchIgnoresLastStable, "fetch-ignores-last-stable"),
        (Mutant::FetchOmitsAborted, "fetch-omits-aborted"),
        (Mutant::ProducerForgotten, "producer-forgotten"),
        (Mutant::MarkersTakenForWritten, "markers-taken-for-written"),
        (Mutant::CommitIgnoresGeneration, "commit-ignores-generation"),
        (Mutant::CommitForgotten, "commit-forgotten"),
        (Mutant::AssignmentShared, "assignment-shared"),
        (Mutant::RevocationNotAwaited, "revocation-not-awaited"),
        (Mutant::AcceptedRecordAgain, "accepted-record-again"),
        (Mutant::RecordAcquiredTwice, "record-acquired-twice"),
        (Mutant::RecordArchivedUnseen, "record-archived-unseen"),
        (Mutant::DeliveryLimitIgnored, "delivery-limit-ignored"),
        (Mutant::CompactionDropsLatest, "compaction-drops-latest"),
        (Mutant::LogStartGoesBack, "log-start-goes-back"),
        (Mutant::TransactionStaysWaiting, "transaction-stays-waiting"),
        (Mutant::HeaderSaysOldState, "header-says-old-state"),
        (Mutant::UndoKeepsOutputs, "undo-keeps-outputs"),
        (Mutant::UndoForgetsCoins, "undo-forgets-coins"),
        (Mutant::AnswerBeforeFlush, "answer-before-flush"),
        (Mutant::HeavierBranchIgnored, "heavier-branch-ignored"),
        (Mutant::RevertedPaymentsForgotten, "reverted-payments-forgotten"),
        (Mutant::ReorganisationNotTold, "reorganisation-not-told"),
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

/// A clock that runs wild runs at most so many times, in parts per million, too fast or too slow.
const PACE_WILD_PPM: u64 = 8_000_000;

/// Takes the vote out of an engine's own `State` record.
pub type Forget = fn(&mut Record);

/// Plants [`Mutant::VoteNotPersisted`] in an engine that does not bring it along.
#[must_use]
pub fn forget_votes(engine: Box<dyn Agreement>, forget: Forget) -> Box<dyn Agreement> {
    Box::new(Mutated { forget, ..Mutated::new(engine, Mutant::VoteNotPersisted) })
}

/// Plants a mutant that sits between any engine and its driver; others pass the engine through. `seed` is
/// the engine's own; see [`mutate_machine`] for `began`.
///
/// [`mutate_machine`]: crate::mutate_machine
#[must_use]
pub fn mutate(engine: Box<dyn Agreement>, mutant: Option<Mutant>, seed: u64, began: &Began) -> Box<dyn Agreement> {
    match mutant {
        Some(
            mutant @ (Mutant::StaleReadWithoutBarrier
            | Mutant::BarrierAnsweredByOldLeader
            | Mutant::MessageBeforeSync
            | Mutant::LeaseIgnoresDrift
            | Mutant::LaneAppliesTwice),
        ) => {
            let pace_ppm = 1_000_000 + seed % (PACE_WILD_PPM - 1_000_000);
            let pace_ppm = if seed.is_multiple_of(2) { pace_ppm } else { 1_000_000_000_000 / pace_ppm };
            Box::new(Mutated { began: began.clone(), pace_ppm, ..Mutated::new(engine, mutant) })
        }
        _ => engine,
    }
}

struct Mutated {
    inner: Box<dyn Agreement>,
    mutant: Mutant,
    forget: Forget,
    applied: LogIndex,
    began: Began,
    term: u64,
    pace_ppm: u64,
    /// When the engine's clock was last right.
    right_at: Option<Mono>,
}

impl Mutated {
    fn new(inner: Box<dyn Agreement>, mutant: Mutant) -> Self {
        Self {
            inner,
            mutant,
            forget: |_| {},
            applied: LogIndex(0),
            began: Began::default(),
            term: 0,
            pace_ppm: 1_000_000,
            right_at: None,
        }
    }
}

impl Mutated {
    /// What the engine takes for the time.
    fn clock(&mut self, now: Mono) -> Mono {
        let right_at = *self.right_at.get_or_insert(now);
        if self.mutant != Mutant::LeaseIgnoresDrift {
            return now;
        }
        Mono(right_at.0 + now.since(right_at).0 * self.pace_ppm / 1_000_000)
    }
}

impl Agreement for Mutated {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        if let Input::Applied(index) = input {
            self.applied = index;
        }
        let from = out.len();
        let now = self.clock(now);
        self.inner.on(now, input, out);
        for output in &mut out[from..] {
            match output {
                Output::Persist { records, .. } if self.mutant == Mutant::VoteNotPersisted => {
                    records.iter_mut().filter(|record| record.kind == RecordKind::State).for_each(self.forget);
                }
                Output::Commit(entries) => entries.iter().for_each(|entry| self.began.note(&mut self.term, entry)),
                Output::Send { after, .. } if self.mutant == Mutant::MessageBeforeSync => *after = None,
                _ => {}
            }
        }
    }

    fn set_wall(&mut self, now: Mono, wall: WallMs) {
        let now = self.clock(now);
        self.inner.set_wall(now, wall);
    }

    fn snapshot_context(&self, index: LogIndex) -> Option<Bytes> {
        self.inner.snapshot_context(index)
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
        let answers = match self.mutant {
            Mutant::StaleReadWithoutBarrier | Mutant::LeaseIgnoresDrift => true,
            Mutant::BarrierAnsweredByOldLeader => self.inner.status().leads,
            _ => false,
        };
        if answers { Some(self) } else { self.inner.barrier() }
    }

    fn witness(&self) -> Option<&dyn Witness> {
        self.inner.witness()
    }

    fn reconfigure(&mut self) -> Option<&mut dyn Reconfigure> {
        if self.inner.reconfigure().is_some() { Some(self) } else { None }
    }

    fn transfer(&mut self) -> Option<&mut dyn Transfer> {
        if self.inner.transfer().is_some() { Some(self) } else { None }
    }
}

impl Barrier for Mutated {
    fn on_barrier(&mut self, now: Mono, id: BarrierId, out: &mut Vec<Output>) {
        if self.mutant == Mutant::LeaseIgnoresDrift {
            let now = self.clock(now);
            return self.inner.barrier().expect("the simulator runs engines that read").on_barrier(now, id, out);
        }
        out.push(Output::ReadReady { id, index: self.applied });
    }
}

impl Reconfigure for Mutated {
    fn on_reconfigure(&mut self, now: Mono, change: Change, out: &mut Vec<Output>) -> Result<(), String> {
        let now = self.clock(now);
        let inner = self.inner.reconfigure().expect("the simulator runs engines whose members change");
        inner.on_reconfigure(now, change, out)
    }
}

impl Transfer for Mutated {
    fn on_transfer(&mut self, now: Mono, to: NodeId, out: &mut Vec<Output>) {
        let now = self.clock(now);
        self.inner.transfer().expect("the simulator runs engines that hand over").on_transfer(now, to, out);
    }
}
