//! What the leader watches over: members, and the moments at which something is due.
//!
//! - upon leading: that is placed in the order, with the configuration; every member gets its full timeout anew, since
//!   nobody knows when it was last heard of;
//! - upon a whisper, or the event that a member is there: it lives for another timeout;
//! - upon the end of a tick: members whose time is over are expired through the order, if the state agrees. Who has sent
//!   a command since gets the rest of its time, and who waits for a rebalance is asked for again later, as is who was
//!   proposed and did not go;
//! - upon the moment that the state asks for: a tick is proposed.
//!
//! Deliberately absent: any decision. Each proposal is checked against the state when its turn comes.

use std::collections::{BTreeMap, BTreeSet};

use verity_clock::Now;
use verity_contract::{Duty, DutyInput, DutyOutput, ReadOutcome, StateMachine};
use verity_types::{Mono, Nanos};

use super::command::Command;
use super::config::CoordinatorConfig;
use super::event::{DUTY_TOPIC, DutyEvent};
use super::query::{Answer, Query, ROWS_MAX};
use super::whisper;

/// Members expire at the end of a tick: as good as at their moment. Clients' own tests wait for a session's length to the
/// millisecond, and what they then ask for must come behind the expiry.
const TICK_MS: u64 = 1;
/// So many ticks later what was not done is proposed again.
const RETRY_TICKS: u64 = 1_000;

/// A member: its group and its id.
type Member = (String, String);

#[derive(Clone, Copy, Debug)]
struct Watched {
    timeout_ms: u32,
    /// The end of this tick.
    until: u64,
}

/// Leader-only work of the coordinator's group.
#[derive(Debug)]
pub struct CoordinatorDuty {
    config: CoordinatorConfig,
    leads: bool,
    members: BTreeMap<Member, Watched>,
    /// The same by the tick at whose end they expire.
    by_tick: BTreeMap<u64, BTreeSet<Member>>,
    /// When the state asks for a tick, in wall time.
    due_ms: Option<u64>,
    wake_at: Option<Mono>,
}

fn tick() -> u64 {
    Nanos::from_millis(TICK_MS).0
}

/// Asks the state.
fn ask(state: &mut dyn StateMachine, query: &Query) -> Answer {
    let ReadOutcome::Ready(bytes) = state.read(&query.encode()) else {
        unreachable!("the coordinator answers at once")
    };
    Answer::decode(&bytes).expect("the coordinator's own answer")
}

impl CoordinatorDuty {
    /// A duty that waits to lead.
    #[must_use]
    pub fn new(config: CoordinatorConfig) -> Self {
        let (members, by_tick) = (BTreeMap::new(), BTreeMap::new());
        Self { config, leads: false, members, by_tick, due_ms: None, wake_at: None }
    }

    /// How many members it watches over.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    fn watch(&mut self, now: Now, member: Member, timeout_ms: u32) {
        let until = (now.mono + Nanos::from_millis(u64::from(timeout_ms))).0.div_ceil(tick());
        self.watch_until(member, timeout_ms, until);
    }

    fn watch_until(&mut self, member: Member, timeout_ms: u32, until: u64) {
        self.forget(&member);
        self.by_tick.entry(until).or_default().insert(member.clone());
        self.members.insert(member, Watched { timeout_ms, until });
    }

    fn touch(&mut self, now: Now, member: Member) {
        if let Some(watched) = self.members.get(&member).copied() {
            self.watch(now, member, watched.timeout_ms);
        }
    }

    fn forget(&mut self, member: &Member) {
        let Some(watched) = self.members.remove(member) else { return };
        let tick = self.by_tick.get_mut(&watched.until).expect("both tables agree");
        tick.remove(member);
        if tick.is_empty() {
            self.by_tick.remove(&watched.until);
        }
    }

    fn follow(&mut self) {
        self.leads = false;
        self.members.clear();
        self.by_tick.clear();
        self.due_ms = None;
        self.wake_at = None;
    }

    fn lead(&mut self, now: Now, state: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        self.follow();
        self.leads = true;
        out.push(DutyOutput::Propose(Command::Lead { config: self.config }.encode()));
        let mut after = Member::default();
        loop {
            let query = Query::Members { after: after.clone(), count_max: ROWS_MAX };
            let Answer::Members { rows } = ask(state, &query) else { unreachable!("as it was asked") };
            let full = rows.len() == usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
            for (group, (member, timeout_ms)) in rows {
                after = (group, member);
                self.watch(now, after.clone(), timeout_ms);
            }
            if !full {
                break;
            }
        }
        self.read_due(state);
    }

    fn read_due(&mut self, state: &mut dyn StateMachine) {
        let Answer::Status { next, .. } = ask(state, &Query::Status) else { unreachable!("as it was asked") };
        self.due_ms = next;
    }

    fn expire(&mut self, now: Now, state: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        let ended = now.mono.0 / tick();
        let alive = self.by_tick.split_off(&(ended + 1));
        let over = std::mem::replace(&mut self.by_tick, alive);
        for member in over.into_values().flatten() {
            let watched = self.members.remove(&member).expect("both tables agree");
            let (group_id, member_id) = member.clone();
            let query = Query::Expirable { group_id, member_id, now: now.wall_ms().0 };
            let Answer::Expirable { after_ms } = ask(state, &query) else { unreachable!("as it was asked") };
            let Some(after_ms) = after_ms else { continue };
            let until = match after_ms {
                0 => {
                    let (group_id, member_id) = member.clone();
                    out.push(DutyOutput::Propose(Command::ExpireMember { group_id, member_id }.encode()));
                    // Until it is gone: a proposal may be lost.
                    ended + RETRY_TICKS
                }
                _ => ended + after_ms.div_ceil(TICK_MS).min(RETRY_TICKS),
            };
            self.watch_until(member, watched.timeout_ms, until);
        }
    }

    fn on_wake(&mut self, now: Now, state: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        self.wake_at = None;
        self.expire(now, state, out);
        if self.due_ms.is_some_and(|at| at <= now.wall_ms().0) {
            self.read_due(state);
        }
        if self.due_ms.is_some_and(|at| at <= now.wall_ms().0) {
            out.push(DutyOutput::Propose(Command::Tick.encode()));
            // Its event says when the next is due; if it is lost, this one is proposed again.
            self.due_ms = Some(now.wall_ms().0.saturating_add(RETRY_TICKS * TICK_MS));
        }
    }

    fn on_event(&mut self, now: Now, event: DutyEvent) {
        match event {
            DutyEvent::Member { group_id, member_id, timeout_ms } => self.watch(now, (group_id, member_id), timeout_ms),
            DutyEvent::Gone { group_id, member_id } => self.forget(&(group_id, member_id)),
            DutyEvent::Timer { at } => self.due_ms = Some(at),
        }
    }

    fn schedule(&mut self, now: Now, out: &mut Vec<DutyOutput>) {
        if !self.leads {
            return;
        }
        let expiry = self.by_tick.keys().next().map(|until| Mono(until.saturating_mul(tick())));
        let wait = |at: u64| Nanos::from_millis(at.saturating_sub(now.wall_ms().0).max(1));
        let due = self.due_ms.map(|at| now.mono + wait(at));
        let Some(at) = expiry.into_iter().chain(due).min() else { return };
        let at = at.max(now.mono + Nanos(1));
        if self.wake_at.is_none_or(|wake_at| wake_at <= now.mono || at < wake_at) {
            self.wake_at = Some(at);
            out.push(DutyOutput::Wake(at));
        }
    }
}

impl Duty for CoordinatorDuty {
    fn on(&mut self, now: Now, input: DutyInput<'_>, out: &mut Vec<DutyOutput>) {
        match input {
            DutyInput::Lead(state) => self.lead(now, state, out),
            DutyInput::Follow => self.follow(),
            DutyInput::Whisper { bytes, .. } if self.leads => {
                whisper::decode(&bytes).into_iter().flatten().for_each(|member| self.touch(now, member));
            }
            DutyInput::Event { topic, bytes } if self.leads && **topic == *DUTY_TOPIC => {
                self.on_event(now, DutyEvent::decode(bytes).expect("the coordinator's own event"));
            }
            DutyInput::Wake(state) if self.leads => self.on_wake(now, state, out),
            DutyInput::Whisper { .. } | DutyInput::Event { .. } | DutyInput::Wake(_) | DutyInput::Reconfigured(_) => {}
        }
        self.schedule(now, out);
    }
}
