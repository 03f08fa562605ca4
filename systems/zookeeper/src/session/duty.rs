//! What the leader watches over: sessions, containers, nodes with a time to live, the tree's configuration, the ensemble.
//!
//! - upon leading: every session gets its full timeout anew, since nobody knows when it was last heard;
//! - upon a whisper, an opening, a move: the session lives for another timeout;
//! - upon the end of a tick: sessions whose time is over are closed through the order. One that was not closed by the
//!   end of the next is proposed again;
//! - upon a reconfig: the group is asked to have the wished members; what cannot be done is said so through the order;
//! - upon a node that wants to join: it is wished for as what it asks to be, unless it is a member or another change is
//!   under way;
//! - every check interval: nodes that are due go, so many a minute. The tree checks each again when its turn comes.
//!
//! A session therefore lives between its timeout and one tick more after it was last heard of.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Change, Duty, DutyInput, DutyOutput, ReadOutcome, StateMachine};
use verity_types::{Mono, Nanos, NodeId};

use super::config::DutyConfig;
use super::whisper::{self, Whisper};
use crate::machine::{
    self, DUE_COUNT_MAX, DueQuery, Ensemble, Reply, SESSION_COUNT_MAX, SessionRow, SessionsQuery, TreeEvent,
    TreeStatus, internal,
};
use crate::wire::{Decode as _, Encode as _, ErrorCode, GetDataResponse, OpCode, PathWatch, ReconfigRequest};

#[derive(Clone, Copy, Debug)]
struct Watched {
    timeout_ms: i32,
    /// The end of this tick.
    until: u64,
}

/// Leader-only work of the tree's group.
#[derive(Debug)]
pub struct ZooKeeperDuty {
    config: DutyConfig,
    leads: bool,
    sessions: BTreeMap<i64, Watched>,
    /// The same by the tick at whose end they expire.
    by_tick: BTreeMap<u64, BTreeSet<i64>>,
    next_check: Mono,
    /// The reconfig that the group was asked for.
    wish: Option<i64>,
    wake_at: Option<Mono>,
}

impl ZooKeeperDuty {
    /// A duty that waits to lead.
    #[must_use]
    pub fn new(config: DutyConfig) -> Self {
        Self {
            config,
            leads: false,
            sessions: BTreeMap::new(),
            by_tick: BTreeMap::new(),
            next_check: Mono(0),
            wish: None,
            wake_at: None,
        }
    }

    /// How many sessions it watches over.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    fn tick(&self) -> u64 {
        Nanos::from_millis(u64::from(self.config.tick_ms.max(1))).0
    }

    /// The tick in which a session heard of now ends.
    fn last_tick(&self, now: Now, timeout_ms: i32) -> u64 {
        let timeout = Nanos::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        (now.mono + timeout).0.div_ceil(self.tick())
    }

    fn watch(&mut self, now: Now, session: i64, timeout_ms: i32) {
        self.forget(session);
        let until = self.last_tick(now, timeout_ms);
        self.sessions.insert(session, Watched { timeout_ms, until });
        self.by_tick.entry(until).or_default().insert(session);
    }

    fn touch(&mut self, now: Now, session: i64) {
        if let Some(watched) = self.sessions.get(&session).copied()
            && self.last_tick(now, watched.timeout_ms) != watched.until
        {
            self.watch(now, session, watched.timeout_ms);
        }
    }

    fn forget(&mut self, session: i64) {
        let Some(watched) = self.sessions.remove(&session) else { return };
        let tick = self.by_tick.get_mut(&watched.until).expect("both tables agree");
        tick.remove(&session);
        if tick.is_empty() {
            self.by_tick.remove(&watched.until);
        }
    }

    fn lead(&mut self, now: Now, tree: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        self.follow();
        self.leads = true;
        let count_max = i32::try_from(SESSION_COUNT_MAX).unwrap_or(i32::MAX);
        let mut after = i64::MIN;
        loop {
            let body = read(tree, internal::SESSIONS, &SessionsQuery { after, count_max });
            let rows = Vec::<SessionRow>::from_bytes(&body).expect("the tree answers whole records");
            rows.iter().for_each(|row| self.watch(now, row.session, row.timeout_ms));
            match rows.last() {
                Some(row) if rows.len() == SESSION_COUNT_MAX => after = row.session,
                _ => break,
            }
        }
        self.next_check = now.mono + Nanos::from_millis(u64::from(self.config.container_check_ms));
        self.configure(tree, out);
        let body = read(tree, internal::WISH, &0i32);
        if let Some(text) = Option::<&[u8]>::from_bytes(&body).expect("a whole record") {
            self.wish(text, out);
        }
    }

    /// Proposes what the configuration says and the tree does not.
    fn configure(&self, tree: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        let status = TreeStatus::from_bytes(&read(tree, internal::STATUS, &0i32)).expect("a whole record");
        if status.config.to_bytes() != self.config.tree.to_bytes() {
            out.push(DutyOutput::Propose(machine::configure(&self.config.tree)));
        }
        if !self.config.config_text.is_empty() {
            let node = PathWatch { path: "/zookeeper/config", watch: false };
            let body = read(tree, OpCode::GetData.number(), &node);
            let data = GetDataResponse::from_bytes(&body).expect("everybody may read it").data;
            if data.is_none_or(<[u8]>::is_empty) {
                out.push(DutyOutput::Propose(machine::config_text(&self.config.config_text)));
            }
        }
    }

    /// Asks the group for the members of a wish.
    fn wish(&mut self, text: &[u8], out: &mut Vec<DutyOutput>) {
        let ensemble = std::str::from_utf8(text).ok().and_then(Ensemble::parse).expect("the tree wrote it");
        let members = ensemble.members();
        self.wish = Some(ensemble.version);
        let context = Bytes::copy_from_slice(text);
        let change = Change { voters: members.voters, learners: members.learners, context };
        out.push(DutyOutput::Reconfigure { change, addresses: ensemble.addresses() });
    }

    /// What the group said to a wish. One that came true needs no word: the tree has seen it.
    fn on_reconfigured(&mut self, result: Result<(), String>, out: &mut Vec<DutyOutput>) {
        if let (Some(version), Err(_)) = (self.wish.take(), result) {
            out.push(DutyOutput::Propose(machine::end_reconfig(version, ErrorCode::NewConfigNoQuorum)));
        }
    }

    /// A node asks to be a member. Who may speak to this node at all may join: its certificate says so.
    fn on_join(&mut self, from: NodeId, line: &str, out: &mut Vec<DutyOutput>) {
        let own = Ensemble::parse(line).is_some_and(|one| one.servers.len() == 1 && one.servers.contains_key(&from));
        if self.leads && self.wish.is_none() && own {
            let request = ReconfigRequest { joining: line, leaving: "", members: "", config: -1 };
            out.push(DutyOutput::Propose(machine::reconfig(&request)));
        }
    }

    fn follow(&mut self) {
        self.leads = false;
        self.wish = None;
        self.sessions.clear();
        self.by_tick.clear();
    }

    /// Closes the sessions whose time is over.
    fn expire(&mut self, now: Now, out: &mut Vec<DutyOutput>) {
        let ended = now.mono.0 / self.tick();
        let alive = self.by_tick.split_off(&(ended + 1));
        let over = std::mem::replace(&mut self.by_tick, alive);
        for session in over.into_values().flatten() {
            out.push(DutyOutput::Propose(machine::close_session(session)));
            let watched = self.sessions.get_mut(&session).expect("both tables agree");
            // Until it is closed: a proposal may be lost.
            watched.until = ended + 2;
            self.by_tick.entry(watched.until).or_default().insert(session);
        }
    }

    /// Deletes nodes that are due.
    fn collect(&mut self, now: Now, tree: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        if now.mono < self.next_check {
            return;
        }
        let max = usize::try_from(self.config.containers_per_minute_max).unwrap_or(usize::MAX).clamp(1, DUE_COUNT_MAX);
        let query = DueQuery {
            time: i64::try_from(now.wall_ms().0).unwrap_or(i64::MAX),
            count_max: i32::try_from(max).unwrap_or(i32::MAX),
        };
        let body = read(tree, internal::DUE, &query);
        let paths = Vec::<&str>::from_bytes(&body).expect("the tree answers whole records");
        paths.iter().for_each(|path| out.push(DutyOutput::Propose(machine::delete_container(path))));
        // If there are more, they follow at the rate that is allowed.
        let pause = if paths.len() == max {
            60_000 * max as u64 / u64::from(self.config.containers_per_minute_max.max(1))
        } else {
            u64::from(self.config.container_check_ms)
        };
        self.next_check = now.mono + Nanos::from_millis(pause.max(1));
    }

    fn schedule(&mut self, now: Now, out: &mut Vec<DutyOutput>) {
        if !self.leads || self.wake_at.is_some_and(|at| at > now.mono) {
            return;
        }
        let at = Mono((now.mono.0 / self.tick() + 1) * self.tick()).min(self.next_check.max(now.mono + Nanos(1)));
        self.wake_at = Some(at);
        out.push(DutyOutput::Wake(at));
    }
}

/// Asks the tree for the body of an answer that cannot fail.
fn read(tree: &mut dyn StateMachine, op: i32, body: &impl crate::wire::Encode) -> Vec<u8> {
    let ReadOutcome::Ready(answer) = tree.read(&machine::query(op, body)) else {
        unreachable!("the tree answers at once")
    };
    let reply = Reply::decode(&answer).expect("the tree answers whole heads");
    assert_eq!(reply.err, 0, "the tree answers its own duty");
    reply.body.to_vec()
}

impl Duty for ZooKeeperDuty {
    fn on(&mut self, now: Now, input: DutyInput<'_>, out: &mut Vec<DutyOutput>) {
        match input {
            DutyInput::Lead(tree) => self.lead(now, tree, out),
            DutyInput::Follow => self.follow(),
            DutyInput::Whisper { from, bytes } => match whisper::decode(&bytes) {
                Some(Whisper::Alive(sessions)) => sessions.for_each(|session| self.touch(now, session)),
                Some(Whisper::Join(line)) => self.on_join(from, line, out),
                None => {}
            },
            DutyInput::Reconfigured(result) => self.on_reconfigured(result, out),
            DutyInput::Event { topic, bytes } => match TreeEvent::decode(topic, bytes) {
                Ok(TreeEvent::SessionOpened { session, timeout_ms }) if self.leads => {
                    self.watch(now, session, timeout_ms);
                }
                Ok(TreeEvent::SessionMoved { session, .. }) => self.touch(now, session),
                Ok(TreeEvent::SessionClosed { session }) => self.forget(session),
                Ok(TreeEvent::ReconfigWanted { text, .. }) if self.leads => self.wish(text, out),
                Ok(_) => {}
                Err(error) => panic!("the tree's own event does not decode: {error}"),
            },
            DutyInput::Wake(tree) if self.leads => {
                self.expire(now, out);
                self.collect(now, tree, out);
            }
            DutyInput::Wake(_) => {}
        }
        self.schedule(now, out);
    }
}
