//! All sessions of one node: what comes in, and where it goes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use hashbrown::HashMap;
use sha1::{Digest as _, Sha1};
use verity_clock::Now;
use verity_contract::{Failure, GroupRole, Peer, Service, SessionInput, SessionOutput};
use verity_types::{ConnId, Mono, Nanos, Token};

use super::config::{Config, DoorKind};
use super::conn::{Conn, Phase};
use super::hash::Seeded;
use super::port::{Port, Waits};
use super::stats::Stats;
use super::watch::Watches;
use super::whisper;

/// A connection that says nothing is closed after this long.
const SILENCE_MAX: Nanos = Nanos::from_millis(10_000);

/// A session that only this node knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    pub(super) timeout_ms: i32,
    pub(super) conn: Option<ConnId>,
    pub(super) heard: Mono,
}

/// The sessions of one node.
pub struct ZooKeeper {
    pub(super) config: Config,
    pub(super) port: Port,
    pub(super) conns: HashMap<ConnId, Conn, Seeded>,
    /// Which connection serves a replicated session.
    pub(super) seats: HashMap<i64, ConnId, Seeded>,
    pub(super) locals: BTreeMap<i64, Local>,
    /// Reconfigs under way, by version: which request waits for it.
    pub(super) reconfigs: BTreeMap<i64, (ConnId, u64)>,
    pub(super) watches: Watches,
    pub(super) per_address: BTreeMap<IpAddr, usize>,
    pub(super) role: GroupRole,
    /// Since when there is no leader.
    pub(super) leaderless_since: Option<Mono>,
    /// Since when this node leads.
    pub(super) led_since: Option<Mono>,
    /// What `gtmk` says. ZooKeeper's default is 0x132.
    pub(super) trace_mask: i64,
    pub(super) started: Option<Mono>,
    /// The last transaction that this node has heard of.
    pub(super) zxid: i64,
    pub(super) session_count: u64,
    pub(super) nonce_count: u64,
    /// Sessions that were heard since the last report.
    pub(super) touched: Vec<i64>,
    pub(super) stats: Stats,
    wake_at: Option<Mono>,
}

impl ZooKeeper {
    /// A node without connections.
    #[must_use]
    pub fn new(config: Config) -> Self {
        assert!(config.node.0 > 0, "node 0 names nobody");
        let seed = u64::from_be_bytes(*config.seed.first_chunk().expect("seeds have 32 bytes"));
        Self {
            port: Port::new(config.group, seed),
            conns: HashMap::with_hasher(Seeded(seed)),
            seats: HashMap::with_hasher(Seeded(seed)),
            locals: BTreeMap::new(),
            reconfigs: BTreeMap::new(),
            watches: Watches::new(seed, config.watches_max),
            per_address: BTreeMap::new(),
            role: GroupRole::default(),
            leaderless_since: None,
            led_since: None,
            trace_mask: 0x132,
            started: None,
            zxid: 0,
            session_count: 0,
            nonce_count: 0,
            touched: Vec::new(),
            stats: Stats::default(),
            wake_at: None,
            config,
        }
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Bytes that nobody can guess and this node can repeat.
    pub(super) fn secret(&self, purpose: u8, number: u64) -> [u8; 16] {
        let mut hash = Sha1::new();
        hash.update(self.config.seed);
        hash.update([purpose]);
        hash.update(number.to_be_bytes());
        hash.update(self.config.incarnation.0.to_be_bytes());
        hash.update(self.config.seed);
        *hash.finalize().first_chunk().expect("a SHA-1 has 20 bytes")
    }

    /// A session's password.
    pub(super) fn password(&self, session: i64) -> [u8; 16] {
        self.secret(1, session.cast_unsigned())
    }

    /// An id that no other session has: node, start, count.
    pub(super) fn next_session(&mut self) -> i64 {
        self.session_count += 1;
        let node = (self.config.node.0 & 0xff) << 56;
        let start = (self.config.incarnation.0 & 0xff_ffff) << 32;
        (node | start | (self.session_count & 0xffff_ffff)).cast_signed()
    }

    /// Connects can be answered.
    pub(super) fn has_leader(&self) -> bool {
        self.role.leader.is_some()
    }

    /// There has been no leader for so long that clients are better off elsewhere.
    pub(super) fn is_cut_off(&self, now: Mono) -> bool {
        let limit = Nanos::from_millis(self.config.leaderless());
        self.leaderless_since.is_some_and(|since| now.since(since) >= limit)
    }

    fn on_opened(&mut self, now: Now, conn: ConnId, peer: Peer) {
        assert!(!self.conns.contains_key(&conn), "connections are named once");
        let address = peer.addr.ip();
        let count = self.per_address.entry(address).or_default();
        let max = self.config.connections_per_address_max;
        if max > 0 && *count >= max {
            self.stats.rejected += 1;
            return self.port.close(conn);
        }
        *count += 1;
        let tls = self.config.doors.get(&peer.door) == Some(&DoorKind::Tls);
        let mut new = Conn::new(peer, now.mono, now.wall_ms().0);
        if let Some(subject) = new.peer.certificate.clone().filter(|_| tls) {
            new.add_id("x509", &subject);
            if self.config.super_certificate.as_ref() == Some(&subject) {
                new.add_id("super", "");
            }
        }
        self.conns.insert(conn, new);
    }

    /// Forgets a connection. Its global session lives on until it expires.
    pub(super) fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        self.watches.drop_conn(id);
        let address = conn.peer.addr.ip();
        if let Some(count) = self.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        if self.seats.get(&conn.session) == Some(&id) {
            self.seats.remove(&conn.session);
        }
        if let Some(local) = self.locals.get_mut(&conn.session).filter(|local| local.conn == Some(id)) {
            local.conn = None;
        }
    }

    /// Closes a connection behind what was written to it.
    pub(super) fn close(&mut self, id: ConnId) {
        if self.conns.contains_key(&id) {
            self.stats.dropped += 1;
            self.forget(id);
            self.port.close(id);
        }
    }

    fn on_bytes(&mut self, now: Now, id: ConnId, bytes: &Bytes) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        self.stats.received_bytes += bytes.len() as u64;
        conn.heard = now.mono;
        if conn.local {
            if let Some(local) = self.locals.get_mut(&conn.session) {
                local.heard = now.mono;
            }
        } else if conn.phase == Phase::Open && !conn.read_only && !conn.touched {
            conn.touched = true;
            self.touched.push(conn.session);
        }
        if self.config.doors.get(&conn.peer.door) == Some(&DoorKind::Admin) {
            return self.on_admin_bytes(now, id, bytes);
        }
        self.take_bytes(now, id, bytes);
    }

    fn on_role(&mut self, now: Now, role: GroupRole) {
        if role.leads != self.role.leads {
            self.led_since = role.leads.then_some(now.mono);
        }
        self.role = role;
        if self.has_leader() {
            self.leaderless_since = None;
            // Read-only service ends: the client comes back and finds a full one.
            for id in self.sorted(|conn| conn.read_only) {
                self.close(id);
            }
            for id in self.sorted(|conn| conn.phase == Phase::Held) {
                self.begin_connect(now, id);
            }
        } else if self.leaderless_since.is_none() {
            self.leaderless_since = Some(now.mono);
        }
    }

    /// The connections that fit, in the order of their names.
    pub(super) fn sorted(&self, fits: impl Fn(&Conn) -> bool) -> Vec<ConnId> {
        let mut list: Vec<ConnId> = self.conns.iter().filter(|(_, conn)| fits(conn)).map(|(id, _)| *id).collect();
        list.sort_unstable();
        list
    }

    fn on_completed(&mut self, now: Now, token: Token, result: Result<Bytes, Failure>) {
        match self.port.answered(token) {
            None => {}
            Some(Waits::Slot { conn, seq, way }) => self.on_slot(now, conn, seq, way, result),
            Some(Waits::Look { conn, again }) => self.on_look(now, conn, again, result),
            Some(Waits::Open { conn, session, tries }) => self.on_open(now, conn, session, tries, result),
            Some(Waits::Move { conn }) => self.on_moved_here(now, conn, result),
            Some(Waits::Upgrade { conn }) => self.on_upgraded(conn, result),
            Some(Waits::Restore { conn }) => self.on_missed(conn, result),
            Some(Waits::Recheck { conn }) => self.on_rechecked(conn, result),
            Some(Waits::Inspect(question)) => self.on_inspected(now, *question, result),
        }
    }

    /// Reports who is alive, and closes what waited too long.
    fn on_beat(&mut self, now: Now) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for part in touched.chunks(whisper::SESSIONS_MAX) {
            self.port.whisper(whisper::alive(part));
        }
        if let Some(line) = self.config.join.as_ref().filter(|_| !self.has_leader()) {
            self.port.whisper(whisper::join(line));
        }
        self.conns.values_mut().for_each(|conn| conn.touched = false);
        let mono = now.mono;
        let cut_off = self.is_cut_off(mono);
        let stale = self.sorted(|conn| match conn.phase {
            Phase::Fresh => mono.since(conn.opened) >= SILENCE_MAX,
            Phase::Held => false,
            Phase::Asking => cut_off || mono.since(conn.heard) >= SILENCE_MAX,
            Phase::Open if conn.read_only => {
                let timeout = u64::try_from(conn.timeout_ms).unwrap_or(0);
                mono.since(conn.heard) >= Nanos::from_millis(timeout)
            }
            Phase::Open => cut_off,
        });
        for id in stale {
            self.close(id);
        }
        if cut_off {
            for id in self.sorted(|conn| conn.phase == Phase::Held) {
                self.begin_connect(now, id);
            }
        }
        let due = |local: &Local| {
            let timeout = u64::try_from(local.timeout_ms).unwrap_or(0);
            mono.since(local.heard) >= Nanos::from_millis(timeout)
        };
        let expired: Vec<(i64, Option<ConnId>)> =
            self.locals.iter().filter(|(_, local)| due(local)).map(|(id, local)| (*id, local.conn)).collect();
        for (session, conn) in expired {
            if let Some(conn) = conn {
                self.close(conn);
            }
            self.locals.remove(&session);
        }
    }

    fn schedule(&mut self, now: Now) {
        let joins = self.config.join.is_some() && !self.has_leader();
        let idle = self.conns.is_empty() && self.locals.is_empty() && self.touched.is_empty() && !joins;
        if self.wake_at.is_none() && !idle {
            let at = now.mono + Nanos::from_millis(self.config.beat_ms());
            self.wake_at = Some(at);
            self.port.wake(at);
        }
    }
}

impl Service for ZooKeeper {
    fn on(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        std::mem::swap(&mut self.port.out, out);
        if self.started.is_none() {
            self.started = Some(now.mono);
            self.leaderless_since = Some(now.mono);
        }
        match input {
            SessionInput::Opened { conn, peer } => self.on_opened(now, conn, peer),
            SessionInput::Bytes { conn, bytes } => self.on_bytes(now, conn, &bytes),
            SessionInput::Closed { conn } => self.forget(conn),
            SessionInput::Completed { token, result } => self.on_completed(now, token, result),
            SessionInput::CompletedInFile { .. } => unreachable!("a tree has no files"),
            SessionInput::Event { group, topic, bytes } if group == self.config.group => {
                self.on_event(now, &topic, &bytes);
            }
            SessionInput::Role { group, role } if group == self.config.group => self.on_role(now, role),
            SessionInput::Restored { group } if group == self.config.group => self.on_restored(),
            SessionInput::Dialed { .. } | SessionInput::Drained { .. } => unreachable!("nobody asked"),
            SessionInput::Event { .. }
            | SessionInput::Role { .. }
            | SessionInput::Restored { .. }
            | SessionInput::Stopping => {}
            SessionInput::Wake => {
                if self.wake_at.is_some_and(|at| at <= now.mono) {
                    self.wake_at = None;
                    self.on_beat(now);
                }
            }
        }
        self.schedule(now);
        self.port.cut();
        std::mem::swap(&mut self.port.out, out);
    }

    fn invariants(&self) {
        self.port.invariants();
        self.watches.invariants();
        assert_eq!(self.per_address.values().sum::<usize>(), self.conns.len(), "connections are counted once");
        for (session, id) in &self.seats {
            let conn = self.conns.get(id).expect("seats are taken by live connections");
            assert!(conn.session == *session && !conn.local && conn.phase == Phase::Open);
        }
        for (session, local) in &self.locals {
            let conn = local.conn.map(|id| self.conns.get(&id).expect("local sessions name live connections"));
            assert!(conn.is_none_or(|conn| conn.session == *session && conn.local));
        }
        for (id, conn) in &self.conns {
            conn.invariants();
            let served = conn.phase != Phase::Open
                || conn.read_only
                || if conn.local {
                    self.locals.get(&conn.session).is_some_and(|local| local.conn == Some(*id))
                } else {
                    self.seats.get(&conn.session) == Some(id)
                };
            assert!(served, "an open connection serves its session");
            assert!(conn.slots.len() <= self.config.outstanding_max, "what waits is bounded");
        }
        assert!(self.watches.by_conn().all(|(id, _)| self.conns.contains_key(&id)), "the dead watch nothing");
    }
}
