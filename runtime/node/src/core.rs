//! The one thread on which a node's replica, sessions and sockets live.
//!
//! Every task of the node hands its inputs to [`Shared::input`]; the replica runs them at once. The first input of a turn
//! wakes the flusher, which lets all other ready tasks go first and then ends the turn: what they brought in shares one
//! entry, one barrier and one write to each socket.
//!
//! Deliberately absent: locks and other threads. Storage has threads of its own and answers by message.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use verity_clock::Now;
use verity_contract::{Consistency, Failure, Peer, SessionInput, SessionOutput};
use verity_replica::{Input, Output, Replica, ServiceId};
use verity_storage::Identity;
use verity_types::{ConnId, GroupId, Mono, NodeId, Token};

use crate::book::{Book, Moves};
use crate::clock::HostClock;
use crate::conn::ConnHandle;
use crate::dial::{self, Dial};
use crate::evidence::Evidence;
use crate::faults::Faults;
use crate::figures::{Figures, Traffic};
use crate::node::{NodeStatus, TRACE};
use crate::outside::OutsideHandle;
use crate::peer::{self, Links};
use crate::storage::StorageHandle;
use crate::task::Alarm;

/// What all tasks of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    core: Rc<RefCell<Core>>,
    turn: Rc<Notify>,
    alarm: Rc<Alarm>,
    pub(crate) traffic: Rc<Traffic>,
    pub(crate) faults: Rc<RefCell<Faults>>,
    /// Where services meet those of the cluster's other nodes.
    neighbours: Rc<BTreeMap<SocketAddr, NodeId>>,
}

/// What an operator asks of a group.
pub(crate) enum Question {
    Command(Bytes),
    Query(Bytes, Consistency),
    /// The answer is to be signed by members: [`verity_replica::Certificate`].
    Certified(Bytes),
}

/// The node's state.
pub(crate) struct Core {
    pub(crate) replica: Replica,
    pub(crate) clock: HostClock,
    pub(crate) links: Links,
    storage: StorageHandle,
    outside: OutsideHandle,
    pub(crate) book: Book,
    evidence: Evidence,
    moves: Vec<Moves>,
    /// Whom services want connections to, since the last look.
    dials: Vec<Dial>,
    asked: BTreeMap<Token, oneshot::Sender<Result<Bytes, Failure>>>,
    next_token: u64,
    conns: BTreeMap<ConnId, Rc<ConnHandle>>,
    dirty: BTreeSet<ConnId>,
    next_conn: u64,
    outputs: Vec<Output>,
    alarm: Rc<Alarm>,
    stopping: Rc<Notify>,
}

impl Shared {
    pub(crate) fn new(
        replica: Replica,
        clock: HostClock,
        links: Links,
        storage: StorageHandle,
        outside: OutsideHandle,
        (book, evidence): (Book, Evidence),
        neighbours: BTreeMap<SocketAddr, NodeId>,
    ) -> Self {
        let alarm = Rc::<Alarm>::default();
        let core = Core {
            replica,
            clock,
            links,
            storage,
            outside,
            book,
            evidence,
            moves: Vec::new(),
            dials: Vec::new(),
            asked: BTreeMap::new(),
            next_token: 0,
            conns: BTreeMap::new(),
            dirty: BTreeSet::new(),
            next_conn: 0,
            outputs: Vec::new(),
            alarm: Rc::clone(&alarm),
            stopping: Rc::default(),
        };
        Self {
            core: Rc::new(RefCell::new(core)),
            turn: Rc::new(Notify::new()),
            alarm,
            traffic: Rc::default(),
            faults: Rc::default(),
            neighbours: Rc::new(neighbours),
        }
    }

    /// The node of the cluster at the other end of a connection. Who came is known by the host, if no two nodes share it.
    pub(crate) fn member_at(&self, addr: SocketAddr, dialed: bool) -> Option<NodeId> {
        if dialed {
            return self.neighbours.get(&addr).copied();
        }
        let mut there = self.neighbours.iter().filter(|(other, _)| other.ip() == addr.ip()).map(|(_, node)| *node);
        there.next().filter(|_| there.next().is_none() && !addr.ip().is_loopback())
    }

    /// A fault keeps new connections to this node from coming about.
    pub(crate) fn is_cut_off(&self, addr: SocketAddr) -> bool {
        let faults = self.faults.borrow();
        let cut = |node| faults.send_cut.contains(node) || faults.receive_cut.contains(node);
        self.neighbours.get(&addr).is_some_and(cut)
    }

    /// What stops the node.
    pub(crate) fn alarm(&self) -> Rc<Alarm> {
        Rc::clone(&self.alarm)
    }

    /// Looks at, or changes, the node's state between inputs.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        f(&mut self.core.borrow_mut())
    }

    /// Hands one input to the replica.
    pub(crate) fn input(&self, input: Input) {
        if self.alarm.is_raised() {
            return;
        }
        self.with(|core| {
            let now = core.clock.now();
            core.replica.on(now, input, &mut core.outputs);
            core.carry_out();
        });
        self.follow_members();
        self.turn.notify_one();
    }

    /// Connects to who joined and lets go who left.
    fn follow_members(&self) {
        let (moves, dials) = self.with(|core| (std::mem::take(&mut core.moves), std::mem::take(&mut core.dials)));
        for dial in dials {
            dial::start(self, dial);
        }
        for Moves { connect, disconnect } in moves {
            connect.into_iter().for_each(|(node, addr)| peer::connect(self, node, addr));
            disconnect.into_iter().for_each(|node| peer::disconnect(self, node));
        }
    }

    /// Places an operator's command in a group's order, or asks its state machine; the answer comes by `answer`.
    pub(crate) fn ask(&self, group: GroupId, question: Question, answer: oneshot::Sender<Result<Bytes, Failure>>) {
        self.with(|core| {
            core.next_token += 1;
            let (token, now) = (Token(core.next_token), core.clock.now());
            // Of those who asked, some have stopped waiting.
            core.asked.retain(|_, waiting| !waiting.is_closed());
            core.asked.insert(token, answer);
            match question {
                Question::Command(command) => core.replica.propose(now, group, token, command),
                Question::Query(query, consistency) => core.replica.read(now, group, token, query, consistency),
                Question::Certified(query) => core.replica.certify(now, group, token, query),
            }
        });
        self.turn.notify_one();
    }

    /// Lets the flusher end a turn.
    pub(crate) fn wake(&self) {
        self.turn.notify_one();
    }

    /// Ends turns, and ticks, for as long as the node runs.
    pub(crate) async fn flusher(&self) {
        // Setting a timer costs a system call, so it is set anew only for an earlier moment, or when it has rung.
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut set_for: Option<Mono> = None;
        while !self.alarm.is_raised() {
            let (next, until) = self.with(|core| {
                let next = core.replica.next_wake();
                (next, core.clock.until(next))
            });
            if set_for.is_none_or(|at| next < at) {
                timer.as_mut().reset(tokio::time::Instant::now() + until);
                set_for = Some(next);
            }
            // A moment that is due is a tick; input that came before it ends its turn first.
            tokio::select! {
                biased;
                () = self.turn.notified() => tokio::task::yield_now().await,
                () = &mut timer => {
                    set_for = None;
                    self.with(|core| {
                        let now = core.clock.now();
                        core.replica.on(now, Input::Tick, &mut core.outputs);
                        core.carry_out();
                    });
                }
            }
            let backlog = self.with(Core::end_turn);
            self.follow_members();
            if backlog {
                self.turn.notify_one();
            }
        }
    }

    /// Takes a new connection in; `dialed` if a service asked for it.
    pub(crate) fn open(&self, handle: Rc<ConnHandle>, peer: Peer, dialed: Option<Token>) -> ConnId {
        let service = handle.service;
        handle.cut(&self.faults.borrow());
        let conn = self.with(|core| {
            core.next_conn += 1;
            let conn = ConnId(core.next_conn);
            core.conns.insert(conn, handle);
            conn
        });
        let input = match dialed {
            None => SessionInput::Opened { conn, peer },
            Some(token) => SessionInput::Dialed { token, result: Ok((conn, peer)) },
        };
        self.input(Input::Session { service, input });
        conn
    }

    /// Lets the services write what they keep by themselves.
    pub(crate) fn stop_services(&self) {
        let count = self.with(|core| core.replica.service_count());
        for service in 0..count {
            self.input(Input::Session { service: ServiceId(service), input: SessionInput::Stopping });
        }
    }

    /// Told once a service asks for the node's end.
    pub(crate) fn stopping(&self) -> Rc<Notify> {
        self.with(|core| Rc::clone(&core.stopping))
    }

    /// Forgets a connection that ended.
    pub(crate) fn closed(&self, conn: ConnId) {
        let handle = self.with(|core| core.conns.remove(&conn));
        if let Some(handle) = handle {
            self.input(Input::Session { service: handle.service, input: SessionInput::Closed { conn } });
        }
    }

    /// Calls the replica outside of its inputs; what follows is carried out like any turn.
    pub(crate) fn with_replica<R>(&self, f: impl FnOnce(&mut Replica, Now) -> R) -> R {
        let result = self.with(|core| {
            let now = core.clock.now();
            f(&mut core.replica, now)
        });
        self.turn.notify_one();
        result
    }

    /// Replaces the faults in force.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.with(|core| {
            core.clock.skew(faults.clock_skew_ms);
            core.storage.set_delay(faults.disk_delay);
            core.conns.values().for_each(|handle| handle.cut(&faults));
        });
        self.faults.replace(faults);
    }

    /// How the node is.
    pub(crate) fn status(&self, identity: &Identity) -> NodeStatus {
        let faults = self.faults.borrow().clone();
        self.with(|core| NodeStatus {
            id: identity.node,
            incarnation: identity.incarnation.0,
            groups: core.replica.status(),
            peers_up: core.links.up(),
            evidence: core.evidence.all(),
            connections: core.conns.len(),
            connections_by_service: core.conns.values().fold(Vec::new(), |mut counts, handle| {
                counts.resize(counts.len().max(handle.service.0 + 1), 0);
                counts[handle.service.0] += 1;
                counts
            }),
            faults,
            figures: Figures {
                connections_opened: core.next_conn,
                log_bytes: core.storage.log_bytes(),
                log_syncs: core.storage.log_syncs(),
                ..self.traffic.read()
            },
        })
    }
}

impl Core {
    /// Lets the storage threads finish what they have.
    pub(crate) fn stop_storage(&mut self) {
        self.storage.stop();
    }

    fn end_turn(&mut self) -> bool {
        let now = self.clock.now();
        self.replica.flush(now, &mut self.outputs);
        self.carry_out();
        for conn in std::mem::take(&mut self.dirty) {
            if let Some(handle) = self.conns.get(&conn) {
                handle.write_now();
            }
        }
        self.replica.has_backlog()
    }

    fn carry_out(&mut self) {
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Conn(output) => self.carry_out_conn(output),
                Output::Send { to, bytes, urgent } => self.links.send(to, bytes, urgent),
                Output::Role { group, role } => {
                    let leader = role.leader.unwrap_or(NodeId(0));
                    let (node, term, leads) = (self.links.me, role.term.0, role.leads);
                    let _span =
                        tracing::info_span!(target: TRACE, "role", %node, %group, %leader, term, leads).entered();
                    tracing::info!(%node, %group, %leader, term, leads, "role");
                }
                Output::Members { group, members, roster } => {
                    let node = self.links.me;
                    let _span = tracing::info_span!(target: TRACE, "members", %node, %group, ?members).entered();
                    tracing::info!(%node, %group, ?members, "members");
                    self.moves.push(self.book.on_members(group, members, roster));
                }
                Output::Answer { token, result } => {
                    // Whoever asked may have stopped waiting.
                    let _ = self.asked.remove(&token).map(|answer| answer.send(result));
                }
                Output::Call { caller, channel, ask } => self.outside.call(caller, channel, ask),
                Output::Dial { service, token, addr, door } => self.dials.push(Dial { service, token, addr, door }),
                Output::Stop => self.stopping.notify_one(),
                Output::Evidence { group, bytes } => {
                    if self.evidence.add(group, bytes) {
                        tracing::warn!(%group, "a member lied; `verity evidence` shows which");
                    }
                }
                Output::Fatal(reason) => self.alarm.raise(reason),
                storage => self.storage.carry_out(storage),
            }
        }
    }

    fn carry_out_conn(&mut self, output: SessionOutput) {
        match output {
            SessionOutput::Bytes { conn, bytes } => {
                if let Some(handle) = self.conns.get(&conn) {
                    handle.push(bytes);
                    self.dirty.insert(conn);
                }
            }
            SessionOutput::FileRange { conn, range } => {
                if let Some(handle) = self.conns.get(&conn) {
                    handle.push_range(range);
                    self.dirty.insert(conn);
                }
            }
            SessionOutput::Pause(conn) => self.on_conn(conn, |handle| handle.pause(true)),
            SessionOutput::Resume(conn) => self.on_conn(conn, |handle| handle.pause(false)),
            SessionOutput::Drain { conn, below } => {
                self.on_conn(conn, |handle| handle.drain(below));
                self.dirty.insert(conn);
            }
            SessionOutput::Close(conn) => self.on_conn(conn, ConnHandle::close),
            SessionOutput::Propose { .. }
            | SessionOutput::Dial { .. }
            | SessionOutput::Stop
            | SessionOutput::Fatal(_)
            | SessionOutput::Call { .. }
            | SessionOutput::Inspect { .. }
            | SessionOutput::Read { .. }
            | SessionOutput::Whisper { .. }
            | SessionOutput::Wake(_) => {
                unreachable!("the replica keeps these to itself")
            }
        }
    }

    fn on_conn(&self, conn: ConnId, f: impl FnOnce(&ConnHandle)) {
        if let Some(handle) = self.conns.get(&conn) {
            f(handle);
        }
    }
}
