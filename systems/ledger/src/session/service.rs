//! All connections of one node: what comes in, and where it goes.

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Channel, Consistency, Failure, Service, SessionInput, SessionOutput};
use verity_http::{Event, Limits, Message, Refusal, Request, RequestNumber, Response, Server};
use verity_types::{ConnId, Mono, Nanos, Token};

use super::calls::{Batches, Call, Delivery, Way, json_response};
use super::config::Config;
use super::methods::{Broadcast, METHODS, Wish, spec, wish};
use super::params;
use super::signer::Signer;
use super::subscriptions::Subscriptions;
use super::transactions::{Waiters, committed, no_outcome};
use crate::machine::{BlockMade, Command, Proposed, Query, Reply, Topic, decode_answer};
use crate::outside::{MEMPOOL, QUERY, decode_beside};
use crate::wire::{CheckTx, Hash, Id, Request as Rpc, RpcError, base64, hex_upper, refusal, sha256, socket};

/// How often the state is asked for what is not signed, and silent connections are looked at.
const TICK: Nanos = Nanos::from_millis(1_000);
/// `defaultWSPingPeriod`.
const PING_EVERY: Nanos = Nanos::from_millis(27_000);
/// A connection that says nothing this long is closed; a WebSocket answers pings before.
const SILENCE_MAX: Nanos = Nanos::from_millis(60_000);
/// Requests of one batch.
const BATCH_MAX: usize = 100;
/// `genesisChunkSize`.
const GENESIS_CHUNK: usize = 16 << 20;
/// `TMCoreSemVer` of the version whose protocol this is.
const VERSION: &str = "0.38.17";

/// One connection.
struct Conn {
    server: Server,
    heard: Mono,
    pinged: Mono,
}

/// What an answer of the replica is for.
#[derive(Debug)]
enum Waiting {
    Ask(Call),
    Status(Call),
    Tx(Call, Broadcast, Hash, Option<CheckTx>),
    Commit(u64, Hash, Option<CheckTx>),
    /// An application in another process checks a transaction.
    Check(Call, Broadcast, Bytes),
    /// It is asked for something else.
    App(Call, AppAsk),
    Vote,
    Unsigned,
    Events,
    Results(u64, BTreeMap<u32, Vec<u64>>),
}

/// What an application in another process is asked beside transactions.
#[derive(Clone, Copy, Debug)]
enum AppAsk {
    Info,
    Query,
    CheckTx,
}

/// The service of one node.
pub struct LedgerService {
    config: Config,
    signer: Signer,
    conns: BTreeMap<ConnId, Conn>,
    batches: Batches,
    subscriptions: Subscriptions,
    waiters: Waiters,
    waiting: BTreeMap<Token, Waiting>,
    tokens: u64,
    genesis: String,
    wake_at: Option<Mono>,
    next_tick: Mono,
}

impl LedgerService {
    /// A node without connections.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let signer = Signer::new(config.key, config.genesis.chain_id.clone());
        let genesis = config.genesis.to_json();
        Self {
            config,
            signer,
            conns: BTreeMap::new(),
            batches: Batches::default(),
            subscriptions: Subscriptions::default(),
            waiters: Waiters::default(),
            waiting: BTreeMap::new(),
            tokens: 0,
            genesis,
            wake_at: None,
            next_tick: Mono(0),
        }
    }

    fn token(&mut self, waiting: Waiting) -> Token {
        self.tokens += 1;
        self.waiting.insert(Token(self.tokens), waiting);
        Token(self.tokens)
    }

    fn propose(&mut self, command: &Command, waiting: Waiting, out: &mut Vec<SessionOutput>) {
        let (token, group) = (self.token(waiting), self.config.group);
        out.push(SessionOutput::Propose { token, group, command: command.encode() });
    }

    fn read(&mut self, query: &Query, waiting: Waiting, out: &mut Vec<SessionOutput>) {
        let linearizable = self.config.linearizable_reads && matches!(waiting, Waiting::Ask(_) | Waiting::Status(_));
        let consistency = if linearizable { Consistency::Linearizable } else { Consistency::Local };
        let (token, group) = (self.token(waiting), self.config.group);
        out.push(SessionOutput::Read { token, group, query: query.encode(), consistency });
    }

    /// Carries out what a connection's framing puts out.
    fn pump(&mut self, now: Now, id: ConnId, out: &mut Vec<SessionOutput>) {
        while let Some(event) = self.conns.get_mut(&id).and_then(|conn| conn.server.poll()) {
            match event {
                Event::Write(bytes) => out.push(SessionOutput::Bytes { conn: id, bytes }),
                Event::Close => {
                    self.forget(id);
                    out.push(SessionOutput::Close(id));
                }
                Event::Pause => out.push(SessionOutput::Pause(id)),
                Event::Resume => out.push(SessionOutput::Resume(id)),
                Event::Request(request) => self.on_request(now, id, &request, out),
                Event::Upgrade(upgrade) => self.on_upgrade(id, &upgrade.request),
                Event::Message(Message::Text(text)) => self.on_message(now, id, text.as_bytes(), out),
                Event::Message(Message::Binary(bytes)) => self.on_message(now, id, &bytes, out),
                Event::Message(_) | Event::Refuse(_) => {}
            }
        }
    }

    fn forget(&mut self, id: ConnId) {
        self.conns.remove(&id);
        self.batches.forget(id);
        self.waiters.forget(id);
        let _ = self.subscriptions.unsubscribe_all(id);
    }

    fn respond(&mut self, id: ConnId, number: RequestNumber, response: Response) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.server.respond(number, response);
        }
    }

    fn may_call(&self, request: &Request) -> bool {
        self.config.any_origin || request.is_rebind_safe()
    }

    fn on_upgrade(&mut self, id: ConnId, request: &Request) {
        let refused = match (self.may_call(request), &*request.path) {
            (false, _) => Response::new(403).body("text/plain", "this Host or Origin may not call the node\n"),
            (true, "/websocket") => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.server.accept_websocket(request.number, None);
                }
                return;
            }
            _ => Response::new(404).body("text/plain; charset=utf-8", "404 page not found\n"),
        };
        self.respond(id, request.number, refused);
    }

    fn on_request(&mut self, now: Now, id: ConnId, request: &Request, out: &mut Vec<SessionOutput>) {
        let number = request.number;
        if !self.may_call(request) {
            let response = Response::new(403).body("text/plain", "this Host or Origin may not call the node\n");
            return self.respond(id, number, response);
        }
        match request.path.strip_prefix('/') {
            Some("") if request.body.is_empty() => self.respond(id, number, endpoints(&request.authority)),
            Some("") => self.on_json(now, id, number, &request.body, out),
            Some(method) if METHODS.iter().any(|(name, _)| *name == method) => {
                self.on_uri(now, id, request, method, out);
            }
            _ => {
                let response = Response::new(404).body("text/plain; charset=utf-8", "404 page not found\n");
                self.respond(id, number, response);
            }
        }
    }

    fn on_uri(&mut self, now: Now, id: ConnId, request: &Request, method: &str, out: &mut Vec<SessionOutput>) {
        let number = request.number;
        let Some(spec) = spec(method, false) else {
            let body = refusal(&Id::Number(-1), &RpcError::method_not_found());
            return self.respond(id, number, json_response(404, body));
        };
        self.batches.open(id, number, 1, true);
        let call = Call { conn: id, id: Id::Number(-1), way: Way::Http(number, 0) };
        match params::from_uri(spec, request.query.as_deref().unwrap_or_default()) {
            Ok(mut params) => self.on_wish(now, call, wish(method, &mut params), out),
            Err(why) => self.answer(&call, Err(RpcError::invalid_params(why))),
        }
    }

    fn on_json(&mut self, now: Now, id: ConnId, number: RequestNumber, body: &[u8], out: &mut Vec<SessionOutput>) {
        let parsed = Rpc::parse_list(body).unwrap_or_else(|| Rpc::parse(body).map(|one| vec![one]));
        let requests: Vec<Rpc> = match parsed {
            Ok(requests) if requests.len() > BATCH_MAX => {
                let why = format!("batch request exceeds maximum ({BATCH_MAX}) allowed number of requests");
                let body = refusal(&Id::None, &RpcError::invalid_request(why));
                return self.respond(id, number, json_response(200, body));
            }
            Ok(requests) => requests.into_iter().filter(|request| request.id.is_some()).collect(),
            Err(error) => {
                let body = refusal(&Id::None, &RpcError::parse(error.to_string()));
                return self.respond(id, number, json_response(500, body));
            }
        };
        if requests.is_empty() {
            return self.respond(id, number, Response::new(200));
        }
        self.batches.open(id, number, requests.len(), false);
        for (at, request) in requests.into_iter().enumerate() {
            let call = Call { conn: id, id: request.id.unwrap_or(Id::None), way: Way::Http(number, at) };
            self.on_rpc(now, call, &request.method, &request.params, false, out);
        }
    }

    fn on_message(&mut self, now: Now, id: ConnId, bytes: &[u8], out: &mut Vec<SessionOutput>) {
        let call = |name| Call { conn: id, id: name, way: Way::Socket };
        match Rpc::parse(bytes) {
            Ok(Rpc { id: Some(name), method, params }) => self.on_rpc(now, call(name), &method, &params, true, out),
            Ok(_) => {}
            Err(error) => self.answer(&call(Id::None), Err(RpcError::parse(error.to_string()))),
        }
    }

    fn on_rpc(
        &mut self,
        now: Now,
        call: Call,
        method: &str,
        params: &str,
        by_socket: bool,
        out: &mut Vec<SessionOutput>,
    ) {
        let Some(spec) = spec(method, by_socket) else {
            return self.answer(&call, Err(RpcError::method_not_found()));
        };
        match params::from_request(spec, params) {
            Ok(mut params) => self.on_wish(now, call, wish(method, &mut params), out),
            Err(why) if by_socket => self.answer(&call, Err(RpcError::internal(why))),
            Err(why) => self.answer(&call, Err(RpcError::invalid_params(why))),
        }
    }

    fn on_wish(&mut self, now: Now, call: Call, wish: Wish, out: &mut Vec<SessionOutput>) {
        let result = match wish {
            Wish::Ask(query) if self.config.external && self.ask_app(&call, &query, out) => return,
            Wish::Ask(query) => return self.read(&query, Waiting::Ask(call), out),
            Wish::Status => return self.read(&Query::Status, Waiting::Status(call), out),
            Wish::Broadcast(kind, tx) if self.config.external => {
                let request = socket::check_tx(&tx);
                return self.call(MEMPOOL, request, Waiting::Check(call, kind, tx), out);
            }
            Wish::Broadcast(kind, tx) => return self.broadcast(now, call, kind, tx, None, out),
            Wish::Health => Ok("{}".to_owned()),
            Wish::NetInfo => Ok(self.net_info()),
            Wish::Genesis => Ok(format!("{{\"genesis\":{}}}", self.genesis)),
            Wish::GenesisChunk(chunk) => self.genesis_chunk(chunk),
            Wish::Subscribe(query) => {
                let done = self.subscriptions.subscribe(call.conn, call.id.clone(), query);
                done.map(|()| "{}".to_owned())
            }
            Wish::Unsubscribe(query) => self.subscriptions.unsubscribe(call.conn, &query).map(|()| "{}".to_owned()),
            Wish::UnsubscribeAll => self.subscriptions.unsubscribe_all(call.conn).map(|()| "{}".to_owned()),
        };
        self.answer(&call, result.map_err(RpcError::internal));
    }

    fn call(&mut self, channel: Channel, ask: Bytes, waiting: Waiting, out: &mut Vec<SessionOutput>) {
        let token = self.token(waiting);
        out.push(SessionOutput::Call { token, channel, ask });
    }

    /// Asks an application in another process what the ledger does not know; false if the ledger knows it.
    fn ask_app(&mut self, call: &Call, query: &Query, out: &mut Vec<SessionOutput>) -> bool {
        let (channel, request, ask) = match query {
            Query::AbciInfo => (QUERY, socket::info(VERSION, "2.0.0"), AppAsk::Info),
            Query::AbciQuery { path, data, height, prove } => {
                (QUERY, socket::query(path, data, *height, *prove), AppAsk::Query)
            }
            Query::CheckTx { tx } => (MEMPOOL, socket::check_tx(tx), AppAsk::CheckTx),
            _ => return false,
        };
        self.call(channel, request, Waiting::App(call.clone(), ask), out);
        true
    }

    /// An application in another process has checked a transaction.
    fn on_check(
        &mut self,
        now: Now,
        call: Call,
        kind: Broadcast,
        tx: Bytes,
        result: Result<Bytes, RpcError>,
        out: &mut Vec<SessionOutput>,
    ) {
        let read = |bytes: Bytes| socket::read_check_tx(decode_beside(&bytes)?).map_err(|error| error.to_string());
        let check = result.and_then(|bytes| read(bytes).map_err(RpcError::internal));
        let hash = sha256(&tx);
        let answer = match check {
            Ok(check) if check.code == 0 => return self.broadcast(now, call, kind, tx, Some(check), out),
            Ok(check) if kind == Broadcast::Commit => Ok(committed(&check, &no_outcome(), &hash, 0)),
            Ok(check) => Ok(sent(&check, kind, &hash)),
            Err(error) => Err(error),
        };
        self.deliver(now, &call, answer, out);
    }

    fn broadcast(
        &mut self,
        now: Now,
        call: Call,
        kind: Broadcast,
        tx: Bytes,
        check: Option<CheckTx>,
        out: &mut Vec<SessionOutput>,
    ) {
        let hash = sha256(&tx);
        let waiting = match kind {
            Broadcast::Commit => {
                let deadline = now.mono + self.config.commit_timeout;
                match self.waiters.wait(call.clone(), hash, deadline) {
                    Some(name) => Waiting::Commit(name, hash, check),
                    None => {
                        let error = RpcError::internal("max_subscription_clients reached");
                        return self.answer(&call, Err(error));
                    }
                }
            }
            Broadcast::Async | Broadcast::Sync => Waiting::Tx(call, kind, hash, check),
        };
        self.propose(&Command::Tx(tx), waiting, out);
        self.wake(now, out);
    }

    /// Answers a call; what follows from that is pumped.
    fn answer(&mut self, call: &Call, result: Result<String, RpcError>) {
        let delivery = self.batches.deliver(call, result);
        let Some(conn) = self.conns.get_mut(&call.conn) else { return };
        match delivery {
            Delivery::Nothing => {}
            Delivery::Respond(number, response) => conn.server.respond(number, response),
            Delivery::Send(frame) => conn.server.send(&frame),
        }
    }

    fn on_completed(&mut self, now: Now, token: Token, result: Result<Bytes, Failure>, out: &mut Vec<SessionOutput>) {
        let Some(waiting) = self.waiting.remove(&token) else { return };
        let result = result.map_err(|failure| {
            RpcError::internal(match failure {
                Failure::Unavailable => "no leader could be reached in time; it may or may not be done",
                Failure::Overloaded => "the node has too much to do; nothing was done",
                Failure::NoSuchGroup => "the node has no part of the ledger",
            })
        });
        match waiting {
            Waiting::Ask(call) => {
                let answer = result.and_then(|bytes| text(&bytes));
                self.deliver(now, &call, answer, out);
            }
            Waiting::Status(call) => {
                let answer = result.and_then(|bytes| text(&bytes)).map(|sync| self.status(&sync));
                self.deliver(now, &call, answer, out);
            }
            Waiting::Check(call, kind, tx) => self.on_check(now, call, kind, tx, result, out),
            Waiting::App(call, ask) => {
                let answer = result.and_then(|bytes| of_app(&bytes, ask).map_err(RpcError::internal));
                self.deliver(now, &call, answer, out);
            }
            Waiting::Tx(call, kind, hash, check) => {
                let answer = result.and_then(|bytes| checked(&bytes, kind, &hash, check));
                self.deliver(now, &call, answer, out);
            }
            Waiting::Commit(name, hash, check) => self.on_commit_check(now, name, &hash, check, result, out),
            Waiting::Vote => self.signer.done(),
            Waiting::Unsigned => {
                let proposed = result.ok().and_then(|bytes| decode_answer(&bytes).ok());
                if let Some(Ok(proposed)) = proposed.map(|bytes| Proposed::decode(&bytes)) {
                    self.signer.see(proposed);
                }
            }
            Waiting::Events => {
                let events = result.ok().and_then(|bytes| decode_answer(&bytes).ok());
                let told = events.map(|json| self.subscriptions.publish(&json)).unwrap_or_default();
                for (conn, text) in told {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.server.send(&verity_http::Frame::text(&text));
                    }
                    self.pump(now, conn, out);
                }
            }
            Waiting::Results(height, names) => self.on_results(now, height, &names, result, out),
        }
        self.sign(now, out);
    }

    fn deliver(&mut self, now: Now, call: &Call, result: Result<String, RpcError>, out: &mut Vec<SessionOutput>) {
        self.answer(call, result);
        self.pump(now, call.conn, out);
    }

    fn on_commit_check(
        &mut self,
        now: Now,
        name: u64,
        hash: &Hash,
        before: Option<CheckTx>,
        result: Result<Bytes, RpcError>,
        out: &mut Vec<SessionOutput>,
    ) {
        let reply =
            result.and_then(|bytes| Reply::decode(&bytes).map_err(|error| RpcError::internal(error.to_string())));
        let answer = match reply {
            Ok(Reply::Checked(check)) if check.code == 0 => {
                let check = before.unwrap_or(check);
                if let Some((call, json)) = self.waiters.checked(name, check) {
                    self.deliver(now, &call, Ok(json), out);
                }
                return;
            }
            Ok(Reply::Checked(check)) => Ok(committed(&check, &no_outcome(), hash, 0)),
            Ok(Reply::Refused(why)) => Err(RpcError::internal(format!("error on broadcastTxCommit: {why}"))),
            Ok(Reply::Done) => Err(RpcError::internal("the ledger answered something else")),
            Err(error) => Err(error),
        };
        if let Some(call) = self.waiters.take(name) {
            self.deliver(now, &call, answer, out);
        }
    }

    fn on_results(
        &mut self,
        now: Now,
        height: u64,
        names: &BTreeMap<u32, Vec<u64>>,
        result: Result<Bytes, RpcError>,
        out: &mut Vec<SessionOutput>,
    ) {
        #[derive(serde::Deserialize)]
        struct Outcome<'a> {
            index: u32,
            #[serde(borrow)]
            tx_result: &'a serde_json::value::RawValue,
        }
        let Some(json) = result.ok().and_then(|bytes| decode_answer(&bytes).ok()) else { return };
        let outcomes: Vec<Outcome<'_>> = serde_json::from_slice(&json).expect("the state wrote it");
        for outcome in outcomes {
            for name in names.get(&outcome.index).into_iter().flatten() {
                if let Some((call, json)) = self.waiters.found(*name, height, outcome.tx_result.get().to_owned()) {
                    self.deliver(now, &call, Ok(json), out);
                }
            }
        }
    }

    fn on_block(&mut self, block: &BlockMade, out: &mut Vec<SessionOutput>) {
        let mut names: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (index, hash) in (0u32..).zip(&block.hashes) {
            let waiting = self.waiters.of(hash);
            if !waiting.is_empty() {
                names.insert(index, waiting.to_vec());
            }
        }
        let height = block.height;
        if !names.is_empty() {
            let query = Query::Results { height, indexes: names.keys().copied().collect() };
            self.read(&query, Waiting::Results(height, names), out);
        }
        if !self.subscriptions.is_empty() {
            self.read(&Query::Events { height }, Waiting::Events, out);
        }
    }

    fn sign(&mut self, now: Now, out: &mut Vec<SessionOutput>) {
        if let Some(vote) = self.signer.vote(now) {
            self.propose(&vote, Waiting::Vote, out);
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<SessionOutput>) {
        let late = self.waiters.late(now.mono);
        for call in late {
            let error = RpcError::internal("timed out waiting for tx to be included in a block");
            self.deliver(now, &call, Err(error), out);
        }
        if now.mono >= self.next_tick {
            self.next_tick = now.mono + TICK;
            if !self.signer.is_busy() {
                let address = Bytes::copy_from_slice(&self.signer.address());
                self.read(&Query::Unsigned { address }, Waiting::Unsigned, out);
            }
            self.look_at_silence(now, out);
        }
        self.wake(now, out);
    }

    fn look_at_silence(&mut self, now: Now, out: &mut Vec<SessionOutput>) {
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            if now.mono.since(conn.heard) >= SILENCE_MAX && conn.server.unanswered() == 0 {
                self.forget(id);
                out.push(SessionOutput::Close(id));
            } else if conn.server.is_websocket() && now.mono.since(conn.pinged) >= PING_EVERY {
                conn.pinged = now.mono;
                conn.server.send(&verity_http::Frame::ping(b""));
                self.pump(now, id, out);
            }
        }
    }

    fn wake(&mut self, now: Now, out: &mut Vec<SessionOutput>) {
        let next = self.waiters.deadline().map_or(self.next_tick, |deadline| deadline.min(self.next_tick));
        let next = next.max(now.mono);
        if self.wake_at.is_none_or(|at| at <= now.mono || at > next) {
            self.wake_at = Some(next);
            out.push(SessionOutput::Wake(next));
        }
    }

    fn genesis_chunk(&self, chunk: i64) -> Result<String, String> {
        let chunks: Vec<&[u8]> = self.genesis.as_bytes().chunks(GENESIS_CHUNK).collect();
        let found = usize::try_from(chunk).ok().and_then(|at| chunks.get(at));
        let found = found.ok_or_else(|| format!("there are {} chunks, {chunk} is invalid", chunks.len() - 1))?;
        Ok(format!("{{\"chunk\":\"{chunk}\",\"total\":\"{}\",\"data\":\"{}\"}}", chunks.len(), base64(found)))
    }

    /// The other nodes are the group's members, and no peers of CometBFT's.
    fn net_info(&self) -> String {
        let listener = serde_json::Value::from(format!("Listener(@{})", self.config.rpc_address));
        format!("{{\"listening\":true,\"listeners\":[{listener}],\"n_peers\":\"0\",\"peers\":[]}}")
    }

    fn status(&self, sync_info: &str) -> String {
        let address = self.signer.address();
        let power = u8::from(self.config.genesis.set().find(&address).is_some());
        let node = serde_json::json!({
            "protocol_version": { "p2p": "8", "block": "11", "app": "1" },
            "id": hex_upper(&address).to_lowercase(),
            "listen_addr": format!("tcp://{}", self.config.rpc_address),
            "network": self.config.genesis.chain_id,
            "version": VERSION,
            "channels": "",
            "moniker": self.config.moniker,
            "other": { "tx_index": "on", "rpc_address": format!("tcp://{}", self.config.rpc_address) },
        });
        let validator = serde_json::json!({
            "address": hex_upper(&address), "pub_key": self.signer.public_key(), "voting_power": power.to_string(),
        });
        format!("{{\"node_info\":{node},\"sync_info\":{sync_info},\"validator_info\":{validator}}}")
    }
}

/// An answer of the state, or why it has none.
fn text(bytes: &Bytes) -> Result<String, RpcError> {
    let json = decode_answer(bytes).map_err(RpcError::internal)?;
    String::from_utf8(json.into()).map_err(|_| RpcError::internal("the ledger answered no text"))
}

/// The answer to a transaction that was sent.
fn sent(check: &CheckTx, kind: Broadcast, hash: &Hash) -> String {
    let none = CheckTx::default();
    let shown = if kind == Broadcast::Sync { check } else { &none };
    serde_json::json!({
        "code": shown.code, "data": hex_upper(&shown.data), "log": shown.log, "codespace": shown.codespace,
        "hash": hex_upper(hash),
    })
    .to_string()
}

/// What an application in another process says, as JSON.
fn of_app(bytes: &Bytes, ask: AppAsk) -> Result<String, String> {
    let body = decode_beside(bytes)?;
    let json = |value: Result<serde_json::Value, serde_json::Error>| value.expect("it is plain data");
    let unread = |error: crate::wire::ProtoError| error.to_string();
    let response = match ask {
        AppAsk::Info => json(serde_json::to_value(socket::read_info(body).map_err(unread)?)),
        AppAsk::Query => json(serde_json::to_value(socket::read_query(body).map_err(unread)?)),
        AppAsk::CheckTx => {
            let check = json(serde_json::to_value(socket::read_check_tx(body).map_err(unread)?));
            return Ok(check.to_string());
        }
    };
    Ok(serde_json::json!({ "response": response }).to_string())
}

/// The answer to a transaction that was ordered, which an application elsewhere may have checked before.
fn checked(bytes: &Bytes, kind: Broadcast, hash: &Hash, before: Option<CheckTx>) -> Result<String, RpcError> {
    match Reply::decode(bytes) {
        Ok(Reply::Checked(check)) => Ok(sent(&before.unwrap_or(check), kind, hash)),
        Ok(Reply::Refused(why)) => Err(RpcError::internal(why)),
        Ok(Reply::Done) => Err(RpcError::internal("the ledger answered something else")),
        Err(error) => Err(RpcError::internal(error.to_string())),
    }
}

/// A body that is too large is refused as CometBFT's `makeJSONRPCHandler` does; whatever else is no HTTP, as usual.
fn refused(refusal: Refusal) -> Response {
    if !matches!(refusal, Refusal::BodyTooLarge(_)) {
        return refusal.response();
    }
    let why = "error reading request body: http: request body too large";
    json_response(400, crate::wire::refusal(&Id::None, &RpcError::invalid_request(why)))
}

/// What a browser sees.
fn endpoints(host: &str) -> Response {
    let host: String = host.chars().filter(|next| next.is_ascii_alphanumeric() || ".:-[]".contains(*next)).collect();
    let mut page = "<html><body><br>Available endpoints:<br>".to_owned();
    for (name, spec) in &METHODS[3..] {
        let names: Vec<String> = spec.iter().map(|(name, _)| format!("{name}=_")).collect();
        let link =
            if names.is_empty() { format!("//{host}/{name}") } else { format!("//{host}/{name}?{}", names.join("&")) };
        page.push_str(&format!("<a href=\"{link}\">{link}</a></br>"));
    }
    page.push_str("</body></html>");
    Response::new(200).body("text/html", page)
}

impl Service for LedgerService {
    fn on(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        match input {
            SessionInput::Opened { conn, .. } => {
                let limits = Limits { body_bytes_max: 2 << 20, message_bytes_max: 2 << 20, ..Limits::default() };
                let server = Server::new(limits).refusing_by(refused);
                self.conns.insert(conn, Conn { server, heard: now.mono, pinged: now.mono });
            }
            SessionInput::Bytes { conn, bytes } => {
                if let Some(open) = self.conns.get_mut(&conn) {
                    open.heard = now.mono;
                    open.server.on_bytes(bytes);
                }
                self.pump(now, conn, out);
            }
            SessionInput::Closed { conn } => self.forget(conn),
            SessionInput::Completed { token, result } => self.on_completed(now, token, result, out),
            SessionInput::Event { group, topic, bytes } if group == self.config.group => {
                if topic == Topic::PROPOSED
                    && let Ok(proposed) = Proposed::decode(&bytes)
                    && self.config.genesis.set().find(&self.signer.address()).is_some()
                {
                    self.signer.see(proposed);
                    self.sign(now, out);
                } else if topic == Topic::BLOCK
                    && let Ok(block) = BlockMade::decode(&bytes)
                {
                    self.on_block(&block, out);
                }
            }
            SessionInput::Wake => self.tick(now, out),
            _ => {}
        }
        self.wake(now, out);
    }

    fn invariants(&self) {
        assert!(self.waiting.len() <= usize::try_from(self.tokens).unwrap_or(usize::MAX), "tokens are named once");
    }
}
