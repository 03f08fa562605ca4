//! Watches meet events.
//!
//! - upon an answered read that asked for a watch: it is registered as of the state that the read saw, since no event
//!   lies between the two;
//! - upon an event: whoever waits is told, in front of every reply that could show the change;
//! - upon setWatches: what happened meanwhile is told, and only the rest is registered; persistent watches are told
//!   each event that the tree still remembers;
//! - upon a snapshot taking the place of the state: the same for all watches of the node, as of the last transaction
//!   that it heard of; and sessions that ended or moved in between close here.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Consistency, Failure};
use verity_types::ConnId;

use super::conn::{Phase, State};
use super::port::Waits;
use super::service::ZooKeeper;
use super::watch::bits;
use crate::machine::{self, Envelope, Reply, SessionInfo, TreeEvent, WatchesAnswer, internal};
use crate::wire::{
    AddWatch, AddWatchMode, Decode as _, Encode as _, ErrorCode, ErrorResponse, EventType, OpCode, PathWatch,
    SetWatches, SetWatches2, WatchRemoval, WatcherType,
};

const PERSISTENT: u8 = bits::PERSISTENT | bits::RECURSIVE;

/// The kind of watch of each list of setWatches.
const LISTS: [u8; 3] = [bits::DATA, bits::EXIST, bits::CHILD];

fn mask_of(kind: WatcherType) -> u8 {
    match kind {
        WatcherType::Children => bits::CHILD,
        WatcherType::Data => bits::DATA | bits::EXIST,
        WatcherType::Any => bits::CHILD | bits::DATA | bits::EXIST | PERSISTENT,
    }
}

impl ZooKeeper {
    /// The tree has an event.
    pub(super) fn on_event(&mut self, now: Now, topic: &Bytes, bytes: &Bytes) {
        match TreeEvent::decode(topic, bytes) {
            Ok(TreeEvent::Node { kind, zxid, path, lock }) => {
                self.zxid = self.zxid.max(zxid);
                for conn in self.watches.fire(kind, path) {
                    if self.conns.get(&conn).is_some_and(|conn| machine::may_read(lock, conn.ids())) {
                        self.tell(conn, kind, path);
                    }
                }
            }
            Ok(TreeEvent::SessionOpened { .. } | TreeEvent::ReconfigWanted { .. }) => {}
            Ok(TreeEvent::ReconfigEnded { version, err }) => self.on_reconfig_ended(now, version, err),
            Ok(TreeEvent::SessionClosed { session }) => {
                let Some(id) = self.seats.get(&session).copied() else { return };
                match self.conns.get_mut(&id) {
                    // One that asked for it is replied to first; until the answer is here, it may have expired instead.
                    Some(conn) if conn.close_issued() => conn.ended = true,
                    _ => self.close(id),
                }
            }
            Ok(TreeEvent::SessionMoved { session, owner }) => {
                if owner != self.config.node
                    && let Some(id) = self.seats.get(&session).copied()
                {
                    self.close(id);
                }
            }
            Err(error) => panic!("the tree's own event does not decode: {error}"),
        }
    }

    /// Whose session has ended is told nothing more: the reply to the read that set the watch may be one of those that
    /// are not written any more.
    fn tell(&mut self, id: ConnId, kind: EventType, path: &[u8]) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.ended) else { return };
        conn.figures.sent += 1;
        self.port.event(id, kind, path);
        self.stats.sent += 1;
        if let Some(count) = usize::try_from(kind.number() - 1).ok().and_then(|at| self.stats.events.get_mut(at)) {
            *count += 1;
        }
    }

    /// A read that asked for a watch is answered.
    pub(super) fn on_watching_read(&mut self, id: ConnId, seq: u64) {
        let Some(slot) = self.conns.get_mut(&id).and_then(|conn| conn.slot(seq)) else { return };
        let State::Done { err, .. } = slot.state else { unreachable!("the caller just answered it") };
        let exists = slot.op == OpCode::Exists.number();
        let bit = match ErrorCode::from_number(err) {
            Some(ErrorCode::Ok) if exists || slot.op == OpCode::GetData.number() => bits::DATA,
            Some(ErrorCode::Ok) => bits::CHILD,
            Some(ErrorCode::NoNode) if exists => bits::EXIST,
            _ => return,
        };
        let envelope = Envelope::decode(&slot.query).expect("this node built it");
        let path = PathWatch::from_bytes(envelope.body).expect("the tree has answered it").path;
        if self.watches.has_room(1) {
            self.watches.add(id, path.as_bytes(), bit);
        } else {
            self.no_room(id, seq);
        }
    }

    /// A watch that cannot be kept is refused, rather than forgotten.
    fn no_room(&mut self, id: ConnId, seq: u64) {
        let zxid = self.zxid;
        let Some(slot) = self.conns.get_mut(&id).and_then(|conn| conn.slot(seq)) else { return };
        slot.state = State::Done { zxid, err: ErrorCode::SystemError.number(), body: Bytes::new() };
    }

    /// A setWatches is answered.
    pub(super) fn on_watches_set(&mut self, id: ConnId, seq: u64) {
        let Some(slot) = self.conns.get_mut(&id).and_then(|conn| conn.slot(seq)) else { return };
        let State::Done { err, body, .. } = &mut slot.state else { unreachable!("the caller just answered it") };
        let body = std::mem::take(body);
        if *err != ErrorCode::Ok.number() {
            return;
        }
        let query = slot.query.clone();
        let envelope = Envelope::decode(&query).expect("this node built it");
        let request = if envelope.op == OpCode::SetWatches.number() {
            SetWatches::from_bytes(envelope.body).map(|r| SetWatches2 {
                relative_zxid: r.relative_zxid,
                data: r.data,
                exist: r.exist,
                child: r.child,
                ..SetWatches2::default()
            })
        } else {
            SetWatches2::from_bytes(envelope.body)
        };
        let request = request.expect("the tree has answered it");
        let lists = [&request.data, &request.exist, &request.child];
        let once: usize = lists.iter().map(|list| list.len()).sum();
        if !self.watches.has_room(once + request.persistent.len() + request.persistent_recursive.len()) {
            return self.no_room(id, seq);
        }
        let answer = WatchesAnswer::from_bytes(&body).expect("the tree answers whole records");
        let due: BTreeSet<(i32, &str)> = answer.due.iter().map(|due| (due.list, due.path)).collect();
        for (list, (paths, bit)) in (0..).zip(lists.into_iter().zip(LISTS)) {
            for path in paths.iter().filter(|path| !due.contains(&(list, path))) {
                self.watches.add(id, path.as_bytes(), bit);
            }
        }
        for (paths, bit) in [(&request.persistent, bits::PERSISTENT), (&request.persistent_recursive, bits::RECURSIVE)]
        {
            paths.iter().for_each(|path| self.watches.add(id, path.as_bytes(), bit));
        }
        self.tell_missed(id, &answer, |_, _| true);
    }

    /// Tells what was missed: each one-time event that `fires` lets through once, then the others in their order.
    fn tell_missed(&mut self, id: ConnId, answer: &WatchesAnswer<'_>, fires: impl Fn(&mut Self, (u8, &[u8])) -> bool) {
        let mut told = BTreeSet::new();
        for due in &answer.due {
            let bit = usize::try_from(due.list).ok().and_then(|list| LISTS.get(list)).expect("there are three lists");
            let kind = EventType::from_number(due.kind).expect("the tree names events");
            if fires(self, (*bit, due.path.as_bytes())) && told.insert((due.kind, due.path)) {
                self.tell(id, kind, due.path.as_bytes());
            }
        }
        for missed in &answer.missed {
            let kind = EventType::from_number(missed.kind).expect("the tree names events");
            self.tell(id, kind, missed.path.as_bytes());
        }
    }

    /// A snapshot took the place of the state.
    pub(super) fn on_restored(&mut self) {
        // What became of a reconfig under way was skipped.
        for (id, _) in std::mem::take(&mut self.reconfigs).into_values() {
            self.close(id);
        }
        for id in self.sorted(|conn| conn.phase == Phase::Open) {
            let conn = &self.conns[&id];
            if !conn.local {
                let query = machine::query(internal::SESSION, &conn.session);
                self.port.read(query, Consistency::Local, Waits::Recheck { conn: id });
            }
            let Some(paths) = self.watches.of(id) else { continue };
            let with = |bit: u8| -> Vec<&str> {
                let some = paths.iter().filter(|(_, set)| *set & bit != 0);
                some.map(|(path, _)| std::str::from_utf8(path).expect("requests name paths in UTF-8")).collect()
            };
            let request = SetWatches2 {
                relative_zxid: self.zxid,
                data: with(bits::DATA),
                exist: with(bits::EXIST),
                child: with(bits::CHILD),
                persistent: with(bits::PERSISTENT),
                persistent_recursive: with(bits::RECURSIVE),
            };
            let op = OpCode::SetWatches2.number();
            let query = Envelope::encode_with(op, conn.session, 0, &conn.ids_encoded, &request.to_bytes());
            self.port.read(query, Consistency::Local, Waits::Restore { conn: id });
        }
    }

    /// What a connection's watches missed while the state jumped.
    pub(super) fn on_missed(&mut self, id: ConnId, result: Result<Bytes, Failure>) {
        if !self.conns.contains_key(&id) {
            return;
        }
        let Ok(answer) = result else { return self.close(id) };
        let reply = Reply::decode(&answer).expect("the tree answers whole heads");
        self.zxid = self.zxid.max(reply.zxid);
        let answer = WatchesAnswer::from_bytes(reply.body).expect("the tree answers whole records");
        self.tell_missed(id, &answer, |this, (bit, path)| this.watches.remove(id, path, bit));
    }

    /// Is the session still this node's?
    pub(super) fn on_rechecked(&mut self, id: ConnId, result: Result<Bytes, Failure>) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Ok(answer) = result else { return self.close(id) };
        let reply = Reply::decode(&answer).expect("the tree answers whole heads");
        self.zxid = self.zxid.max(reply.zxid);
        let here = SessionInfo::from_bytes(reply.body).is_ok_and(|info| info.owner == self.config.node.0.cast_signed());
        if !here && !conn.closing && !conn.read_only {
            self.close(id);
        }
    }

    pub(super) fn add_watch(&mut self, id: ConnId, body: &[u8]) -> (ErrorCode, Bytes) {
        let request = AddWatch::from_bytes(body).ok();
        let Some((path, mode)) = request.and_then(|r| Some((r.path, AddWatchMode::from_number(r.mode)?))) else {
            return (ErrorCode::MarshallingError, Bytes::new());
        };
        if !self.watches.has_room(1) {
            return (ErrorCode::SystemError, Bytes::new());
        }
        let bit = match mode {
            AddWatchMode::Persistent => bits::PERSISTENT,
            AddWatchMode::PersistentRecursive => bits::RECURSIVE,
        };
        self.watches.add(id, path.as_bytes(), bit);
        (ErrorCode::Ok, Bytes::from(ErrorResponse { err: 0 }.to_bytes()))
    }

    /// The kinds that a removal is about, of those that the connection has on the path.
    fn fitting(&self, id: ConnId, body: &[u8]) -> Result<(Bytes, u8), ErrorCode> {
        let request = WatchRemoval::from_bytes(body).map_err(|_| ErrorCode::MarshallingError)?;
        let kind = WatcherType::from_number(request.kind).ok_or(ErrorCode::MarshallingError)?;
        let has = self.watches.get(id, request.path.as_bytes());
        let once = has & mask_of(kind);
        // A persistent watch stands for both kinds, but is only meant if there is no other.
        let mask = if once == 0 { has & PERSISTENT } else { once };
        if mask == 0 { Err(ErrorCode::NoWatcher) } else { Ok((Bytes::copy_from_slice(request.path.as_bytes()), mask)) }
    }

    pub(super) fn check_watches(&mut self, id: ConnId, body: &[u8]) -> (ErrorCode, Bytes) {
        (self.fitting(id, body).map_or_else(|err| err, |_| ErrorCode::Ok), Bytes::new())
    }

    pub(super) fn remove_watches(&mut self, id: ConnId, body: &[u8]) -> (ErrorCode, Bytes) {
        match self.fitting(id, body) {
            Ok((path, mask)) => {
                assert!(self.watches.remove(id, &path, mask), "it was found");
                (ErrorCode::Ok, Bytes::new())
            }
            Err(err) => (err, Bytes::new()),
        }
    }
}
