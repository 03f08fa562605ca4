//! A client's requests, in order.
//!
//! - upon a write: it is proposed at once, behind the session's earlier ones;
//! - upon a read: it runs at once if no earlier write or `sync` is under way, and waits for them otherwise;
//! - upon a write behind a read that waits: the read is proposed as well, in front of the write. Otherwise it could see
//!   what its own client wrote later: the tree is ahead of the replies that are still being delivered;
//! - upon a write behind a linearizable read: it waits, for the same reason;
//! - upon a request of the session alone (watch removal and the like): it takes its turn when all before it are
//!   replied to, or goes through the order as a read does;
//! - upon an answer: replies leave in the order of the requests;
//! - upon a reconfig that the tree takes: the reply waits until the group has the new members, or cannot have them;
//! - upon a write that has no answer: the connection closes, since nobody knows what became of it.
//!
//! Pings and credentials are answered at once, ahead of what waits.

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Consistency, Failure, SessionOutput};
use verity_types::ConnId;

use super::conn::{Kind, Phase, Slot, State, Then};
use super::port::{Waits, Way};
use super::service::ZooKeeper;
use crate::machine::{self, Ensemble, Envelope, REPLY_HEAD, Reply, flags};
use crate::wire::{
    CreateMode, Decode as _, ErrorCode, GetDataResponse, OpCode, PathWatch, Reader, Request, RequestHeader,
    decode_request, xid,
};

/// What kind of request this is, and what follows its answer. `None` for what clients have no right to ask.
fn plan(op: OpCode) -> Option<(Kind, Then)> {
    Some(match op {
        OpCode::Exists | OpCode::GetData | OpCode::GetChildren | OpCode::GetChildren2 => (Kind::Read, Then::Watch),
        OpCode::GetAcl | OpCode::GetEphemerals | OpCode::GetAllChildrenNumber | OpCode::MultiRead => {
            (Kind::Read, Then::Reply)
        }
        OpCode::SetWatches | OpCode::SetWatches2 => (Kind::Read, Then::SetWatches),
        OpCode::Sync => (Kind::Sync, Then::Reply),
        OpCode::Create
        | OpCode::Create2
        | OpCode::CreateContainer
        | OpCode::CreateTtl
        | OpCode::Delete
        | OpCode::DeleteContainer
        | OpCode::SetData
        | OpCode::SetAcl
        | OpCode::Check
        | OpCode::Multi => (Kind::Write, Then::Reply),
        OpCode::Reconfig => (Kind::Write, Then::Reconfig),
        OpCode::CloseSession => (Kind::Write, Then::Close),
        OpCode::AddWatch => (Kind::Act, Then::AddWatch),
        OpCode::CheckWatches => (Kind::Act, Then::CheckWatches),
        OpCode::RemoveWatches => (Kind::Act, Then::RemoveWatches),
        OpCode::Ping
        | OpCode::Auth
        | OpCode::Sasl
        | OpCode::WhoAmI
        | OpCode::Notification
        | OpCode::CreateSession
        | OpCode::Error => return None,
    })
}

/// Does this make an ephemeral node?
fn makes_ephemeral(op: OpCode, body: &[u8]) -> bool {
    fn one(request: &Request<'_>) -> bool {
        match request {
            Request::Create(_, create) => CreateMode::from_number(create.flags).is_some_and(CreateMode::is_ephemeral),
            Request::Multi(list) => list.iter().any(one),
            _ => false,
        }
    }
    matches!(op, OpCode::Create | OpCode::Create2 | OpCode::Multi)
        && decode_request(op.number(), body).is_ok_and(|request| one(&request))
}

impl ZooKeeper {
    /// A packet of a connection that has a session.
    pub(super) fn on_packet(&mut self, now: Now, id: ConnId, packet: &[u8]) {
        let mut reader = Reader::new(packet);
        let Ok(header) = RequestHeader::decode(&mut reader) else { return self.close(id) };
        let body = reader.rest();
        let conn = self.conns.get_mut(&id).expect("the decoder found it");
        assert_eq!(conn.phase, Phase::Open);
        self.stats.received += 1;
        conn.figures.received += 1;
        conn.figures.last_op = Some(header.op);
        let op = OpCode::from_number(header.op);
        match op {
            Some(OpCode::Ping) => return self.on_ping(id),
            Some(OpCode::Auth) => return self.on_auth(id, header.xid, body),
            Some(OpCode::Sasl) => return self.on_sasl(now, id, header.xid, body),
            Some(OpCode::WhoAmI) => return self.on_who_am_i(now, id, header.xid),
            _ => {}
        }
        conn.figures.last_xid = header.xid;
        let Some((op, (mut kind, then))) = op.and_then(|op| Some((op, plan(op)?))) else {
            return self.done(now, id, header.xid, header.op, ErrorCode::Unimplemented, &[]);
        };
        if conn.read_only && matches!(kind, Kind::Write | Kind::Sync) && then != Then::Close {
            return self.done(now, id, header.xid, header.op, ErrorCode::NotReadOnly, &[]);
        }
        if then == Then::Close {
            conn.closing = true;
            if conn.local || conn.read_only {
                kind = Kind::Act;
            }
        }
        if conn.local && self.config.upgrade_local_sessions && makes_ephemeral(op, body) {
            self.upgrade(id);
        }
        let conn = self.conns.get_mut(&id).expect("an upgrade keeps it");
        let query = match kind {
            Kind::Act => Bytes::copy_from_slice(body),
            _ => {
                let mut bits = if conn.local { flags::LOCAL } else { 0 };
                if then == Then::Close {
                    bits |= flags::INTERNAL;
                }
                Envelope::encode_with(header.op, conn.session, bits, &conn.ids_encoded, body)
            }
        };
        let watches = then == Then::Watch && PathWatch::from_bytes(body).is_ok_and(|request| request.watch);
        let then = if then == Then::Watch && !watches { Then::Reply } else { then };
        let slot = Slot { xid: header.xid, op: header.op, at: now.mono, kind, then, query, state: State::Waiting };
        self.enqueue(id, slot);
        self.pump(now, id);
    }

    fn on_ping(&mut self, id: ConnId) {
        self.port.reply(id, xid::PING, self.zxid, ErrorCode::Ok.number(), &[]);
        self.stats.sent += 1;
        self.conns.get_mut(&id).expect("it pinged").figures.sent += 1;
    }

    fn enqueue(&mut self, id: ConnId, slot: Slot) {
        let conn = self.conns.get_mut(&id).expect("the caller found it");
        if slot.state == State::Waiting {
            conn.waiting.push_back(conn.first + conn.slots.len() as u64);
            conn.waiting_writes += usize::from(slot.kind == Kind::Write);
        }
        conn.slots.push_back(slot);
        if conn.slots.len() >= self.config.outstanding_max && !conn.paused {
            conn.paused = true;
            self.port.push(SessionOutput::Pause(id));
        }
    }

    /// A request that is answered already takes its place among the others.
    pub(super) fn done(&mut self, now: Now, id: ConnId, xid: i32, op: i32, err: ErrorCode, body: &[u8]) {
        let body = Bytes::copy_from_slice(body);
        let state = State::Done { zxid: self.zxid, err: err.number(), body };
        let (kind, then, query) = (Kind::Act, Then::Reply, Bytes::new());
        self.enqueue(id, Slot { xid, op, at: now.mono, kind, then, query, state });
        self.flush(now, id);
    }

    /// The session becomes one that all nodes know, in front of the write that needs it.
    fn upgrade(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(&id).expect("the caller found it");
        let (session, timeout_ms) = (conn.session, conn.timeout_ms);
        conn.local = false;
        self.locals.remove(&session);
        self.seats.insert(session, id);
        let command = machine::create_session(session, timeout_ms, &self.password(session));
        self.port.propose(command, Waits::Upgrade { conn: id });
    }

    pub(super) fn on_upgraded(&mut self, id: ConnId, result: Result<Bytes, Failure>) {
        let ok = result.is_ok_and(|answer| Reply::decode(&answer).is_ok_and(|reply| reply.err == 0));
        if !ok {
            self.close(id);
        }
    }

    /// Sends out what may go out.
    fn pump(&mut self, now: Now, id: ConnId) {
        let all_linearizable = self.config.linearizable_reads;
        while let Some(conn) = self.conns.get_mut(&id) {
            let Some(seq) = conn.waiting.front().copied() else { return };
            let at = usize::try_from(seq - conn.first).expect("what waits is in the queue");
            let (kind, then) = (conn.slots[at].kind, conn.slots[at].then);
            let blocks_write = conn.waiting_writes > 0 && conn.remote_reads == 0;
            match kind {
                Kind::Write if conn.linear_reads == 0 => {
                    conn.waiting_writes -= 1;
                    self.issue(id, seq, Way::Write);
                }
                Kind::Sync => self.issue(id, seq, Way::Sync),
                Kind::Read if conn.barriers == 0 => {
                    let linear = (conn.linearizable || all_linearizable) && !conn.read_only;
                    let way = if linear && then != Then::SetWatches { Way::Linearizable } else { Way::Read };
                    self.issue(id, seq, way);
                }
                Kind::Act if at == 0 => {
                    conn.waiting.pop_front();
                    self.act(id, seq);
                    self.flush(now, id);
                }
                Kind::Read | Kind::Act if blocks_write => self.issue(id, seq, Way::Logged),
                Kind::Write | Kind::Read | Kind::Act => return,
            }
        }
    }

    fn issue(&mut self, id: ConnId, seq: u64, way: Way) {
        let conn = self.conns.get_mut(&id).expect("the caller found it");
        if conn.waiting.front() == Some(&seq) {
            conn.waiting.pop_front();
        }
        match way {
            Way::Write | Way::Logged => conn.barriers += 1,
            Way::Sync => (conn.barriers, conn.remote_reads) = (conn.barriers + 1, conn.remote_reads + 1),
            Way::Linearizable => {
                (conn.linear_reads, conn.remote_reads) = (conn.linear_reads + 1, conn.remote_reads + 1);
            }
            Way::Read => {}
        }
        let (session, bits) = (conn.session, if conn.local { flags::LOCAL } else { 0 });
        let slot = conn.slot(seq).expect("the caller found it");
        slot.state = State::Issued;
        let query = match slot.kind {
            // Only its place in the order matters.
            Kind::Act => Envelope::encode_with(OpCode::Sync.number(), session, bits, &[0], &[0; 4]),
            _ => slot.query.clone(),
        };
        let waits = Waits::Slot { conn: id, seq, way };
        match way {
            Way::Write | Way::Logged => self.port.propose(query, waits),
            Way::Sync | Way::Linearizable => self.port.read(query, Consistency::Linearizable, waits),
            Way::Read => self.port.read(query, Consistency::Local, waits),
        }
    }

    /// A request is answered.
    pub(super) fn on_slot(&mut self, now: Now, id: ConnId, seq: u64, way: Way, result: Result<Bytes, Failure>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match way {
            Way::Write | Way::Logged => conn.barriers -= 1,
            Way::Sync => (conn.barriers, conn.remote_reads) = (conn.barriers - 1, conn.remote_reads - 1),
            Way::Linearizable => {
                (conn.linear_reads, conn.remote_reads) = (conn.linear_reads - 1, conn.remote_reads - 1);
            }
            Way::Read => {}
        }
        let in_front = conn.first == seq;
        let slot = conn.slot(seq).expect("slots stay until they are answered");
        assert_eq!(slot.state, State::Issued);
        let then = slot.then;
        let state = match (result, way) {
            (Ok(_), Way::Linearizable) if !in_front && then != Then::Reply => {
                // Its watch could fire before its reply, which would have to wait for an earlier one. Ask again.
                return self.issue(id, seq, Way::Linearizable);
            }
            (Ok(answer), _) => {
                let reply = Reply::decode(&answer).expect("the tree answers whole heads");
                self.zxid = self.zxid.max(reply.zxid);
                if then == Then::Close && reply.err != 0 {
                    // It expired before: nothing that it asked for since may be answered.
                    return self.close(id);
                }
                if then == Then::Reconfig && reply.err == 0 {
                    return self.on_taken(now, id, seq, answer.slice(REPLY_HEAD..));
                }
                State::Done { zxid: reply.zxid, err: reply.err, body: answer.slice(REPLY_HEAD..) }
            }
            (Err(_), Way::Write | Way::Logged) => return self.close(id),
            (Err(_), _) => {
                State::Done { zxid: self.zxid, err: ErrorCode::OperationTimeout.number(), body: Bytes::new() }
            }
        };
        slot.state = state;
        match then {
            Then::Watch => self.on_watching_read(id, seq),
            Then::SetWatches => self.on_watches_set(id, seq),
            Then::AddWatch | Then::CheckWatches | Then::RemoveWatches => self.act(id, seq),
            Then::Close => conn.ended = false,
            Then::Reply | Then::Reconfig => {}
        }
        self.settle(now, id);
    }

    /// The tree has taken a reconfig.
    fn on_taken(&mut self, now: Now, id: ConnId, seq: u64, body: Bytes) {
        let response = GetDataResponse::from_bytes(&body).expect("the tree answers whole records");
        let text = std::str::from_utf8(response.data.unwrap_or_default()).expect("the tree writes text");
        let version = Ensemble::parse(text).expect("the tree writes ensembles").version;
        let slot = self.conns.get_mut(&id).and_then(|conn| conn.slot(seq)).expect("the caller found it");
        slot.state = State::Taken { body };
        self.reconfigs.insert(version, (id, seq));
        self.settle(now, id);
    }

    /// A reconfig is settled.
    pub(super) fn on_reconfig_ended(&mut self, now: Now, version: i64, err: i32) {
        let Some((id, seq)) = self.reconfigs.remove(&version) else { return };
        let Some(slot) = self.conns.get_mut(&id).and_then(|conn| conn.slot(seq)) else { return };
        let State::Taken { body } = &slot.state else { unreachable!("nothing else answers it") };
        let body = if err == 0 { body.clone() } else { Bytes::new() };
        slot.state = State::Done { zxid: self.zxid, err, body };
        self.settle(now, id);
    }

    /// Writes the replies that are next.
    pub(super) fn flush(&mut self, now: Now, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.ended) else { return };
        while let Some(Slot { state: State::Done { .. }, .. }) = conn.slots.front() {
            let slot = conn.slots.pop_front().expect("it was looked at");
            conn.first += 1;
            let State::Done { zxid, err, body } = slot.state else { unreachable!("it was looked at") };
            // Zxids never go back along a connection. A barrier may have seen more than the writes behind it.
            let overtaken = |later: &Slot| later.kind == Kind::Write && later.state != State::Waiting;
            let barrier = slot.kind == Kind::Sync && conn.slots.iter().any(overtaken);
            conn.zxid = if barrier { conn.zxid } else { zxid.max(conn.zxid) };
            let size = self.port.reply(id, slot.xid, conn.zxid, err, &body);
            self.stats.replied(size);
            let took = now.mono.since(slot.at);
            if let Some(meter) = &self.config.meter {
                meter.answered(slot.kind == Kind::Write, took);
            }
            let millis = took.as_millis();
            self.stats.latency.add(millis);
            match slot.kind {
                Kind::Write => self.stats.write_latency.add(millis),
                Kind::Read | Kind::Sync | Kind::Act => self.stats.read_latency.add(millis),
            }
            conn.figures.sent += 1;
            conn.figures.latency.add(millis);
            conn.figures.last_latency_ms = millis;
            conn.figures.last_reply_ms = now.mono.0 / 1_000_000;
            if slot.then == Then::Close {
                if conn.local {
                    self.locals.remove(&conn.session);
                }
                return self.close(id);
            }
        }
        if conn.paused && conn.slots.len() <= self.config.outstanding_max / 2 {
            conn.paused = false;
            self.port.push(SessionOutput::Resume(id));
        }
    }

    /// Replies, sends out and decodes until nothing of it is left to do.
    pub(super) fn settle(&mut self, now: Now, id: ConnId) {
        loop {
            self.flush(now, id);
            self.pump(now, id);
            if !self.take_kept(now, id) {
                return;
            }
        }
    }

    /// Answers a request of the session alone.
    fn act(&mut self, id: ConnId, seq: u64) {
        let zxid = self.zxid;
        let conn = self.conns.get_mut(&id).expect("the caller found it");
        let slot = conn.slot(seq).expect("the caller found it");
        let (then, body) = (slot.then, std::mem::take(&mut slot.query));
        let (err, answer) = match then {
            Then::AddWatch => self.add_watch(id, &body),
            Then::CheckWatches => self.check_watches(id, &body),
            Then::RemoveWatches => self.remove_watches(id, &body),
            Then::Close => (ErrorCode::Ok, Bytes::new()),
            Then::Reply | Then::Watch | Then::SetWatches | Then::Reconfig => unreachable!("the tree answers these"),
        };
        let conn = self.conns.get_mut(&id).expect("acts keep their connection");
        let slot = conn.slot(seq).expect("acts keep their slot");
        slot.state = State::Done { zxid, err: err.number(), body: answer };
    }
}
