//! One running node: a thread with the replica and its sockets, and two for its disk.
//!
//! - upon [`Node::start`]: the folder is opened, every listener bound, and only then does the node serve: no connection
//!   is accepted before it can be answered;
//! - upon [`NodeHandle::stop`]: what was accepted for storage is written, then everything closes;
//! - upon [`NodeHandle::crash`]: everything closes at once, as if the process had died;
//! - upon a fatal failure of the storage, or a panic anywhere in the node: the node stops and says why.
//!
//! Deliberately absent: what it serves. Groups and services come from whoever starts it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use verity_contract::{Consistency, Door, Failure, Outside};
use verity_replica::{Founder, GroupSpec, GroupStatus, Opened, Opening, ServiceFactory, ServiceId};
use verity_storage::{ClusterId, Disk, Identity};
use verity_types::{GroupId, NodeId};

use crate::book::Book;
use crate::clock::HostClock;
use crate::conn::{ClientStream, PeerAddr};
use crate::core::{Question, Shared};
use crate::evidence::Evidence;
use crate::faults::Faults;
use crate::figures::{Counted, Figures, Histogram, Requests};
use crate::outside::OutsideHandle;
use crate::pause::Pauses;
use crate::peer::Links;
use crate::storage::{FromStorage, StorageHandle};
use crate::tls::{PeerTls, ServerTls};
use crate::{conn, peer, task};

/// A client that does not finish its TLS handshake within this is cut off.
const TLS_WAIT: Duration = Duration::from_secs(10);
/// A node answers for itself within this, or is said not to.
const NODE_WAIT: Duration = Duration::from_secs(5);
/// Answers that were put out before the node was asked to stop leave within this.
const STOP_WAIT: Duration = Duration::from_millis(50);
/// A group has an order and an answer within this, or is said to have none.
const GROUP_WAIT: Duration = Duration::from_secs(20);

/// A listener for clients.
#[derive(Debug)]
pub struct DoorSpec {
    /// Which service, by its place in [`NodeSpec::services`].
    pub service: usize,
    /// How the service tells its doors apart.
    pub door: Door,
    /// Where to listen.
    pub addr: SocketAddr,
    /// With TLS, if set.
    pub tls: Option<ServerTls>,
}

/// Spans of this target are what an operator may want to see later: a start, a change of role, a snapshot. They are rare.
pub const TRACE: &str = "verity::trace";

/// Where a service counts how long its requests take.
pub struct Meter {
    /// The system, such as `zookeeper`.
    pub system: &'static str,
    /// What the requests do, such as `read`.
    pub kind: &'static str,
    /// Who counts.
    pub took: Arc<Histogram>,
}

/// Where a service counts something else.
pub struct Count {
    /// The system, such as `kafka`.
    pub system: &'static str,
    /// What, such as `messages_sent`.
    pub what: &'static str,
    /// How much there was, or is.
    pub count: Arc<AtomicU64>,
}

/// What a node is made of.
pub struct NodeSpec {
    /// Its id.
    pub id: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its folder.
    pub disk: Arc<dyn Disk>,
    /// Feeds the engines' randomness. Differs from node to node and start to start.
    pub seed: u64,
    /// About so many bytes of all groups' logs are held in memory.
    pub log_bytes: u64,
    /// Where it listens for peers of its cluster, if it has any.
    pub peer_addr: Option<SocketAddr>,
    /// Where its peers listen.
    pub peers: BTreeMap<NodeId, String>,
    /// Mutual TLS between nodes; without it peers must be on loopback, which whoever starts the node checks.
    pub peer_tls: Option<PeerTls>,
    /// What it hosts from the start.
    pub groups: Vec<GroupSpec>,
    /// How groups are run that state machines ask for.
    pub founder: Option<Founder>,
    /// What it serves.
    pub services: Vec<ServiceFactory>,
    /// Whom it asks outside of itself, by channel. Threads are made for them when it starts.
    pub outsides: Vec<Box<dyn Outside>>,
    /// Where it listens for clients.
    pub doors: Vec<DoorSpec>,
    /// Where its services meet those of the cluster's other nodes: faults between nodes cut these connections too.
    pub neighbours: BTreeMap<SocketAddr, NodeId>,
    /// Where its services count how long requests take.
    pub meters: Vec<Meter>,
    /// Where they count what else there is.
    pub counts: Vec<Count>,
}

/// Why a node does not run.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Its folder.
    #[error(transparent)]
    Open(#[from] verity_replica::OpenError),
    /// One of its listeners.
    #[error("cannot listen on {addr}: {reason}; is another program using the port?")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why.
        reason: std::io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    /// It stopped on its own.
    #[error("{0}")]
    Fatal(String),
}

/// How a node is, at one moment.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its start count.
    pub incarnation: u64,
    /// Its groups.
    pub groups: Vec<GroupStatus>,
    /// Peers that it is connected to.
    pub peers_up: Vec<NodeId>,
    /// Open client connections.
    pub connections: usize,
    /// Open client connections by service.
    pub connections_by_service: Vec<usize>,
    /// Proofs that members lied, in their engines' bytes.
    pub evidence: Vec<(GroupId, Bytes)>,
    /// The faults in force.
    pub faults: Faults,
    /// What it has counted.
    pub figures: Figures,
}

/// What others ask of a running node.
enum Ask {
    Status(oneshot::Sender<NodeStatus>),
    Faults(Faults, oneshot::Sender<()>),
    Group(GroupId, Question, oneshot::Sender<Result<Bytes, Failure>>),
    Transfer(GroupId, NodeId, oneshot::Sender<Result<(), String>>),
    Pause(oneshot::Sender<()>),
    Stop { clean: bool },
}

/// A running node, for whoever started it. Dropping it crashes the node.
pub struct NodeHandle {
    /// Its id.
    pub id: NodeId,
    /// Where its doors listen, in the order of [`NodeSpec::doors`].
    pub doors: Vec<SocketAddr>,
    asks: mpsc::UnboundedSender<Ask>,
    pauses: Arc<Pauses>,
    thread: Option<JoinHandle<Result<(), NodeError>>>,
}

/// Asks a running node. Cheap to clone.
#[derive(Clone)]
pub struct NodeClient {
    asks: mpsc::UnboundedSender<Ask>,
    pauses: Arc<Pauses>,
}

/// Why a node that was asked has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// It has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// It stands still on purpose.
    #[error("the node is paused for another {} s; `verity fault heal` ends the pause", left.as_secs().max(1))]
    Paused {
        /// For how long.
        left: Duration,
    },
    /// It did not answer within the time that it has.
    #[error("the node does not answer within {} s; what was asked may still be done", .0.as_secs())]
    Silent(Duration),
}

impl NodeClient {
    async fn ask<T>(&self, wait: Duration, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, AskError> {
        if let Some(left) = self.paused() {
            return Err(AskError::Paused { left });
        }
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).map_err(|_| AskError::Stopped)?;
        match tokio::time::timeout(wait, answered).await {
            Ok(answer) => answer.map_err(|_| AskError::Stopped),
            Err(_) => Err(self.paused().map_or(AskError::Silent(wait), |left| AskError::Paused { left })),
        }
    }

    /// How the node is.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn status(&self) -> Result<NodeStatus, AskError> {
        self.ask(NODE_WAIT, Ask::Status).await
    }

    /// Replaces the faults in force.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn set_faults(&self, faults: Faults) -> Result<(), AskError> {
        self.ask(NODE_WAIT, |answer| Ask::Faults(faults, answer)).await
    }

    /// Places a command in a group's order and answers with what the state machine says.
    ///
    /// # Errors
    /// [`AskError`]; inside, why there is no answer.
    pub async fn propose(&self, group: GroupId, command: Bytes) -> Result<Result<Bytes, Failure>, AskError> {
        self.ask(GROUP_WAIT, |answer| Ask::Group(group, Question::Command(command), answer)).await
    }

    /// Asks a group's state machine.
    ///
    /// # Errors
    /// [`AskError`]; inside, why there is no answer.
    pub async fn read(
        &self,
        group: GroupId,
        query: Bytes,
        consistency: Consistency,
    ) -> Result<Result<Bytes, Failure>, AskError> {
        self.ask(GROUP_WAIT, |answer| Ask::Group(group, Question::Query(query, consistency), answer)).await
    }

    /// Asks a group's state machine for an answer that f + 1 members sign: a [`verity_replica::Certificate`].
    ///
    /// # Errors
    /// [`AskError`]; inside, why there is none.
    pub async fn certify(&self, group: GroupId, query: Bytes) -> Result<Result<Bytes, Failure>, AskError> {
        self.ask(GROUP_WAIT, |answer| Ask::Group(group, Question::Certified(query), answer)).await
    }

    /// Asks another node to lead a group.
    ///
    /// # Errors
    /// [`AskError`]; inside, why it cannot be asked.
    pub async fn transfer(&self, group: GroupId, to: NodeId) -> Result<Result<(), String>, AskError> {
        self.ask(NODE_WAIT, |answer| Ask::Transfer(group, to, answer)).await
    }

    /// Stops the node's thread for a while, as a stopped process or a long garbage collection would.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn pause(&self, span: Duration) -> Result<(), AskError> {
        if !self.pauses.begin(span) {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Pause(answer)).map_err(|_| AskError::Stopped)?;
        match tokio::time::timeout(NODE_WAIT, answered).await {
            Ok(stands) => stands.map_err(|_| AskError::Stopped),
            Err(_) => Err(AskError::Silent(NODE_WAIT)),
        }
    }

    /// Ends the pause that is under way, if there is one.
    pub fn go_on(&self) {
        self.pauses.lift();
    }

    /// How much longer the node is paused, if it is.
    #[must_use]
    pub fn paused(&self) -> Option<Duration> {
        self.pauses.left()
    }
}

impl NodeHandle {
    /// Something to ask the node with.
    #[must_use]
    pub fn client(&self) -> NodeClient {
        NodeClient { asks: self.asks.clone(), pauses: Arc::clone(&self.pauses) }
    }

    /// Stops the node; what it accepted for storage is written first.
    ///
    /// # Errors
    /// Why it had stopped already.
    pub fn stop(mut self) -> Result<(), NodeError> {
        self.end(true)
    }

    /// Ends the node at once, as if its process had died. What was not synced is lost to it.
    ///
    /// # Errors
    /// Why it had stopped already.
    pub fn crash(mut self) -> Result<(), NodeError> {
        self.end(false)
    }

    /// True once the node has stopped on its own.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self, clean: bool) -> Result<(), NodeError> {
        let _span = tracing::info_span!(target: TRACE, "stop", node = %self.id, clean).entered();
        self.pauses.end();
        // A node that has stopped on its own hears nothing; its thread says why.
        let _ = self.asks.send(Ask::Stop { clean });
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("a node's thread does not panic"))
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        if let Err(error) = self.end(false) {
            tracing::error!(node = %self.id, %error, "node ended");
        }
    }
}

struct Bound {
    listener: StdListener,
    spec: DoorSpec,
}

/// Starts a node on a thread of its own.
///
/// # Errors
/// [`NodeError`] if its folder or one of its addresses cannot be had; nothing then runs.
pub fn start(spec: NodeSpec) -> Result<NodeHandle, NodeError> {
    let _span = tracing::info_span!(target: TRACE, "start", node = %spec.id).entered();
    let clock = HostClock::new();
    let peer_listener = spec.peer_addr.map(bind).transpose()?;
    let mut bound = Vec::new();
    for door in spec.doors {
        bound.push(Bound { listener: bind(door.addr)?, spec: door });
    }
    let doors = bound.iter().filter_map(|bound| bound.listener.local_addr().ok()).collect();
    let now = clock.now();
    let opening = Opening { cluster: spec.cluster, node: spec.id, seed: spec.seed, log_bytes: spec.log_bytes };
    let opened = verity_replica::open(&spec.disk, opening, now, spec.groups, spec.founder)?;
    for line in opened.torn.iter().chain(&opened.passed_over) {
        tracing::warn!(node = %spec.id, "{line}");
    }
    let (asks, asked) = mpsc::unbounded_channel();
    let pauses = Arc::<Pauses>::default();
    let run = Run {
        clock,
        opened,
        services: spec.services,
        outsides: spec.outsides,
        peer_tls: spec.peer_tls,
        peers: spec.peers,
        disk: spec.disk,
        peer_listener,
        bound,
        neighbours: spec.neighbours,
        meters: spec.meters,
        counts: spec.counts,
        asked,
        pauses: Arc::clone(&pauses),
    };
    let thread = std::thread::Builder::new().name(format!("node-{}", spec.id)).spawn(move || run.run());
    Ok(NodeHandle { id: spec.id, doors, asks, pauses, thread: Some(thread.map_err(NodeError::Start)?) })
}

fn bind(addr: SocketAddr) -> Result<StdListener, NodeError> {
    let listen = || {
        let listener = StdListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|reason| NodeError::Listen { addr, reason })
}

struct Run {
    clock: HostClock,
    opened: Opened,
    services: Vec<ServiceFactory>,
    outsides: Vec<Box<dyn Outside>>,
    peer_tls: Option<PeerTls>,
    peers: BTreeMap<NodeId, String>,
    disk: Arc<dyn Disk>,
    peer_listener: Option<StdListener>,
    bound: Vec<Bound>,
    neighbours: BTreeMap<SocketAddr, NodeId>,
    meters: Vec<Meter>,
    counts: Vec<Count>,
    asked: mpsc::UnboundedReceiver<Ask>,
    pauses: Arc<Pauses>,
}

impl Run {
    fn run(self) -> Result<(), NodeError> {
        // Whatever is logged on the node's threads says whose they are.
        let _span = tracing::error_span!("node", id = %self.opened.identity.node).entered();
        // The node's thread ends here whatever happens on it, so that whoever waits for it is told.
        catch_unwind(AssertUnwindSafe(|| self.run_here()))
            .unwrap_or_else(|panic| Err(NodeError::Fatal(task::told(panic.as_ref()))))
    }

    fn run_here(self) -> Result<(), NodeError> {
        // A `LocalSet` would wake itself through a system call whenever a socket wakes one of its tasks.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(LocalOptions::default()).map_err(NodeError::Start)?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> Result<(), NodeError> {
        let Opened { mut replica, log, snapshots, identity, .. } = self.opened;
        for service in self.services {
            replica.add_service(service(identity.incarnation));
        }
        let (answers, mut answered) = mpsc::unbounded_channel();
        let storage = StorageHandle::start(identity.node, log, snapshots, &answers);
        let outside = OutsideHandle::start(self.outsides, &answers);
        let links = Links::new(identity.node, identity.cluster, self.peer_tls);
        let evidence = Evidence::open(Arc::clone(&self.disk));
        let book = Book::open(identity.node, self.disk, self.peers);
        let peers = book.peers();
        let shared = Shared::new(replica, self.clock, links, storage, outside, (book, evidence), self.neighbours);
        let alarm = shared.alarm();
        if let Some(listener) = self.peer_listener {
            let listener = TcpListener::from_std(listener).map_err(NodeError::Start)?;
            task::spawn(&alarm, peer::accept(shared.clone(), listener));
        }
        for (node, addr) in peers {
            peer::connect(&shared, node, addr);
        }
        for bound in self.bound {
            let listener = TcpListener::from_std(bound.listener).map_err(NodeError::Start)?;
            task::spawn(&alarm, accept(shared.clone(), listener, bound.spec));
        }
        let flusher = shared.clone();
        task::spawn(&alarm, async move { flusher.flusher().await });
        shared.wake();
        let (mut asked, stopping) = (self.asked, shared.stopping());
        let result = loop {
            tokio::select! {
                biased;
                reason = alarm.reason() => break Err(NodeError::Fatal(reason)),
                () = stopping.notified() => {
                    // Whoever asked is answered first.
                    tokio::time::sleep(STOP_WAIT).await;
                    shared.stop_services();
                    shared.with(|core| core.stop_storage());
                    break Ok(());
                }
                answer = answered.recv() => match answer {
                    Some(FromStorage::Input(input)) => shared.input(input),
                    Some(FromStorage::Fatal(reason)) => break Err(NodeError::Fatal(reason)),
                    None => break Err(NodeError::Fatal("the storage threads ended".into())),
                },
                ask = asked.recv() => match ask {
                    None | Some(Ask::Stop { clean: false }) => break Ok(()),
                    Some(Ask::Stop { clean: true }) => {
                        shared.stop_services();
                        shared.with(|core| core.stop_storage());
                        break Ok(());
                    }
                    Some(Ask::Pause(answer)) => {
                        // Whoever asked may have stopped waiting.
                        let _ = answer.send(());
                        self.pauses.stand();
                    }
                    Some(ask) => answer_ask(&shared, &identity, (&self.meters, &self.counts), ask),
                },
            }
        };
        drop(answered);
        result
    }
}

fn answer_ask(shared: &Shared, identity: &Identity, (meters, counts): (&[Meter], &[Count]), ask: Ask) {
    // Whoever asked may have stopped waiting.
    match ask {
        Ask::Status(answer) => {
            let mut status = shared.status(identity);
            let read = |meter: &Meter| Requests { system: meter.system, kind: meter.kind, took: meter.took.read() };
            status.figures.requests = meters.iter().map(read).collect();
            let read = |count: &Count| Counted {
                system: count.system,
                what: count.what,
                count: count.count.load(Ordering::Relaxed),
            };
            status.figures.counts = counts.iter().map(read).collect();
            let _ = answer.send(status);
        }
        Ask::Faults(faults, answer) => {
            shared.set_faults(faults);
            let _ = answer.send(());
        }
        Ask::Group(group, question, answer) => shared.ask(group, question, answer),
        Ask::Transfer(group, to, answer) => {
            let _ = answer.send(shared.with_replica(|replica, now| replica.transfer(now, group, to)));
        }
        Ask::Pause(_) | Ask::Stop { .. } => unreachable!("the loop takes these itself"),
    }
}

async fn accept(shared: Shared, listener: TcpListener, door: DoorSpec) {
    loop {
        match listener.accept().await {
            Ok((tcp, addr)) => {
                // Without it a small reply waits for the client's acknowledgement of the one before.
                let _ = tcp.set_nodelay(true);
                let (alarm, local) = (shared.alarm(), tcp.local_addr().ok());
                let (shared, service, id, tls) = (shared.clone(), ServiceId(door.service), door.door, door.tls.clone());
                task::spawn(&alarm, async move {
                    let (stream, certificate) = match tls {
                        None => (ClientStream::Plain(tcp), None),
                        Some(tls) => match tokio::time::timeout(TLS_WAIT, tls.accept(tcp)).await {
                            Ok(Ok((stream, certificate))) => (ClientStream::Tls(Box::new(stream)), certificate),
                            Ok(Err(error)) => return tracing::debug!(%addr, %error, "TLS handshake failed"),
                            Err(_) => return tracing::debug!(%addr, "TLS handshake took too long"),
                        },
                    };
                    conn::serve(shared, service, id, stream, PeerAddr { addr, local, certificate, dialed: None }).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: let some connections end.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
