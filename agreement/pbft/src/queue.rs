//! Requests that wait to be ordered: a line for each client, bounded, served in turn (Aardvark §4.1).
//!
//! - upon a request that is signed: it joins its client's line, if it was not executed and the line has room; what is due
//!   sooner displaces what is due later. One that its client itself sent may join before its signature was looked at, since it
//!   takes room in that client's line alone: it is open, and stands there for nothing else;
//! - a primary takes one request of each client in turn, each client's in the order of their numbers without a gap, so
//!   that no client starves another, and no primary can reorder a client;
//! - upon an execution: the request and those before it leave;
//! - a backup waits for the first of each line: whoever is passed over while others are served is seen.

use std::collections::{BTreeMap, BTreeSet};

use verity_types::{Mono, Nanos, NodeId};

use crate::message::{REQUEST_OVERHEAD, Request};
use crate::state::Context;

/// The last request of each client that was proposed.
pub(crate) type Ahead = BTreeMap<NodeId, (u64, u64)>;

#[derive(Debug)]
struct Waiting {
    request: Request,
    /// Since when its execution is waited for; none while its client has asked the primary alone.
    since: Option<Mono>,
}

#[derive(Debug, Default)]
struct Line {
    incarnation: u64,
    requests: BTreeMap<u64, Waiting>,
    /// Those whose signatures were not looked at yet.
    open: BTreeSet<u64>,
    bytes: usize,
    /// When a request of this client was last executed.
    served_at: Mono,
}

impl Line {
    fn remove(&mut self, seq: u64) {
        self.open.remove(&seq);
        if let Some(gone) = self.requests.remove(&seq) {
            self.bytes -= cost(&gone.request);
        }
    }
}

fn cost(request: &Request) -> usize {
    request.op.len() + REQUEST_OVERHEAD
}

/// What one client's line may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// All lines.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: BTreeMap<NodeId, Line>,
    /// Whose turn was last.
    last: NodeId,
}

impl Queue {
    /// True if this very request waits, and its signature is known to be sound.
    pub(crate) fn holds(&self, request: &Request) -> bool {
        let line = self.lines.get(&request.client).filter(|line| line.incarnation == request.incarnation);
        let line = line.filter(|line| !line.open.contains(&request.seq));
        line.and_then(|line| line.requests.get(&request.seq)).is_some_and(|waiting| waiting.request == *request)
    }

    /// True if a request of this name would be taken in.
    pub(crate) fn wants(&self, context: &Context, request: &Request, room: Room) -> bool {
        let Some(next) = context.next_of(request.client, request.incarnation) else { return false };
        if request.seq < next || request.seq - next >= room.requests as u64 {
            return false;
        }
        let Some(line) = self.lines.get(&request.client) else { return true };
        if request.incarnation != line.incarnation {
            return request.incarnation > line.incarnation;
        }
        !line.requests.contains_key(&request.seq)
    }

    /// Takes a request in that [`Queue::wants`] wanted and whose signature is sound. One of an earlier life of its client
    /// is none of the line: it would be taken for the next one, again and again.
    pub(crate) fn put(&mut self, request: Request, since: Option<Mono>, room: Room) {
        let line = self.lines.entry(request.client).or_default();
        if request.incarnation < line.incarnation {
            return;
        }
        if request.incarnation > line.incarnation {
            *line = Line { incarnation: request.incarnation, ..Line::default() };
        }
        let seq = request.seq;
        line.remove(seq);
        line.bytes += cost(&request);
        line.requests.insert(seq, Waiting { request, since });
        while line.bytes > room.bytes && line.requests.len() > 1 {
            let last = *line.requests.last_key_value().expect("there are several").0;
            line.remove(last);
        }
    }

    /// Takes in one that its client itself sent and whose signature is still to be looked at.
    pub(crate) fn put_open(&mut self, request: Request, room: Room) {
        let (client, incarnation, seq) = (request.client, request.incarnation, request.seq);
        self.put(request, None, room);
        let line = self.lines.get_mut(&client).filter(|line| line.incarnation == incarnation);
        if let Some(line) = line.filter(|line| line.requests.contains_key(&seq)) {
            line.open.insert(seq);
        }
    }

    /// True if signatures are still to be looked at.
    pub(crate) fn has_open(&self) -> bool {
        self.lines.values().any(|line| !line.open.is_empty())
    }

    /// About so many of those whose signatures are to be looked at: of each client those that are due first.
    pub(crate) fn open(&self, most: usize) -> Vec<Request> {
        let lines = self.lines.values().filter(|line| !line.open.is_empty());
        let each = most.div_ceil(lines.clone().count().max(1));
        lines.flat_map(|line| line.open.iter().take(each).map(|seq| line.requests[seq].request.clone())).collect()
    }

    /// A signature was looked at.
    pub(crate) fn close(&mut self, client: NodeId, seq: u64, sound: bool) {
        let Some(line) = self.lines.get_mut(&client) else { return };
        if sound {
            line.open.remove(&seq);
        } else {
            line.remove(seq);
        }
    }

    /// Whoever leads the next view is sent them again by their clients.
    pub(crate) fn drop_open(&mut self) {
        for line in self.lines.values_mut() {
            std::mem::take(&mut line.open).into_iter().for_each(|seq| line.remove(seq));
        }
    }

    /// From `now` on the execution of this request is waited for, if it waits.
    pub(crate) fn watch(&mut self, now: Mono, client: NodeId, incarnation: u64, seq: u64) {
        let line =
            self.lines.get_mut(&client).filter(|line| line.incarnation == incarnation && !line.open.contains(&seq));
        if let Some(waiting) = line.and_then(|line| line.requests.get_mut(&seq)) {
            waiting.since.get_or_insert(now);
        }
    }

    /// A request of this client was executed.
    pub(crate) fn on_executed(&mut self, now: Mono, client: NodeId, incarnation: u64, seq: u64) {
        let Some(line) = self.lines.get_mut(&client) else { return };
        if incarnation < line.incarnation {
            return;
        }
        line.served_at = now;
        if incarnation > line.incarnation {
            *line = Line { incarnation, served_at: now, ..Line::default() };
        }
        while let Some((first, _)) = line.requests.first_key_value().filter(|(first, _)| **first <= seq) {
            let first = *first;
            line.remove(first);
        }
    }

    /// Other members are in force: the lines of those who are none go.
    pub(crate) fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.lines.retain(|client, _| is_member(*client));
    }

    /// A new view begins: nobody is blamed for what the last one did not do.
    pub(crate) fn start_over(&mut self, now: Mono) {
        for waiting in self.lines.values_mut().flat_map(|line| line.requests.values_mut()) {
            waiting.since = waiting.since.map(|_| now);
        }
    }

    /// How long the client that waits longest has waited for anything of its own that a primary may propose: behind a gap
    /// nothing can be, and a client that leaves one would depose whoever leads.
    pub(crate) fn longest_wait(&self, now: Mono, context: &Context) -> Option<Nanos> {
        let wait = |(client, line): (&NodeId, &Line)| {
            let mut due = context.next_of(*client, line.incarnation)?;
            let row = line.requests.range(due..).take_while(|(seq, _)| {
                due += 1;
                **seq + 1 == due
            });
            let since = row.into_iter().find_map(|(_, waiting)| waiting.since)?;
            Some(now.since(since.max(line.served_at)))
        };
        self.lines.iter().filter_map(wait).max()
    }

    /// All requests whose execution is waited for, to be passed on to a primary.
    pub(crate) fn watched(&self, most: usize) -> impl Iterator<Item = &Request> {
        let watched = self
            .lines
            .values()
            .flat_map(move |line| line.requests.values().filter(|waiting| waiting.since.is_some()).take(most));
        watched.map(|waiting| &waiting.request)
    }

    fn next(&self, client: NodeId, ahead: &Ahead, context: &Context) -> Option<&Request> {
        let line = self.lines.get(&client)?;
        let seq = match ahead.get(&client) {
            Some((incarnation, _)) if *incarnation > line.incarnation => return None,
            Some((incarnation, seq)) if *incarnation == line.incarnation => seq + 1,
            _ => context.next_of(client, line.incarnation)?,
        };
        line.requests.get(&seq).filter(|_| !line.open.contains(&seq)).map(|waiting| &waiting.request)
    }

    /// True if a primary has something to propose.
    pub(crate) fn has_next(&self, ahead: &Ahead, context: &Context) -> bool {
        self.lines.keys().any(|client| self.next(*client, ahead, context).is_some())
    }

    /// The next batch: one request of each client in turn, until `bytes` or `count` is reached.
    pub(crate) fn take(&mut self, ahead: &mut Ahead, context: &Context, bytes: usize, count: usize) -> Vec<Request> {
        let clients: Vec<NodeId> = self.lines.keys().copied().collect();
        let first = clients.partition_point(|client| *client <= self.last);
        let (mut batch, mut size, mut idle, mut at) = (Vec::new(), 0, 0, first);
        while idle < clients.len() && batch.len() < count && (size < bytes || batch.is_empty()) {
            let client = clients[at % clients.len()];
            at += 1;
            match self.next(client, ahead, context) {
                Some(request) if batch.is_empty() || size + cost(request) <= bytes => {
                    size += cost(request);
                    ahead.insert(client, (request.incarnation, request.seq));
                    batch.push(request.clone());
                    self.last = client;
                    idle = 0;
                }
                _ => idle += 1,
            }
        }
        batch
    }

    pub(crate) fn invariants(&self, room: Room) {
        for line in self.lines.values() {
            assert_eq!(line.bytes, line.requests.values().map(|waiting| cost(&waiting.request)).sum::<usize>());
            assert!(line.open.iter().all(|seq| line.requests.contains_key(seq)), "what is open waits");
            assert!(line.requests.len() <= room.requests, "a client has so many requests and no more");
            assert!(line.bytes <= room.bytes || line.requests.len() <= 1, "and so many bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::keys::Sig;

    const ROOM: Room = Room { requests: 8, bytes: 2_000 };

    fn request(client: u64, incarnation: u64, seq: u64) -> Request {
        let op = Bytes::from_static(b"op");
        Request { client: NodeId(client), incarnation, seq, endorses: false, op, sig: Sig([0; 64]) }
    }

    fn names(batch: &[Request]) -> Vec<(u64, u64)> {
        batch.iter().map(|request| (request.client.0, request.seq)).collect()
    }

    #[test]
    fn clients_take_turns_and_keep_their_order() {
        let (mut queue, mut ahead, context) = (Queue::default(), Ahead::default(), Context::default());
        for seq in [3, 1, 2, 5] {
            queue.put(request(1, 1, seq), None, ROOM);
        }
        queue.put(request(2, 1, 1), None, ROOM);
        let batch = queue.take(&mut ahead, &context, 10_000, 3);
        assert_eq!(names(&batch), [(1, 1), (2, 1), (1, 2)], "one who sends much waits for one who sends little");
        assert_eq!(names(&queue.take(&mut ahead, &context, 10_000, 9)), [(1, 3)], "5 waits for 4");
        assert!(!queue.has_next(&ahead, &context));
        queue.put(request(1, 1, 4), None, ROOM);
        assert_eq!(names(&queue.take(&mut ahead, &context, 1, 9)), [(1, 4)], "one, however small the batch");
        queue.invariants(ROOM);
    }

    #[test]
    fn what_is_open_is_neither_proposed_nor_believed() {
        let (mut queue, mut ahead, context) = (Queue::default(), Ahead::default(), Context::default());
        queue.put(request(1, 1, 1), None, ROOM);
        (2..=4).for_each(|seq| queue.put_open(request(1, 1, seq), ROOM));
        queue.put_open(request(2, 1, 1), ROOM);
        assert!(queue.holds(&request(1, 1, 1)) && !queue.holds(&request(1, 1, 2)));
        assert!(!queue.wants(&context, &request(1, 1, 2), ROOM), "it is there");
        queue.watch(Mono(0), NodeId(1), 1, 2);
        assert_eq!((names(&queue.open(4)), queue.watched(9).count()), (vec![(1, 2), (1, 3), (2, 1)], 0));
        assert_eq!(names(&queue.take(&mut ahead, &context, 10_000, 9)), [(1, 1)]);
        queue.close(NodeId(1), 2, true);
        queue.close(NodeId(1), 3, false);
        assert_eq!(names(&queue.take(&mut ahead, &context, 10_000, 9)), [(1, 2)], "4 waits for another 3");
        queue.on_executed(Mono(0), NodeId(2), 1, 1);
        assert_eq!(names(&queue.open(4)), [(1, 4)]);
        queue.put_open(request(1, 2, 1), ROOM);
        assert_eq!(names(&queue.open(4)), [(1, 1)], "the line of a later life");
        queue.drop_open();
        assert!(!queue.has_open() && queue.wants(&context, &request(1, 2, 1), ROOM));
        queue.invariants(ROOM);
    }

    #[test]
    fn what_was_executed_is_not_wanted_and_leaves() {
        let (mut queue, mut context) = (Queue::default(), Context::default());
        assert!(
            context.admit(&request(1, 4, 1)) && !context.admit(&request(1, 4, 1)) && !context.admit(&request(1, 4, 3))
        );
        assert!(!queue.wants(&context, &request(1, 4, 1), ROOM) && !queue.wants(&context, &request(1, 3, 9), ROOM));
        assert!(queue.wants(&context, &request(1, 4, 9), ROOM) && !queue.wants(&context, &request(1, 4, 10), ROOM));
        for seq in 2..=4 {
            queue.put(request(1, 4, seq), Some(Mono(0)), ROOM);
        }
        assert!(queue.holds(&request(1, 4, 2)) && !queue.wants(&context, &request(1, 4, 2), ROOM));
        assert_eq!(queue.longest_wait(Mono(70), &context), Some(Nanos(70)));
        assert!(context.admit(&request(1, 4, 2)) && context.admit(&request(1, 4, 3)));
        queue.on_executed(Mono(50), NodeId(1), 4, 3);
        assert_eq!(queue.longest_wait(Mono(70), &context), Some(Nanos(20)), "who was served waits from then on");
        assert_eq!(queue.watched(9).count(), 1);
        queue.on_executed(Mono(60), NodeId(1), 5, 1);
        assert_eq!(queue.longest_wait(Mono(70), &context), None, "another life of the client");
        queue.invariants(ROOM);
    }

    #[test]
    fn a_request_of_an_earlier_life_is_not_in_the_line_of_a_later_one() {
        let (mut queue, mut ahead, context) = (Queue::default(), Ahead::default(), Context::default());
        queue.put(request(1, 4, 2), None, ROOM);
        queue.put(request(1, 3, 1), None, ROOM);
        assert!(!queue.has_next(&ahead, &context) && queue.take(&mut ahead, &context, 10_000, 9).is_empty());
        queue.invariants(ROOM);
    }

    #[test]
    fn a_client_that_leaves_a_gap_waits_for_nothing() {
        let (mut queue, mut context) = (Queue::default(), Context::default());
        queue.put(request(1, 1, 3), Some(Mono(0)), ROOM);
        assert_eq!(queue.longest_wait(Mono(70), &context), None, "no primary may propose it");
        queue.put(request(1, 1, 1), Some(Mono(20)), ROOM);
        assert_eq!(queue.longest_wait(Mono(70), &context), Some(Nanos(50)));
        assert!(context.admit(&request(1, 2, 1)));
        assert_eq!(queue.longest_wait(Mono(70), &context), None, "nor what a later life of the client has overtaken");
    }

    #[test]
    fn a_line_is_bounded() {
        let mut queue = Queue::default();
        for seq in (1..=8).rev() {
            queue.put(Request { op: Bytes::from(vec![0; 500]), ..request(1, 1, seq) }, None, ROOM);
            queue.invariants(ROOM);
        }
        assert!(queue.holds(&Request { op: Bytes::from(vec![0; 500]), ..request(1, 1, 1) }), "what is due first stays");
        assert!(!queue.wants(&Context::default(), &request(1, 1, 9), ROOM));
    }
}
