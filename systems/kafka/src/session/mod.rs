//! What Kafka's clients talk to.
//!
//! - upon bytes: they are cut into frames and decoded; a frame that nobody can answer ends the connection, as with Kafka;
//! - upon a request: its handler runs as a task ([`task`]), and its answer leaves in the order of the requests;
//! - upon an event of the metadata: the node's image follows, so that metadata are read without asking anybody;
//! - upon an event of a partition: fetches that wait for it look again;
//! - upon a role: the node says to the metadata what it leads (`housekeeping`).
//!
//! Deliberately absent: state that must survive. What a connection knows dies with it, as its client expects.

mod access;
mod admin;
mod budget;
mod call;
mod commands;
mod config;
mod configs;
mod connection;
mod consumer_groups;
mod coordination;
mod dead_letters;
mod deletion;
mod fetch;
mod fetch_sessions;
mod group_admin;
mod groups;
mod housekeeping;
mod list_offsets;
mod markers;
mod metadata;
mod moves;
mod node;
mod offsets;
mod partitions;
mod produce;
mod quotas;
mod sasl;
mod scram;
mod share_acknowledge;
mod share_config;
mod share_fetch;
mod share_groups;
mod share_offsets;
mod share_read;
mod share_sessions;
mod task;
mod telemetry;
#[cfg(test)]
mod tests;
mod tickets;
mod topics;
mod transaction_admin;
mod transactions;
mod versions;

use verity_clock::Now;
use verity_contract::{Gather, Service, SessionInput, SessionOutput};
use verity_types::{ConnId, GroupId};

pub use config::{Config, Listener, Meter, RequestKind};

use crate::machine::cluster::{CHANGED, PARTITIONS};
use crate::wire::{
    ErrorCode, FRAME_SIZE_MAX, Frames, Incoming, RequestError, RequestHeader, Response, decode_request,
    encode_response, unsupported_api_versions,
};
use call::{Call, Reply};
use connection::{Connection, Waiting, written};
use node::{Node, State};
use task::Tasks;

/// All of Kafka's clients on one node.
pub struct Kafka {
    node: Node,
    tasks: Tasks,
    started: bool,
}

impl Kafka {
    /// Before the first client.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { node: Node::new(config), tasks: Tasks::default(), started: false }
    }

    fn input(&mut self, input: SessionInput) {
        let node = self.node.clone();
        let mut state = node.state();
        match input {
            SessionInput::Opened { conn, peer } => {
                let listener = state.config.doors.get(&peer.door).copied().unwrap_or_default();
                let authentication = sasl::Authentication::begin(&peer, listener);
                let known = authentication.is_done();
                let frames = Frames::new(if known { FRAME_SIZE_MAX } else { STRANGER_FRAME_SIZE_MAX });
                state.connections.insert(conn, Connection::new(peer, authentication, frames));
                state.count_connections();
            }
            SessionInput::Bytes { conn, bytes } => {
                let Some(connection) = state.connections.get_mut(&conn) else { return };
                if !connection.closing && connection.frames.push(bytes).is_err() {
                    return hang_up(&mut state, conn);
                }
                drop(state);
                self.take_frames(conn);
            }
            SessionInput::Closed { conn } => {
                state.connections.remove(&conn);
                state.count_connections();
                state.tickets.on_closed(conn);
                state.on_moved(node::ended(conn));
                drop(state);
                share_acknowledge::on_closed(&node, conn);
            }
            SessionInput::Completed { token, result } => {
                state.on_completed(token, result.map(|bytes| (bytes, None)));
            }
            SessionInput::CompletedInFile { token, bytes, range } => {
                state.on_completed(token, Ok((bytes, Some(range))));
            }
            SessionInput::Event { group, topic, bytes } => {
                if group == state.config.cluster {
                    if topic == CHANGED {
                        drop(state);
                        housekeeping::on_changed(&node, &bytes);
                        node.state().on_moved(group);
                    }
                } else if group == state.config.coordinator {
                    drop(state);
                    call::on_coordinator_event(&node, &topic, bytes);
                } else if is_ours(&state, group) {
                    state.on_moved(group);
                }
            }
            SessionInput::Role { group, role } => {
                if !is_ours(&state, group) {
                    return;
                }
                state.roles.insert(group, role);
                state.on_moved(group);
                drop(state);
                housekeeping::on_role(&node, group, role);
            }
            SessionInput::Dialed { .. } | SessionInput::Drained { .. } => unreachable!("nobody asked"),
            SessionInput::Restored { group } => {
                state.on_moved(group);
                drop(state);
                housekeeping::on_restored(&node, group);
            }
            SessionInput::Stopping => {}
            SessionInput::Wake => {
                state.on_wake();
                drop(state);
                if !std::mem::replace(&mut self.started, true) {
                    housekeeping::start(&node);
                }
            }
        }
    }

    /// Decodes frames and begins what may begin.
    fn take_frames(&mut self, conn: ConnId) {
        let node = self.node.clone();
        loop {
            let mut state = node.state();
            let came = state.now.mono;
            let State { connections, out, .. } = &mut *state;
            let Some(connection) = connections.get_mut(&conn) else { return };
            connection.turn(conn, out);
            if connection.authentication.is_done() {
                connection.frames.set_max(FRAME_SIZE_MAX);
            }
            if connection.closing || connection.is_full() {
                break;
            }
            let frame = match connection.frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => {
                    hang_up(&mut state, conn);
                    break;
                }
            };
            let size = frame.len();
            match decode_request(frame) {
                Ok(Incoming::Request(header, request)) => {
                    connection.push(Waiting { header, request, size, came });
                }
                Ok(Incoming::ApiVersionsUnsupported { correlation_id }) => {
                    // The client has asked for nothing before: it waits for this answer.
                    let response = Response::ApiVersions(unsupported_api_versions());
                    let pieces = encode_response(0, correlation_id, &response);
                    out.extend(pieces.into_iter().map(|piece| written(conn, piece)));
                }
                Err(
                    RequestError::UnknownKey(_)
                    | RequestError::UnsupportedVersion { .. }
                    | RequestError::Header(_)
                    | RequestError::Body { .. },
                ) => {
                    hang_up(&mut state, conn);
                    break;
                }
            }
        }
        self.begin(conn);
    }

    /// Begins what may begin on a connection.
    fn begin(&mut self, conn: ConnId) {
        let node = &self.node;
        let mut state = node.state();
        let State { connections, budget, .. } = &mut *state;
        let Some(connection) = connections.get_mut(&conn) else { return };
        loop {
            if connection.next_size().is_some_and(|size| !budget.begin(conn, size)) {
                break;
            }
            let Some((slot, waiting)) = connection.begin() else { break };
            let Waiting { header, request, size, came } = waiting;
            let call = Call::new(connection, conn, &header, size);
            let handle = node.clone();
            self.tasks.spawn(Box::pin(async move {
                let reply = call::answer(&handle, &call, request).await;
                finish(&handle, conn, slot, size, &header, reply);
                handle.state().count_request(header.key, came);
            }));
        }
    }

    /// Runs tasks until all of them wait.
    fn run(&mut self) {
        loop {
            let spawned = std::mem::take(&mut self.node.state().spawned);
            spawned.into_iter().for_each(|task| self.tasks.spawn(task));
            if !self.tasks.run_one() {
                break;
            }
        }
    }

    /// Connections with answers that have just left may have room for what waits.
    fn go_on(&mut self) -> bool {
        let answered = std::mem::take(&mut self.node.state().answered);
        let any = !answered.is_empty();
        for conn in answered {
            self.take_frames(conn);
        }
        any
    }
}

/// Ends a connection at once; what it asked for may still be done.
fn hang_up(state: &mut State, conn: ConnId) {
    let Some(connection) = state.connections.get_mut(&conn) else { return };
    connection.forget_waiting();
    connection.closing = true;
    if connection.is_idle() {
        state.connections.remove(&conn);
        state.count_connections();
        state.out.push(SessionOutput::Close(conn));
    }
}

/// A handler has ended.
fn finish(node: &Node, conn: ConnId, slot: u64, size: usize, header: &RequestHeader, reply: Reply) {
    let mut state = node.state();
    let state = &mut *state;
    state.answered.extend(state.budget.end(size));
    let Some(connection) = state.connections.get_mut(&conn) else { return };
    let pieces = match &reply {
        Reply::Response(response) | Reply::Last(response) => {
            encode_response(header.version, header.correlation_id, response)
        }
        Reply::Nothing | Reply::Close => Vec::new(),
    };
    connection.answer(conn, slot, pieces, &mut state.out);
    if matches!(reply, Reply::Close | Reply::Last(_)) {
        connection.forget_waiting();
        connection.closing = true;
    }
    if connection.closing && connection.is_idle() {
        state.connections.remove(&conn);
        state.count_connections();
        state.out.push(SessionOutput::Close(conn));
    } else {
        state.answered.insert(conn);
    }
}

impl Service for Kafka {
    fn on(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        self.node.state().now = now;
        self.input(input);
        loop {
            self.run();
            if !self.go_on() {
                break;
            }
        }
        out.append(&mut self.node.state().out);
    }

    fn gather(&self, conn: ConnId, bytes: &[u8]) -> Gather {
        let state = self.node.state();
        let open = state.connections.get(&conn).filter(|connection| !connection.closing);
        open.map_or(Gather::all(bytes), |connection| connection.frames.gather(bytes))
    }

    fn invariants(&self) {
        self.node.state().invariants();
    }
}

/// Is it one of Kafka's groups? Other systems on the node have theirs.
fn is_ours(state: &State, group: GroupId) -> bool {
    group == state.config.cluster || group == state.config.coordinator || group.0 >= PARTITIONS
}

/// The largest frame of a client that has not said who it is (`sasl.server.max.receive.size`).
const STRANGER_FRAME_SIZE_MAX: usize = 512 << 10;
const NO_ERROR: i16 = ErrorCode::NONE.0;
