//! What all requests of a node share, and what a handler may ask for.
//!
//! A handler holds a [`Node`] and calls it: [`Node::propose`] and [`Node::read`] put their output out at once and give
//! back an [`Answer`] to be awaited, so what is asked in a row is asked at the same time. [`Node::watch`] waits for a
//! group to move, [`Node::sleep`] for a moment.
//!
//! HAZARD: the lock of [`Node::state`] must not be held across an await. The compiler sees to it: tasks are `Send`.
//!
//! Deliberately absent: requests. What a handler does stands with the handler.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Consistency, Failure, FileRange, GroupRole, Pieces, SessionOutput};
use verity_types::{ConnId, GroupId, Mono, Nanos, Token};

use super::budget::Budget;
use super::config::{Config, RequestKind};
use super::connection::Connection;
use super::dead_letters::Burials;
use super::fetch_sessions::FetchSessions;
use super::markers::Markers;
use super::quotas::Quotas;
use super::share_sessions::ShareSessions;
use super::task::{Task, lock};
use super::telemetry::Telemetry;
use super::tickets::Tickets;
use crate::machine::cluster::{ClusterImage, NO_LEADER, Partition};
use crate::wire::{ApiKey, ErrorCode, Rules, Uuid};

/// Timers fire up to this much late, so that thousands of requests share their wakes.
const TIMER_GRAIN: Nanos = Nanos::from_millis(1);

/// An answer's bytes, and what of a file belongs to it.
pub(super) type Placed = (Bytes, Option<FileRange>);

/// A question under way.
#[derive(Default)]
struct Question {
    answer: Option<Result<Placed, Failure>>,
    waker: Option<Waker>,
}

/// Somebody who waits for groups to move.
#[derive(Default)]
struct Watcher {
    moved: bool,
    groups: Vec<GroupId>,
    waker: Option<Waker>,
}

/// What the requests of a node share.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) now: Now,
    /// The cluster's metadata, once they were read.
    pub(super) image: ClusterImage,
    pub(super) image_known: bool,
    /// The version of the metadata as of which topics and partitions last changed, or a later one.
    pub(super) topics_version: u64,
    /// How this node stands to each group that it hosts.
    pub(super) roles: BTreeMap<GroupId, GroupRole>,
    pub(super) connections: BTreeMap<ConnId, Connection>,
    pub(super) out: Vec<SessionOutput>,
    /// Tasks to be taken in.
    pub(super) spawned: Vec<Task>,
    /// Connections whose requests have just been answered.
    pub(super) answered: BTreeSet<ConnId>,
    /// How much is under way.
    pub(super) budget: Budget,
    /// Joins and syncs that wait for their rebalance.
    pub(super) tickets: Tickets,
    /// Markers that this node writes.
    pub(super) markers: Markers,
    /// What topics ask of batches, as of the image's version.
    pub(super) rules: BTreeMap<Uuid, Rules>,
    pub(super) fetch_sessions: FetchSessions,
    pub(super) share_sessions: ShareSessions,
    /// Dead records that this node writes.
    pub(super) burials: Burials,
    /// What clients did, as far as quotas count it.
    pub(super) quotas: Quotas,
    /// What clients said about themselves.
    pub(super) telemetry: Telemetry,
    questions: BTreeMap<Token, Question>,
    next_token: u64,
    timers: BTreeMap<(Mono, u64), Waker>,
    next_timer: u64,
    /// The earliest wake that was asked for.
    wake_at: Option<Mono>,
    watchers: BTreeMap<u64, Watcher>,
    watched: BTreeMap<GroupId, BTreeSet<u64>>,
    next_watcher: u64,
    drawn: u64,
}

/// A handle on the state of this node.
#[derive(Clone)]
pub(super) struct Node(Arc<Mutex<State>>);

impl State {
    /// Tells the meter how many connections there are.
    pub(super) fn count_connections(&self) {
        if let Some(meter) = &self.config.meter {
            meter.connected(self.connections.len());
        }
    }

    /// Tells the meter that a request is done with.
    pub(super) fn count_request(&self, key: ApiKey, came: Mono) {
        if let Some(meter) = &self.config.meter {
            let kind = match key {
                ApiKey::Produce => RequestKind::Produce,
                ApiKey::Fetch => RequestKind::Fetch,
                _ => RequestKind::Other,
            };
            meter.answered(kind, Nanos(self.now.mono.0.saturating_sub(came.0)));
        }
    }

    /// Civil time in milliseconds.
    pub(super) fn wall_ms(&self) -> i64 {
        i64::try_from(self.now.wall_ms().0).unwrap_or(i64::MAX)
    }

    /// Who leads a partition, and since which epoch: as its group says if it is here, as the metadata say otherwise.
    pub(super) fn leader(&self, partition: &Partition) -> (i32, i32) {
        let known = (partition.leader, partition.epoch);
        let Some(role) = self.roles.get(&GroupId(partition.group)) else { return known };
        let epoch = epoch_of(role);
        match role.leader.and_then(|node| i32::try_from(node.0).ok()) {
            Some(leader) if epoch >= partition.epoch => (leader, epoch),
            None if epoch > partition.epoch => (NO_LEADER, epoch),
            _ => known,
        }
    }

    /// This node's own standing, if it hosts the group.
    pub(super) fn role(&self, group: u64) -> Option<GroupRole> {
        self.roles.get(&GroupId(group)).copied()
    }

    /// Sixteen bytes that nobody else draws.
    pub(super) fn draw(&mut self) -> Uuid {
        self.drawn += 1;
        let mut seed = [0; 48];
        seed[..32].copy_from_slice(&self.config.secret);
        seed[32..40].copy_from_slice(&self.config.incarnation.0.to_be_bytes());
        seed[40..].copy_from_slice(&self.drawn.to_be_bytes());
        let mut bytes = xxhash_rust::xxh3::xxh3_128_with_seed(&seed, self.config.node.0).to_be_bytes();
        // Version and variant of a random UUID (RFC 9562 §5.4).
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid(bytes)
    }

    /// An answer has come.
    pub(super) fn on_completed(&mut self, token: Token, result: Result<Placed, Failure>) {
        // Whoever asked may have given up.
        if let Some(question) = self.questions.get_mut(&token) {
            question.answer = Some(result);
            question.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    /// A group moved: it put out an event, its leader changed, or its state was replaced.
    pub(super) fn on_moved(&mut self, group: GroupId) {
        let Some(ids) = self.watched.get(&group) else { return };
        for id in ids {
            if let Some(watcher) = self.watchers.get_mut(id) {
                watcher.moved = true;
                watcher.waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// A moment has come.
    pub(super) fn on_wake(&mut self) {
        if self.wake_at.is_some_and(|at| at <= self.now.mono) {
            self.wake_at = None;
        }
        while let Some(timer) = self.timers.first_entry() {
            if timer.key().0 > self.now.mono {
                break;
            }
            timer.remove().wake();
        }
        self.ask_wake();
    }

    fn ask_wake(&mut self) {
        let Some(((at, _), _)) = self.timers.first_key_value() else { return };
        let at = *at;
        if self.wake_at.is_none_or(|asked| at < asked) {
            self.wake_at = Some(at);
            self.out.push(SessionOutput::Wake(at));
        }
    }

    pub(super) fn invariants(&self) {
        assert!(self.watched.values().flatten().all(|id| self.watchers.contains_key(id)), "who is rung is there");
        assert!(self.timers.is_empty() || self.wake_at.is_some(), "a timer's wake is asked for");
        self.connections.values().for_each(Connection::invariants);
        self.tickets.invariants();
    }
}

/// What stands for a connection among the groups that are watched: it moves when the connection ends.
pub(super) fn ended(conn: ConnId) -> GroupId {
    GroupId(1 << 63 | conn.0)
}

/// A term as clients know it.
pub(super) fn epoch_of(role: &GroupRole) -> i32 {
    i32::try_from(role.term.0).unwrap_or(i32::MAX)
}

impl Node {
    pub(super) fn new(config: Config) -> Self {
        let fetch_sessions = FetchSessions::new(config.secret);
        Self(Arc::new(Mutex::new(State {
            config,
            now: Now::default(),
            image: ClusterImage::default(),
            image_known: false,
            topics_version: 0,
            roles: BTreeMap::new(),
            connections: BTreeMap::new(),
            out: Vec::new(),
            spawned: Vec::new(),
            answered: BTreeSet::new(),
            budget: Budget::default(),
            tickets: Tickets::default(),
            markers: Markers::default(),
            rules: BTreeMap::new(),
            fetch_sessions,
            share_sessions: ShareSessions::default(),
            burials: Burials::default(),
            quotas: Quotas::default(),
            telemetry: Telemetry::default(),
            questions: BTreeMap::new(),
            next_token: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            wake_at: None,
            watchers: BTreeMap::new(),
            watched: BTreeMap::new(),
            next_watcher: 0,
            drawn: 0,
        })))
    }

    /// The shared state.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// The groups of the coordinator and of the metadata.
    pub(super) fn groups(&self) -> (GroupId, GroupId) {
        let state = self.state();
        (state.config.coordinator, state.config.cluster)
    }

    /// Now, on the node's monotonic clock.
    pub(super) fn now(&self) -> Mono {
        self.state().now.mono
    }

    /// The moment so many milliseconds from now; a negative number is none.
    pub(super) fn in_ms(&self, millis: i32) -> Mono {
        self.now() + Nanos::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Runs something beside the caller.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.state().spawned.push(Box::pin(task));
    }

    /// Places a command in a group's order.
    pub(super) fn propose(&self, group: GroupId, command: impl Into<Pieces>) -> Answer {
        let command = command.into();
        self.ask(|token| SessionOutput::Propose { token, group, command })
    }

    /// Asks a group's machine.
    pub(super) fn read(&self, group: GroupId, query: Bytes, consistency: Consistency) -> Answer {
        self.ask(|token| SessionOutput::Read { token, group, query, consistency })
    }

    /// Asks how a group is on this node. The answer is a `GroupFacts`.
    pub(super) fn inspect(&self, group: GroupId) -> Answer {
        self.ask(|token| SessionOutput::Inspect { token, group })
    }

    /// Tells a group's leader's duty something.
    pub(super) fn whisper(&self, group: GroupId, bytes: Bytes) {
        self.state().out.push(SessionOutput::Whisper { group, bytes });
    }

    fn ask(&self, output: impl FnOnce(Token) -> SessionOutput) -> Answer {
        let mut state = self.state();
        state.next_token += 1;
        let token = Token(state.next_token);
        state.questions.insert(token, Question::default());
        state.out.push(output(token));
        Answer { node: self.clone(), token }
    }

    /// Watches groups from here on.
    pub(super) fn watch(&self, groups: impl IntoIterator<Item = GroupId>) -> Watch {
        let mut state = self.state();
        state.next_watcher += 1;
        let id = state.next_watcher;
        let groups: Vec<GroupId> = groups.into_iter().collect();
        for group in &groups {
            state.watched.entry(*group).or_default().insert(id);
        }
        state.watchers.insert(id, Watcher { groups, ..Watcher::default() });
        Watch { node: self.clone(), id }
    }

    /// Waits until a moment has come.
    pub(super) fn sleep(&self, until: Mono) -> Sleep {
        Sleep { node: self.clone(), until, timer: None }
    }

    fn set_timer(&self, until: Mono, waker: &Waker) -> (Mono, u64) {
        let mut state = self.state();
        state.next_timer += 1;
        let grain = TIMER_GRAIN.0;
        let at = Mono(until.0.div_ceil(grain).saturating_mul(grain));
        let key = (at, state.next_timer);
        state.timers.insert(key, waker.clone());
        state.ask_wake();
        key
    }
}

/// Waits for a moment.
pub(super) struct Sleep {
    node: Node,
    until: Mono,
    timer: Option<(Mono, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.node.now() >= self.until {
            return Poll::Ready(());
        }
        let alive = self.timer.is_some_and(|timer| self.node.state().timers.contains_key(&timer));
        if !alive {
            self.timer = Some(self.node.set_timer(self.until, context.waker()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.node.state().timers.remove(&timer);
        }
    }
}

/// Waits for a replica's answer.
pub(super) struct Answer {
    node: Node,
    token: Token,
}

impl Answer {
    /// Waits no longer than until this moment; `None` if nothing came.
    pub(super) async fn by(self, until: Mono) -> Option<Result<Bytes, Failure>> {
        let sleep = self.node.sleep(until);
        either(self, sleep).await
    }

    /// Waits for an answer of which a part may lie in a file.
    pub(super) async fn placed(self) -> Result<Placed, Failure> {
        std::future::poll_fn(|context| self.poll_placed(context)).await
    }

    fn poll_placed(&self, context: &mut Context<'_>) -> Poll<Result<Placed, Failure>> {
        let mut state = self.node.state();
        let question = state.questions.get_mut(&self.token).expect("it is there until this is dropped");
        match question.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                question.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Future for Answer {
    type Output = Result<Bytes, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_placed(context).map_ok(|(bytes, _)| bytes)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.node.state().questions.remove(&self.token);
    }
}

/// Waits for groups to move.
pub(super) struct Watch {
    node: Node,
    id: u64,
}

impl Watch {
    /// Waits until one of them moved since the last call, or a moment has come; true if one moved.
    pub(super) async fn moved(&mut self, until: Mono) -> bool {
        let sleep = self.node.sleep(until);
        let node = self.node.clone();
        let id = self.id;
        let moved = std::future::poll_fn(move |context| {
            let mut state = node.state();
            let watcher = state.watchers.get_mut(&id).expect("it is there until the watch is dropped");
            if std::mem::take(&mut watcher.moved) {
                return Poll::Ready(());
            }
            watcher.waker = Some(context.waker().clone());
            Poll::Pending
        });
        either(moved, sleep).await.is_some()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.node.state();
        let Some(watcher) = state.watchers.remove(&self.id) else { return };
        for group in watcher.groups {
            if let Some(ids) = state.watched.get_mut(&group) {
                ids.remove(&self.id);
                if ids.is_empty() {
                    state.watched.remove(&group);
                }
            }
        }
    }
}

/// What the first brings, unless the second is there before it.
pub(super) async fn either<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> Option<T> {
    let mut first = std::pin::pin!(first);
    let mut second = std::pin::pin!(second);
    std::future::poll_fn(move |context| {
        if let Poll::Ready(value) = first.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        second.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// What a client of a partition is told when the replica has no answer.
pub(super) fn partition_error(failure: Option<Failure>) -> ErrorCode {
    match failure {
        Some(Failure::NoSuchGroup) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        Some(Failure::Unavailable | Failure::Overloaded) | None => ErrorCode::REQUEST_TIMED_OUT,
    }
}

/// What a client of the coordinator is told when the replica has no answer.
pub(super) fn coordinator_error(failure: Option<Failure>) -> ErrorCode {
    match failure {
        Some(Failure::NoSuchGroup) => ErrorCode::NOT_COORDINATOR,
        Some(Failure::Unavailable | Failure::Overloaded) | None => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}
