//! The lock recipe: three clients queue for one lock by sequential ephemeral nodes.
//!
//! - each client creates `/locks/mylock/lock-<number>` and lists its siblings;
//! - the lowest number holds the lock; every other client watches the one just before it, and only that one;
//! - when a holder deletes its node, or its session ends, exactly one client is woken: the next in line.
//!
//! What the recipe promises is checked while it is shown; a promise that does not hold ends the tour with an error.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use verity_types::NodeId;
use verity_zookeeper::wire::{
    Acl, ConnectBody, ConnectRequest, ConnectResponse, CreateRequest, Decode as _, Encode, EventType, GetDataResponse,
    Id, OpCode, PathOnly, PathVersion, PathWatch, ReplyHeader, RequestHeader, SetDataRequest, Strings, WatcherEvent,
    perms, xid,
};

use crate::cluster::Cluster;
use crate::tour::Stage;

const FOLDER: &str = "/locks/mylock";
/// The shortest session timeout that a server grants.
const TIMEOUT_MS: i32 = 4000;
/// Longer than anything in the tour takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays the recipe on a running cluster.
pub(crate) fn play(cluster: &Cluster, json: bool) -> Result<()> {
    let addr = |id: u64| -> Result<SocketAddr> {
        let endpoints = cluster.endpoints(NodeId(id))?;
        let found = endpoints.into_iter().find(|(name, _)| *name == "zookeeper");
        found.map(|(_, addr)| addr).context("the cluster serves ZooKeeper")
    };
    let stage = Stage::open(json, 9);
    let mut clients = Vec::new();
    for (name, node) in [("client A", 1), ("client B", 2), ("client C", 3)] {
        let client = Client::connect(name, addr(node)?)?;
        stage.say(name, &format!("connected to node {node}"));
        clients.push(client);
    }
    let Ok([mut a, mut b, mut c]) = <[Client; 3]>::try_from(clients) else { bail!("three clients were made") };
    for path in ["/locks", FOLDER] {
        a.create(path, 0)?;
    }
    let mut line = Vec::new();
    for client in [&mut a, &mut b, &mut c] {
        let path = client.create(&format!("{FOLDER}/lock-"), 3)?;
        stage.say(client.name, &format!("created {path}"));
        line.push(path);
    }
    a.sync(FOLDER)?;
    ensure!(a.position(&line[0])? == 0, "the first in line is not the lowest");
    stage.say(a.name, "is the lowest number: A HOLDS THE LOCK");
    for (client, before, mine) in [(&mut b, &line[0], &line[1]), (&mut c, &line[1], &line[2])] {
        client.sync(FOLDER)?;
        let position = client.position(mine)?;
        ensure!(client.watch(before)?, "{before} is gone too early");
        stage.say(client.name, &format!("is number {} in line and watches {before}", position + 1));
    }
    a.delete(&line[0])?;
    stage.say(a.name, &format!("deleted {}: it is done", line[0]));
    b.await_deletion(&line[0])?;
    b.sync(FOLDER)?;
    ensure!(b.position(&line[1])? == 0, "B was woken and is not the lowest");
    stage.say(b.name, "was woken and is the lowest number: B HOLDS THE LOCK");
    ensure!(!c.has_event()?, "C was woken by A's release: a herd");
    stage.say(c.name, "heard nothing: no herd");
    b.die();
    stage.say("client B", "died without a word; its session runs out");
    c.await_deletion(&line[1])?;
    c.sync(FOLDER)?;
    ensure!(c.position(&line[2])? == 0, "C was woken and is not the lowest");
    stage.say(c.name, "was woken by the cleanup and is the lowest number: C HOLDS THE LOCK");
    c.delete(&line[2])?;
    stage.say(c.name, "deleted its node; the line is empty");
    Ok(())
}

/// A small client: one request at a time, events kept as they come.
pub(super) struct Client {
    name: &'static str,
    stream: TcpStream,
    xid: i32,
    events: Vec<(i32, String)>,
}

impl Client {
    pub(super) fn connect(name: &'static str, addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).with_context(|| format!("{name} cannot connect to {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { name, stream, xid: 0, events: Vec::new() };
        let body = ConnectBody { timeout: TIMEOUT_MS, password: Some(&[0; 16]), ..ConnectBody::default() };
        client.send(&ConnectRequest { body, read_only: Some(false) }.to_bytes())?;
        let answer = client.receive()?;
        let answer = ConnectResponse::from_bytes(&answer)?;
        ensure!(answer.body.session != 0, "{name} got no session");
        Ok(client)
    }

    fn send(&mut self, packet: &[u8]) -> Result<()> {
        let mut framed = i32::try_from(packet.len())?.to_be_bytes().to_vec();
        framed.extend_from_slice(packet);
        Ok(self.stream.write_all(&framed)?)
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).with_context(|| format!("{} heard nothing", self.name))?;
        let mut packet = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        self.stream.read_exact(&mut packet)?;
        Ok(packet)
    }

    /// Takes one packet: an event is kept, a reply comes back, a ping's answer is done with.
    fn take(&mut self) -> Result<Option<(ReplyHeader, Vec<u8>)>> {
        const HEADER: usize = 16;
        let packet = self.receive()?;
        let header = ReplyHeader::from_bytes(packet.get(..HEADER).context("a reply has a header")?)?;
        let body = &packet[HEADER..];
        if header.xid == xid::NOTIFICATION {
            let event = WatcherEvent::from_bytes(body)?;
            self.events.push((event.kind, event.path.to_owned()));
            return Ok(None);
        }
        Ok((header.xid != xid::PING).then(|| (header, body.to_vec())))
    }

    fn call(&mut self, op: OpCode, body: &impl Encode) -> Result<(i32, Vec<u8>)> {
        self.xid += 1;
        let mut packet = RequestHeader { xid: self.xid, op: op.number() }.to_bytes();
        body.encode(&mut packet);
        self.send(&packet)?;
        loop {
            if let Some((header, body)) = self.take()? {
                ensure!(header.xid == self.xid, "{} got a reply to another request", self.name);
                return Ok((header.err, body));
            }
        }
    }

    pub(super) fn create(&mut self, path: &str, flags: i32) -> Result<String> {
        let anyone = Acl { perms: perms::ALL, id: Id { scheme: "world", id: "anyone" } };
        let (err, body) =
            self.call(OpCode::Create, &CreateRequest { path, data: Some(&[]), acl: vec![anyone], flags })?;
        ensure!(err == 0, "{} cannot create {path}: error {err}", self.name);
        Ok(PathOnly::from_bytes(&body)?.path.to_owned())
    }

    fn delete(&mut self, path: &str) -> Result<()> {
        let (err, _) = self.call(OpCode::Delete, &PathVersion { path, version: -1 })?;
        ensure!(err == 0, "{} cannot delete {path}: error {err}", self.name);
        Ok(())
    }

    pub(super) fn set(&mut self, path: &str, data: &[u8]) -> Result<()> {
        let (err, _) = self.call(OpCode::SetData, &SetDataRequest { path, data: Some(data), version: -1 })?;
        ensure!(err == 0, "{} cannot set {path}: error {err}", self.name);
        Ok(())
    }

    pub(super) fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let (err, body) = self.call(OpCode::GetData, &PathWatch { path, watch: false })?;
        ensure!(err == 0, "{} cannot read {path}: error {err}", self.name);
        Ok(GetDataResponse::from_bytes(&body)?.data.unwrap_or_default().to_vec())
    }

    pub(super) fn sync(&mut self, path: &str) -> Result<()> {
        let (err, _) = self.call(OpCode::Sync, &PathOnly { path })?;
        ensure!(err == 0, "{} cannot sync: error {err}", self.name);
        Ok(())
    }

    /// How many stand before this node.
    fn position(&mut self, path: &str) -> Result<usize> {
        let (err, body) = self.call(OpCode::GetChildren, &PathWatch { path: FOLDER, watch: false })?;
        ensure!(err == 0, "{} cannot list {FOLDER}: error {err}", self.name);
        let mut names = Strings::from_bytes(&body)?.list;
        names.sort_unstable();
        let mine = path.rsplit('/').next().unwrap_or_default();
        names.iter().position(|name| *name == mine).with_context(|| format!("{path} is not in the line"))
    }

    /// Watches a node; true if it is there.
    fn watch(&mut self, path: &str) -> Result<bool> {
        Ok(self.call(OpCode::Exists, &PathWatch { path, watch: true })?.0 == 0)
    }

    fn await_deletion(&mut self, path: &str) -> Result<()> {
        while self.events.is_empty() {
            // Nothing is asked while waiting, so pings keep the session: one every third of its timeout.
            self.stream.set_read_timeout(Some(Duration::from_millis(u64::try_from(TIMEOUT_MS)? / 3)))?;
            let mut first = [0; 1];
            match self.stream.peek(&mut first) {
                Ok(_) => {
                    self.stream.set_read_timeout(Some(PATIENCE))?;
                    self.take()?;
                }
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    self.send(&RequestHeader { xid: xid::PING, op: OpCode::Ping.number() }.to_bytes())?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let (kind, which) = self.events.remove(0);
        ensure!(kind == EventType::NodeDeleted.number() && which == path, "{} was woken by {which}", self.name);
        Ok(())
    }

    /// True if an event came; a barrier makes sure that one that was due is here.
    fn has_event(&mut self) -> Result<bool> {
        self.sync(FOLDER)?;
        Ok(!self.events.is_empty())
    }

    /// Ends as a killed process would: the socket closes, the session is left to run out.
    fn die(self) {
        drop(self.stream);
    }
}
