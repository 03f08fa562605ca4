//! A run of Kafka: the clients and the laws of the simulator's worlds, over sockets, against real processes.
//!
//! - every client has one connection at a time, and a thread that reads it; one thread hands all of them what comes;
//! - faults come as the seed draws them: a kill with a cut, a stop with a cut, and now and then all nodes at once;
//! - behind the last one the cluster is made whole, the clients finish, and readers read everything once more from offset 0;
//! - upon clients that are not done within [`FINISH_WAIT`]: something is stuck, and that is the verdict.
//!
//! Deliberately absent: clients and laws; `verity-sim` has them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use fastrand::Rng;
use verity_contract::Agreement;
use verity_sim::{ClientId, ClientInput, ClientOutput, KafkaClients, Workload};

use crate::cluster::{Cluster, LabDisk, NODES};
use crate::nemesis::{Faults, Nemesis};
use crate::run::{CALM, Options};

/// How many clients there are: of each kind as many.
const CLIENTS: usize = 12;
/// How often a client asks for something.
const PACE: Duration = Duration::from_millis(4);
/// In one of so many phases all nodes are killed at once, rather than one.
const BLACKOUT_EVERY: usize = 4;
/// Clients of a whole cluster finish within this.
const FINISH_WAIT: Duration = Duration::from_secs(90);
/// A connection is there within this, and takes what is written within this.
const SOCKET_WAIT: Duration = Duration::from_secs(1);

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Requests that were answered without an error.
    pub acknowledged: u64,
    /// What was done to the cluster.
    pub faults: Faults,
    /// The law that was broken, if one was.
    pub verdict: Result<(), String>,
}

/// Runs it.
///
/// # Errors
/// When the cluster does not come back, or a process ends by itself.
pub fn run(options: &Options) -> Result<Outcome> {
    let mut rng = Rng::with_seed(options.seed);
    let cluster = Cluster::start(options, &mut rng)?;
    let mut nemesis = Nemesis::new(&cluster, rng.fork());
    let mut load = Load::new(&cluster, rng.fork());
    let (broken, whole) = (AtomicBool::new(false), AtomicBool::new(false));
    let driven = scope(|scope| {
        let driver = scope.spawn(|| load.run(&whole, &broken));
        let faults = (0..options.phases).try_for_each(|phase| {
            let done = break_things(&mut nemesis, options, phase).with_context(|| format!("phase {phase}"));
            done.and_then(|()| cluster.check_alive())
        });
        let faults = faults.and_then(|()| cluster.repair());
        // Without a whole cluster nobody is to wait for clients.
        if faults.is_err() { &broken } else { &whole }.store(true, Ordering::Relaxed);
        let finished = driver.join().expect("the driver does not panic");
        faults.map(|()| finished)
    });
    let finished = driven?;
    let verdict = if finished { load.clients.judge() } else { Err("stuck: clients do not finish".to_owned()) };
    Ok(Outcome { acknowledged: load.clients.acknowledged(), faults: nemesis.faults, verdict })
}

fn break_things(nemesis: &mut Nemesis<'_>, options: &Options, phase: usize) -> Result<()> {
    sleep(CALM);
    if options.disk == LabDisk::Forgetful {
        nemesis.kill_all()?;
        sleep(CALM);
        return Ok(());
    }
    nemesis.stop_and_cut()?;
    sleep(CALM);
    if phase % BLACKOUT_EVERY == BLACKOUT_EVERY - 1 {
        nemesis.kill_all()?
    } else {
        nemesis.kill_and_cut()?
    }
    sleep(CALM);
    nemesis.kill_and_cut()
}

/// What a connection's thread tells. Connections of a client are counted, and an older one is not listened to.
type Heard = (usize, u64, ClientInput);

struct Load {
    addresses: Vec<SocketAddr>,
    clients: KafkaClients,
    rng: Rng,
    began: Instant,
    heard: Receiver<Heard>,
    tell: Sender<Heard>,
    connections: Vec<Connection>,
    /// When who wants to be woken.
    wakes: BTreeSet<(u64, usize)>,
}

#[derive(Default)]
struct Connection {
    number: u64,
    stream: Option<TcpStream>,
    /// The thread that connects hands the stream over here.
    coming: Option<Receiver<TcpStream>>,
}

impl Load {
    fn new(cluster: &Cluster, rng: Rng) -> Self {
        let (tell, heard) = channel();
        let pace = u64::try_from(PACE.as_nanos()).unwrap_or(u64::MAX);
        let clients =
            KafkaClients::new(|_, _, _| Err::<Box<dyn Agreement>, _>("clients only".to_owned()), NODES, CLIENTS, pace);
        Self {
            addresses: (0..NODES).map(|node| cluster.clients(node)).collect(),
            connections: (0..clients.clients()).map(|_| Connection::default()).collect(),
            wakes: (0..clients.clients()).map(|client| (0, client)).collect(),
            clients,
            rng,
            began: Instant::now(),
            heard,
            tell,
        }
    }

    /// Drives all clients until they are done, once `whole` says that they may finish. False if they do not, or if
    /// `broken` says that there is no point.
    fn run(&mut self, whole: &AtomicBool, broken: &AtomicBool) -> bool {
        let mut winding_down = None;
        loop {
            if broken.load(Ordering::Relaxed) {
                return false;
            }
            if winding_down.is_none() && whole.load(Ordering::Relaxed) {
                winding_down = Some(Instant::now());
                self.clients.wind_down(self.now());
            }
            if let Some(since) = winding_down {
                if self.clients.is_done() {
                    return true;
                }
                if since.elapsed() > FINISH_WAIT {
                    return false;
                }
            }
            let now = self.now();
            while let Some((at, client)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
                self.wakes.remove(&(at, client));
                self.input(client, ClientInput::Wake);
            }
            let next = self.wakes.first().map_or(PACE, |(at, _)| Duration::from_nanos(at.saturating_sub(now)));
            match self.heard.recv_timeout(next.min(PACE)) {
                Ok((client, number, input)) if self.connections[client].number == number => self.input(client, input),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn input(&mut self, client: usize, input: ClientInput) {
        let connection = &mut self.connections[client];
        match input {
            ClientInput::Connected => {
                connection.stream = connection.coming.take().and_then(|coming| coming.try_recv().ok())
            }
            ClientInput::Disconnected => connection.stream = None,
            ClientInput::Wake | ClientInput::Bytes(_) => {}
        }
        let (now, mut out) = (self.now(), Vec::new());
        self.clients.on_client(ClientId(client), now, input, &mut self.rng, &mut out);
        for output in out {
            match output {
                ClientOutput::Connect(node, _) => self.connect(client, node.0),
                ClientOutput::Bytes(bytes) => self.connections[client].write(&bytes),
                ClientOutput::Disconnect => self.connections[client].end(),
                ClientOutput::Wake(at) => {
                    self.wakes.insert((at, client));
                }
            }
        }
    }

    fn connect(&mut self, client: usize, node: u64) {
        let connection = &mut self.connections[client];
        connection.end();
        let (hand, coming) = channel();
        connection.coming = Some(coming);
        let place = usize::try_from(node).expect("a node's number is small") - 1;
        let (number, tell, address) = (connection.number, self.tell.clone(), self.addresses[place]);
        // It ends with its connection, which ends with the run at the latest.
        spawn(move || {
            let tell = |input| tell.send((client, number, input)).is_ok();
            let opened = TcpStream::connect_timeout(&address, SOCKET_WAIT).and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(SOCKET_WAIT))?;
                Ok((stream.try_clone()?, stream))
            });
            if let Ok((stream, mut reader)) = opened
                && hand.send(stream).is_ok()
                && tell(ClientInput::Connected)
            {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = reader.read(&mut bytes) {
                    if !tell(ClientInput::Bytes(Bytes::copy_from_slice(&bytes[..count]))) {
                        return;
                    }
                }
            }
            tell(ClientInput::Disconnected);
        });
    }
}

impl Connection {
    /// Nothing more is heard from it.
    fn end(&mut self) {
        self.number += 1;
        self.coming = None;
        if let Some(stream) = self.stream.take() {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        // Whoever reads the connection hears that it has ended.
        if let Some(stream) = &mut self.stream
            && stream.write_all(bytes).is_err()
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.connections.iter_mut().for_each(Connection::end);
    }
}
