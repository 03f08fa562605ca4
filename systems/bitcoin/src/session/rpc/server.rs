//! From requests to answers.

use std::collections::{BTreeMap, VecDeque};

use verity_http::{Refusal, Request, Response};

use super::call::{Call, Ctx};
use super::error::{RpcError, code};
use super::json::Json;
use super::methods::control::categories_of;
use super::spec::{Method, Outcome, Run};
use super::wait::{Wait, WaitId};
use super::{RpcConfig, State, table};

/// No more calls wait at once.
const WAITS_MAX: usize = 1_024;

/// The status for what is no request: the network's nodes tell few of them apart.
#[must_use]
pub fn refusal_status(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::BodyTooLarge(_) => 413,
        Refusal::Overloaded => 503,
        _ => 400,
    }
}

/// What a request came to.
#[derive(Debug)]
pub enum Answer {
    /// Its response.
    Now(Response),
    /// The response comes from [`Rpc::poll`].
    Later(WaitId),
}

/// The server.
#[derive(Debug)]
pub struct Rpc {
    state: State,
    waits: BTreeMap<WaitId, Job>,
    wait_next: u64,
    warmup: Option<String>,
    lines: Vec<String>,
}

/// A request, or an array of them, that is being answered.
#[derive(Debug)]
struct Job {
    user: String,
    wallet: Option<String>,
    rest: VecDeque<Json>,
    /// The answers of an array so far.
    replies: Option<Vec<Json>>,
    /// None was asked for.
    empty: bool,
    /// The call that is being answered, and since when.
    active: Option<(&'static str, u64)>,
    wait: Option<(Head, Wait)>,
}

/// What of a request matters for its answer.
#[derive(Clone, Debug)]
struct Head {
    /// By JSON-RPC 2.0.
    second: bool,
    id: Option<Json>,
}

impl Default for Head {
    /// Of what could not be read.
    fn default() -> Self {
        Self { second: false, id: Some(Json::Null) }
    }
}

impl Head {
    fn wants_no_answer(&self) -> bool {
        self.second && self.id.is_none()
    }

    fn reply(self, outcome: Result<Json, RpcError>) -> Json {
        let mut reply = Json::obj();
        if self.second {
            reply.put("jsonrpc", "2.0");
        }
        match outcome {
            Ok(result) => {
                reply.put("result", result);
                if !self.second {
                    reply.put("error", Json::Null);
                }
            }
            Err(error) => {
                if !self.second {
                    reply.put("result", Json::Null);
                }
                reply.put("error", Json::obj().with("code", error.code).with("message", error.message));
            }
        }
        if let Some(id) = self.id {
            reply.put("id", id);
        }
        reply
    }
}

/// A request that was read.
struct Parsed {
    method: String,
    params: Json,
}

impl Rpc {
    /// A server that answers every call with an error until [`Rpc::set_ready`]. `more` are methods beside its own (wallets).
    #[must_use]
    pub fn new(mut config: RpcConfig, more: &'static [Method], now_ms: u64) -> Self {
        config.log_categories = categories_of(&config.log_categories);
        let state = State {
            config,
            more,
            start_ms: now_ms,
            active: Vec::new(),
            scheduler_seconds: 0,
            caught_up: false,
            joins: 0,
            template: None,
            assembled: None,
        };
        Self {
            state,
            waits: BTreeMap::new(),
            wait_next: 0,
            warmup: Some("RPC server started".into()),
            lines: Vec::new(),
        }
    }

    /// True if lines of this category are wanted.
    #[must_use]
    pub fn logs(&self, category: &str) -> bool {
        self.state.config.log_categories.iter().any(|own| own == category)
    }

    /// The node is ready.
    pub fn set_ready(&mut self) {
        self.warmup = None;
    }

    /// The node is not ready; it does this.
    pub fn set_warmup(&mut self, words: &str) {
        self.warmup = Some(words.into());
    }

    /// By how many seconds `mockscheduler` moved the node's timers since it was last asked.
    pub fn take_scheduled(&mut self) -> u64 {
        std::mem::take(&mut self.state.scheduler_seconds)
    }

    /// Lines for the log since they were taken last, of the category `rpc`.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Answers a request.
    pub fn on_request(&mut self, ctx: &mut Ctx<'_>, request: &Request) -> Answer {
        let path = request.path.as_str();
        if self.state.config.rest && path.starts_with("/rest/") {
            return Answer::Now(crate::session::rest::answer(ctx, &mut self.state, request, self.warmup.as_deref()));
        }
        let wallet = path.strip_prefix("/wallet/").filter(|_| self.state.config.wallets);
        if path != "/" && wallet.is_none() {
            return Answer::Now(Response::new(404));
        }
        if request.method != "POST" {
            let words = "JSONRPC server handles only POST requests";
            return Answer::Now(Response::new(405).body("text/html; charset=ISO-8859-1", words));
        }
        let user = request.headers.text("Authorization").and_then(|field| self.state.config.auth.user_of(field));
        let Some(user) = user else {
            return Answer::Now(Response::new(401).header("WWW-Authenticate", "Basic realm=\"jsonrpc\""));
        };
        let decoded = wallet.map(|name| {
            let bytes = verity_http::percent_decode(name).unwrap_or_else(|_| name.into());
            String::from_utf8_lossy(&bytes).into_owned()
        });
        match self.begin(&user, decoded, &request.body) {
            Ok(job) => self.go_on(ctx, job),
            Err(response) => Answer::Now(response),
        }
    }

    /// Reads what is asked for; a response if it is refused as a whole.
    fn begin(&self, user: &str, wallet: Option<String>, body: &[u8]) -> Result<Job, Response> {
        let auth = &self.state.config.auth;
        let Some(value) = Json::read(body) else {
            return Err(failed(Head::default(), RpcError::new(code::PARSE_ERROR, "Parse error")));
        };
        if auth.denies_all(user) {
            return Err(Response::new(403));
        }
        match value {
            Json::Arr(requests) => {
                if auth.is_limited(user) {
                    for request in &requests {
                        let Json::Obj(_) = request else {
                            let error = RpcError::new(code::INVALID_REQUEST, "Invalid Request object");
                            return Err(failed(Head::default(), error));
                        };
                        let method = request.get("method").text().map_err(|error| {
                            failed(Head::default(), RpcError::new(code::PARSE_ERROR, error.message))
                        })?;
                        if !auth.allows(user, method) {
                            return Err(Response::new(403));
                        }
                    }
                }
                let empty = requests.is_empty();
                Ok(Job {
                    user: user.into(),
                    wallet,
                    rest: requests.into(),
                    replies: Some(Vec::new()),
                    empty,
                    active: None,
                    wait: None,
                })
            }
            Json::Obj(_) => {
                let (head, parsed) = parse(&value);
                let parsed = parsed.map_err(|error| failed(head.clone(), error))?;
                if !auth.allows(user, &parsed.method) {
                    return Err(Response::new(403));
                }
                Ok(Job {
                    user: user.into(),
                    wallet,
                    rest: [value].into(),
                    replies: None,
                    empty: false,
                    active: None,
                    wait: None,
                })
            }
            _ => Err(failed(Head::default(), RpcError::new(code::PARSE_ERROR, "Top-level object parse error"))),
        }
    }

    /// Goes on until the job is done, or waits.
    fn go_on(&mut self, ctx: &mut Ctx<'_>, mut job: Job) -> Answer {
        while let Some(request) = job.rest.pop_front() {
            let (head, parsed) = parse(&request);
            if let Ok(parsed) = &parsed
                && self.state.config.log_categories.iter().any(|name| name == "rpc")
            {
                let method: String = parsed.method.chars().filter(|char| is_safe(*char)).collect();
                self.lines.push(format!("ThreadRPCServer method={method} user={}", job.user));
            }
            let method = parsed.as_ref().ok().and_then(|parsed| table::find(&parsed.method, self.state.more));
            job.active = method.map(|method| (method.name, ctx.now_ms));
            let outcome = parsed.and_then(|parsed| self.execute(ctx, job.wallet.as_deref(), parsed));
            let outcome = match outcome {
                Ok(Outcome::Done(result)) => Ok(result),
                Ok(Outcome::Wait(_)) if self.waits.len() >= WAITS_MAX => {
                    Err(RpcError::misc("too many calls wait already"))
                }
                Ok(Outcome::Wait(wait)) => {
                    let id = WaitId(self.wait_next);
                    self.wait_next += 1;
                    job.wait = Some((head, wait));
                    self.waits.insert(id, job);
                    return Answer::Later(id);
                }
                Err(error) => Err(error),
            };
            if let Some(response) = settle(&mut job, head, outcome) {
                return Answer::Now(response);
            }
        }
        Answer::Now(finish(job))
    }

    fn execute(&mut self, ctx: &mut Ctx<'_>, wallet: Option<&str>, parsed: Parsed) -> Result<Outcome, RpcError> {
        if let Some(words) = &self.warmup {
            return Err(RpcError::new(code::IN_WARMUP, words.clone()));
        }
        let method = table::find(&parsed.method, self.state.more)
            .ok_or_else(|| RpcError::new(code::METHOD_NOT_FOUND, "Method not found"))?;
        let args = method.check(parsed.params)?;
        self.state.active = self.waits.values().filter_map(|job| job.active).collect();
        self.state.active.push((method.name, ctx.now_ms));
        let mut call = Call { ctx, state: &mut self.state, wallet };
        let outcome = match method.run {
            Run::Now(run) => run(&mut call, &args).map(Outcome::Done),
            Run::Wait(run) => run(&mut call, &args),
        };
        self.state.active.clear();
        note_fatal(ctx, outcome)
    }

    /// Answers those that waited for long enough. After each input to the node, and at [`Rpc::wake_at`].
    pub fn poll(&mut self, ctx: &mut Ctx<'_>) -> Vec<(WaitId, Answer)> {
        self.look(ctx, false)
    }

    /// Answers all, as the node ends.
    pub fn close(&mut self, ctx: &mut Ctx<'_>) -> Vec<(WaitId, Answer)> {
        self.look(ctx, true)
    }

    fn look(&mut self, ctx: &mut Ctx<'_>, ends: bool) -> Vec<(WaitId, Answer)> {
        let mut answers = Vec::new();
        let ids: Vec<WaitId> = self.waits.keys().copied().collect();
        for id in ids {
            let Some(mut job) = self.waits.remove(&id) else { continue };
            let Some((head, wait)) = job.wait.take() else { continue };
            let mut call = Call { ctx, state: &mut self.state, wallet: job.wallet.as_deref() };
            let Some(outcome) = wait.poll(&mut call, ends) else {
                job.wait = Some((head, wait));
                self.waits.insert(id, job);
                continue;
            };
            let outcome = note_fatal(ctx, outcome);
            let answer = match settle(&mut job, head, outcome) {
                Some(response) => Answer::Now(response),
                // What follows in the array may wait in turn, by another id.
                None => self.go_on(ctx, job),
            };
            answers.push((id, answer));
        }
        answers
    }

    /// The earliest moment at which a call must be looked at.
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        self.waits.values().filter_map(|job| job.wait.as_ref().and_then(|(_, wait)| wait.until())).min()
    }

    /// The client went away.
    pub fn forget(&mut self, id: WaitId) {
        self.waits.remove(&id);
    }

    /// How many calls wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waits.len()
    }
}

fn note_fatal<T>(ctx: &mut Ctx<'_>, outcome: Result<T, RpcError>) -> Result<T, RpcError> {
    if let Err(error) = &outcome
        && error.fatal
    {
        ctx.fatal.get_or_insert_with(|| error.message.clone());
    }
    outcome
}

/// Whether a log may show it (Core's `SAFE_CHARS_DEFAULT`).
fn is_safe(char: char) -> bool {
    char.is_ascii_alphanumeric() || " .,;-_/:?@()".contains(char)
}

fn parse(request: &Json) -> (Head, Result<Parsed, RpcError>) {
    let refused = |words: &str| Err(RpcError::new(code::INVALID_REQUEST, words));
    let Json::Obj(fields) = request else { return (Head::default(), refused("Invalid Request object")) };
    let id = fields.iter().find(|(name, _)| name == "id").map(|(_, id)| id.clone());
    let mut head = Head { id, ..Head::default() };
    match request.get("jsonrpc") {
        Json::Null => {}
        Json::Str(version) if version == "1.0" => {}
        Json::Str(version) if version == "2.0" => head.second = true,
        Json::Str(_) => return (head, refused("JSON-RPC version not supported")),
        _ => return (head, refused("jsonrpc field must be a string")),
    }
    let method = match request.get("method") {
        Json::Null => return (head, refused("Missing method")),
        Json::Str(method) => method.clone(),
        _ => return (head, refused("Method must be a string")),
    };
    let params = match request.get("params") {
        Json::Null => Json::Arr(Vec::new()),
        params @ (Json::Arr(_) | Json::Obj(_)) => params.clone(),
        _ => return (head, refused("Params must be an array or object")),
    };
    (head, Ok(Parsed { method, params }))
}

/// Notes the answer of one request; the response, if there is no array that it is part of.
fn settle(job: &mut Job, head: Head, outcome: Result<Json, RpcError>) -> Option<Response> {
    if let Some(replies) = &mut job.replies {
        if !head.wants_no_answer() {
            replies.push(head.reply(outcome));
        }
        return None;
    }
    if head.wants_no_answer() {
        return Some(Response::new(204));
    }
    match outcome {
        Err(error) if !head.second => Some(failed(head, error)),
        outcome => Some(written(200, &head.reply(outcome))),
    }
}

fn finish(job: Job) -> Response {
    let replies = job.replies.unwrap_or_default();
    if replies.is_empty() && !job.empty {
        return Response::new(204);
    }
    written(200, &Json::Arr(replies))
}

fn failed(head: Head, error: RpcError) -> Response {
    let status = match error.code {
        code::INVALID_REQUEST => 400,
        code::METHOD_NOT_FOUND => 404,
        _ => 500,
    };
    written(status, &head.reply(Err(error)))
}

fn written(status: u16, reply: &Json) -> Response {
    let mut text = reply.write();
    text.push('\n');
    Response::new(status).body("application/json", text)
}
