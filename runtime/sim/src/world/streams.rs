//! Streams between nodes, for services that dial.
//!
//! - upon a dial: it takes its time, and then finds the other node, finds nobody, or waits in vain where the network is cut;
//! - upon bytes: they arrive in order. Those that are lost are sent again, which takes longer. Whoever asks hears once all that it
//!   sent has arrived;
//! - upon a cut between the two: what is under way waits for its end. Some streams are given up before;
//! - upon the crash of an end: the other one hears of it, behind what was sent before.
//!
//! Deliberately absent: bounds of what is under way.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use verity_contract::{Door, Peer, SessionInput, SessionOutput};
use verity_replica::{Input, ServiceId};
use verity_types::{ConnId, NodeId, Token};

use super::{Event, MILLI, World};

/// Where nodes meet.
const PORT: u16 = 18_444;
/// A dial that nobody answers is given up after this.
const DIAL_WAIT: u64 = 5_000 * MILLI;
/// Between looks whether a cut is over.
const LOOK: u64 = 20 * MILLI;
/// Some streams bear a cut for less than this.
const PATIENCE_MAX: u64 = 4_000 * MILLI;

/// One end of a stream: whose it is, and what is on its way there.
pub(super) struct End {
    node: usize,
    life: u64,
    other: u64,
    /// When the last of what is under way arrives.
    at: u64,
    /// In order; none for the end.
    under_way: VecDeque<Option<Bytes>>,
    /// It asked to hear once all that it sent has arrived.
    drains: bool,
    /// It is given up at this moment if the cut lasts.
    given_up_at: Option<u64>,
}

/// Where a node of a world is dialled.
pub(crate) fn address(node: NodeId) -> SocketAddr {
    let last = u8::try_from(node.0).expect("a world has few nodes");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), PORT)
}

fn of_service(input: SessionInput) -> Input {
    Input::Session { service: ServiceId(0), input }
}

impl World<'_> {
    fn stream_delay(&mut self) -> u64 {
        let (delay, befallen) = self.network.stream_delay(&mut self.rng);
        self.counts.straggled += u64::from(befallen);
        delay
    }

    pub(super) fn dial(&mut self, node: usize, token: Token, addr: String, door: Door) {
        let (delay, life) = (self.stream_delay(), self.nodes[node].life);
        self.after(delay, Event::Dial { node, life, token, addr, door });
    }

    pub(super) fn on_dial(&mut self, node: usize, life: u64, token: Token, addr: &str, door: Door) {
        if !self.lives(node, life) {
            return;
        }
        let own = self.nodes[node].id;
        let found = self.nodes.iter().position(|other| address(other.id).to_string() == addr);
        let reached = found.filter(|target| !self.network.stalls(own, self.nodes[*target].id));
        let answers = |target: &usize| self.nodes[*target].paused_until <= self.now;
        let Some(target) = reached.filter(answers) else {
            return self.after(DIAL_WAIT, Event::Dialed { node, life, token, opened: None });
        };
        let delay = self.stream_delay();
        if self.nodes[target].running.is_none() {
            return self.after(delay, Event::Dialed { node, life, token, opened: None });
        }
        let (ours, theirs) = (self.next_conn + 1, self.next_conn + 2);
        self.next_conn += 2;
        let at = self.now + delay;
        let end = |node, life, other, at| {
            let under_way = VecDeque::new();
            End { node, life, other, at, under_way, drains: false, given_up_at: None }
        };
        self.streams.insert(ours, end(node, life, theirs, at));
        self.streams.insert(theirs, end(target, self.nodes[target].life, ours, self.now));
        let port = 30_000 + u16::try_from(ours % 30_000).expect("it is small");
        let (from, to) = (SocketAddr::new(address(own).ip(), port), address(self.nodes[target].id));
        let peer = Peer { addr: to, local: Some(from), door, certificate: None };
        self.at(at, Event::Dialed { node, life, token, opened: Some((ours, peer)) });
        let peer = Peer { addr: from, local: Some(to), door, certificate: None };
        self.trace.event(self.now, "meet", target as u64 + 1, from.to_string().as_bytes());
        self.input(target, of_service(SessionInput::Opened { conn: ConnId(theirs), peer }));
    }

    pub(super) fn on_dialed(&mut self, node: usize, life: u64, token: Token, opened: Option<(u64, Peer)>) {
        // Who died in between has no streams any more.
        if !self.lives(node, life) || self.paused(node, || Event::Dialed { node, life, token, opened: opened.clone() })
        {
            return;
        }
        let result = match opened {
            Some((conn, peer)) => Ok((ConnId(conn), peer)),
            None => Err("nobody answers".to_owned()),
        };
        let closed = result.as_ref().is_ok_and(|(conn, _)| !self.streams.contains_key(&conn.0));
        self.trace.event(self.now, "dialed", node as u64 + 1, &[u8::from(result.is_ok())]);
        let conn = result.as_ref().ok().map(|(conn, _)| *conn);
        self.input(node, of_service(SessionInput::Dialed { token, result }));
        if let Some(conn) = conn.filter(|_| closed && self.lives(node, life)) {
            self.input(node, of_service(SessionInput::Closed { conn }));
        }
    }

    /// Carries out what is meant for a stream between nodes; gives back what is for a client.
    pub(super) fn carry_out_stream(&mut self, output: SessionOutput) -> Option<SessionOutput> {
        let (conn, bytes) = match output {
            SessionOutput::Bytes { conn, bytes } if self.streams.contains_key(&conn.0) => (conn, Some(bytes)),
            SessionOutput::Close(conn) if self.streams.contains_key(&conn.0) => (conn, None),
            SessionOutput::Drain { conn, .. } if self.streams.contains_key(&conn.0) => {
                self.streams.entry(conn.0).and_modify(|end| end.drains = true);
                self.look_at_drain(conn.0);
                return None;
            }
            output => return Some(output),
        };
        let other = self.streams.get(&conn.0).map(|end| end.other)?;
        if bytes.is_none() {
            self.streams.remove(&conn.0);
        }
        self.send_on(other, bytes);
        None
    }

    /// Something is on its way to this end.
    fn send_on(&mut self, conn: u64, what: Option<Bytes>) {
        let at = self.now + self.stream_delay();
        let Some(end) = self.streams.get_mut(&conn) else { return };
        end.at = end.at.max(at);
        end.under_way.push_back(what);
        let at = end.at;
        self.at(at, Event::Stream { conn });
    }

    pub(super) fn on_stream(&mut self, conn: u64) {
        let Some(end) = self.streams.get(&conn) else { return };
        let (node, life, other) = (end.node, end.life, end.other);
        if !self.lives(node, life) || self.paused(node, || Event::Stream { conn }) {
            return;
        }
        let far = self.far(conn);
        if far.is_some_and(|far| self.network.stalls(self.nodes[node].id, self.nodes[far].id)) {
            return self.stall(conn);
        }
        let Some(end) = self.streams.get_mut(&conn) else { return };
        end.given_up_at = None;
        let Some(what) = end.under_way.pop_front() else { return };
        self.look_at_drain(other);
        let conn = ConnId(conn);
        match what {
            Some(bytes) => {
                self.trace.event(self.now, "stream", node as u64 + 1, &bytes);
                self.input(node, of_service(SessionInput::Bytes { conn, bytes }));
            }
            None => {
                self.streams.remove(&conn.0);
                self.streams.remove(&other);
                self.trace.event(self.now, "ends", node as u64 + 1, &[]);
                self.input(node, of_service(SessionInput::Closed { conn }));
            }
        }
    }

    /// Tells an end that all it sent has arrived, if it asked.
    fn look_at_drain(&mut self, conn: u64) {
        let Some(other) = self.streams.get(&conn).filter(|end| end.drains).map(|end| end.other) else { return };
        if self.streams.get(&other).is_some_and(|end| end.under_way.is_empty())
            && let Some(end) = self.streams.get_mut(&conn)
        {
            end.drains = false;
            let (node, life) = (end.node, end.life);
            self.after(0, Event::Drained { node, life, conn });
        }
    }

    pub(super) fn on_drained(&mut self, node: usize, life: u64, conn: u64) {
        let there = self.streams.contains_key(&conn);
        if there && self.lives(node, life) && !self.paused(node, || Event::Drained { node, life, conn }) {
            self.input(node, of_service(SessionInput::Drained { conn: ConnId(conn), waiting: 0 }));
        }
    }

    /// The node at the other end, if it has not ended.
    fn far(&self, conn: u64) -> Option<usize> {
        let other = self.streams.get(&conn)?.other;
        self.streams.get(&other).map(|end| end.node)
    }

    fn stall(&mut self, conn: u64) {
        let patience = if self.rng.bool() { self.rng.u64(LOOK..PATIENCE_MAX) } else { u64::MAX / 2 };
        let Some(end) = self.streams.get_mut(&conn) else { return };
        let given_up_at = *end.given_up_at.get_or_insert(self.now + patience);
        if given_up_at > self.now {
            return self.after(LOOK, Event::Stream { conn });
        }
        for conn in [conn, end.other] {
            if let Some(End { node, life, .. }) = self.streams.remove(&conn) {
                self.after(0, Event::Hangup { node, life, conn });
            }
        }
    }

    pub(super) fn on_hangup(&mut self, node: usize, life: u64, conn: u64) {
        if self.lives(node, life) && !self.paused(node, || Event::Hangup { node, life, conn }) {
            self.trace.event(self.now, "gives up", node as u64 + 1, &[]);
            self.input(node, of_service(SessionInput::Closed { conn: ConnId(conn) }));
        }
    }

    /// A node is gone: the other ends of its streams hear of it.
    pub(super) fn end_streams(&mut self, node: usize) {
        let ended = self.streams.iter().filter(|(_, end)| end.node == node).map(|(conn, end)| (*conn, end.other));
        for (conn, other) in ended.collect::<Vec<_>>() {
            self.streams.remove(&conn);
            self.send_on(other, None);
        }
    }
}
