//! Who a client is (KIP-43, KIP-152, KIP-368).
//!
//! - upon SaslHandshake: the mechanism is chosen, or the client is told which there are and the connection ends;
//! - upon SaslAuthenticate: the mechanism's next step; at its end the client is whom it showed to be;
//! - upon a step that fails: Kafka's words, after a moment, and the end of the connection;
//! - upon the same again later: the client shows once more who it is, by the same mechanism, and must be the same;
//! - upon another request of a client that showed it too long ago: the connection ends.
//!
//! On a listener that does not ask for it, a client that authenticates becomes who it shows to be all the same.
//!
//! Tokens without Kafka's header, as clients send them behind version 0 of the handshake, are no requests and end the
//! connection.
//!
//! Deliberately absent: what clients may do.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use verity_contract::Peer;
use verity_types::Mono;

use super::call::{ANONYMOUS, Call};
use super::config::Listener;
use super::node::{Node, State};
use super::scram::{ClientFirst, Exchange, Failed, Hash};
use crate::wire::ErrorCode;
use crate::wire::message::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

/// Kafka's `sasl.server.max.receive.size`.
const TOKEN_SIZE_MAX: usize = 524_288;
/// How long a failure keeps a client waiting (`connection.failed.authentication.delay.ms`).
const FAILED_MS: i32 = 100;
/// The mechanisms, as they are told.
const MECHANISMS: [(&str, Mechanism); 3] = [
    ("PLAIN", Mechanism::Plain),
    ("SCRAM-SHA-256", Mechanism::Scram(Hash::Sha256)),
    ("SCRAM-SHA-512", Mechanism::Scram(Hash::Sha512)),
];

/// How a client shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Scram(Hash),
}

/// What the client is to say next.
#[derive(Clone, Debug)]
enum Step {
    /// Nothing about itself, or a handshake.
    Idle,
    /// The mechanism's first token.
    First(Mechanism),
    /// SCRAM's last.
    Last(Box<Exchange>),
    /// A token that will be refused: the first time it was by this mechanism.
    Other(Mechanism, Mechanism),
}

/// How far a connection has come with saying who its client is.
#[derive(Clone, Debug)]
pub(super) struct Authentication {
    principal: String,
    done: bool,
    /// How the client showed who it is: both must stay the same.
    shown: Option<Mechanism>,
    /// When it must have shown it again.
    expires: Option<Mono>,
    step: Step,
}

impl Mechanism {
    fn name(self) -> &'static str {
        MECHANISMS.iter().find(|(_, mechanism)| *mechanism == self).map_or("", |(name, _)| name)
    }
}

impl Authentication {
    /// At the beginning of a connection.
    pub(super) fn begin(peer: &Peer, listener: Listener) -> Self {
        let certified = peer.certificate.as_ref().map(|subject| format!("User:{subject}"));
        Self {
            principal: certified.unwrap_or_else(|| ANONYMOUS.to_owned()),
            done: !listener.sasl,
            shown: None,
            expires: None,
            step: Step::Idle,
        }
    }

    /// As `User:name`.
    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    /// May anything but authentication be asked?
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Is it too long ago that the client showed who it is?
    pub(super) fn is_expired(&self, now: Mono) -> bool {
        self.expires.is_some_and(|at| now > at)
    }

    /// The client is this user.
    fn finish(&mut self, user: &str, mechanism: Mechanism, expires: Option<Mono>) -> Result<(), Refused> {
        let principal = format!("User:{user}");
        if self.shown.is_some() && self.principal != principal {
            let message =
                format!("Cannot change principals during re-authentication from {}: {principal}", self.principal);
            return Err(Refused { error: ErrorCode::SASL_AUTHENTICATION_FAILED, message });
        }
        (self.principal, self.done, self.shown, self.expires) = (principal, true, Some(mechanism), expires);
        Ok(())
    }
}

/// Why a client is not who it says.
struct Refused {
    error: ErrorCode,
    message: String,
}

fn failed<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { error: ErrorCode::SASL_AUTHENTICATION_FAILED, message: message.into() })
}

/// Chooses a mechanism. False if the connection is to end.
pub(super) fn handshake(node: &Node, call: &Call, request: &SaslHandshakeRequest) -> (SaslHandshakeResponse, bool) {
    let mechanisms: Vec<String> = MECHANISMS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let refuse = |error: ErrorCode| {
        let mechanisms = mechanisms.clone();
        (SaslHandshakeResponse { error_code: error.0, mechanisms }, false)
    };
    let mut state = node.state();
    let Some(connection) = state.connections.get_mut(&call.conn) else {
        return refuse(ErrorCode::ILLEGAL_SASL_STATE);
    };
    let Authentication { step, shown, .. } = &mut connection.authentication;
    if !matches!(step, Step::Idle) {
        return refuse(ErrorCode::ILLEGAL_SASL_STATE);
    }
    let Some((_, mechanism)) = MECHANISMS.iter().find(|(name, _)| *name == request.mechanism) else {
        return refuse(ErrorCode::UNSUPPORTED_SASL_MECHANISM);
    };
    *step = match *shown {
        Some(before) if before != *mechanism => Step::Other(*mechanism, before),
        _ => Step::First(*mechanism),
    };
    (SaslHandshakeResponse { error_code: super::NO_ERROR, mechanisms }, true)
}

/// Takes the next step. False if the connection is to end.
pub(super) async fn authenticate(
    node: &Node,
    call: &Call,
    request: SaslAuthenticateRequest,
) -> (SaslAuthenticateResponse, bool) {
    let outcome = step(&mut node.state(), call, &request.auth_bytes);
    match outcome {
        Ok(auth_bytes) => {
            let session_lifetime_ms = lifetime_ms(&node.state(), call);
            (SaslAuthenticateResponse { auth_bytes, session_lifetime_ms, ..Default::default() }, true)
        }
        Err(Refused { error, message }) => {
            node.sleep(node.in_ms(FAILED_MS)).await;
            let (error_code, error_message) = (error.0, Some(message));
            (SaslAuthenticateResponse { error_code, error_message, ..Default::default() }, false)
        }
    }
}

/// How long what the client just showed holds; 0 for good, or if it is not at the end of showing it.
fn lifetime_ms(state: &State, call: &Call) -> i64 {
    let Some(connection) = state.connections.get(&call.conn) else { return 0 };
    let Authentication { step: Step::Idle, expires: Some(at), .. } = &connection.authentication else { return 0 };
    i64::try_from(at.since(state.now.mono).0 / 1_000_000).unwrap_or(i64::MAX)
}

fn step(state: &mut State, call: &Call, token: &Bytes) -> Result<Bytes, Refused> {
    let illegal = |message: &str| Err(Refused { error: ErrorCode::ILLEGAL_SASL_STATE, message: message.to_owned() });
    let Some(connection) = state.connections.get_mut(&call.conn) else { return illegal("The connection has ended") };
    let step = std::mem::replace(&mut connection.authentication.step, Step::Idle);
    let expires = state.config.max_reauth.map(|span| state.now.mono + span);
    if token.len() > TOKEN_SIZE_MAX {
        return failed(format!("A token of SASL has {TOKEN_SIZE_MAX} bytes at the most"));
    }
    match step {
        Step::Idle if connection.authentication.shown.is_some() => {
            illegal("SaslAuthenticate request received after successful authentication")
        }
        Step::Idle => illegal("Unexpected Kafka request of type SASL_AUTHENTICATE during SASL handshake."),
        Step::Other(asked, before) => {
            let (asked, before) = (asked.name(), before.name());
            failed(format!(
                "SASL mechanism '{asked}' requested by client is not supported for re-authentication of mechanism '{before}'"
            ))
        }
        Step::First(mechanism @ Mechanism::Plain) => {
            let user = plain(state, token)?;
            authentication(state, call)?.finish(&user, mechanism, expires)?;
            Ok(Bytes::new())
        }
        Step::First(Mechanism::Scram(hash)) => {
            let first = ClientFirst::parse(token).or_else(|Failed| wrong_credentials(hash))?;
            let draw = format!("{}{}", state.draw(), state.draw());
            let credential = state.image.scram(&first.user, hash.number());
            let (exchange, said) = Exchange::begin(hash, first, credential, &state.config.secret, &draw);
            authentication(state, call)?.step = Step::Last(Box::new(exchange));
            Ok(said.into())
        }
        Step::Last(exchange) => {
            let said = exchange.end(token).or_else(|Failed| wrong_credentials(exchange.hash()))?;
            authentication(state, call)?.finish(&exchange.user, Mechanism::Scram(exchange.hash()), expires)?;
            Ok(said.into())
        }
    }
}

fn authentication<'a>(state: &'a mut State, call: &Call) -> Result<&'a mut Authentication, Refused> {
    let connection = state.connections.get_mut(&call.conn);
    connection.map_or_else(|| failed("The connection has ended"), |connection| Ok(&mut connection.authentication))
}

fn wrong_credentials<T>(hash: Hash) -> Result<T, Refused> {
    let name = Mechanism::Scram(hash).name();
    failed(format!("Authentication failed during authentication due to invalid credentials with SASL mechanism {name}"))
}

/// The user of a token of PLAIN (RFC 4616): whom to act as, a NUL, the name, a NUL, the password.
fn plain(state: &State, token: &[u8]) -> Result<String, Refused> {
    let Ok(text) = std::str::from_utf8(token) else {
        return failed("Invalid SASL/PLAIN response: it is not UTF-8");
    };
    let parts: Vec<&str> = text.splitn(4, '\0').collect();
    let [authorize_as, user, password] = parts[..] else {
        return failed(format!("Invalid SASL/PLAIN response: expected 3 tokens, got {}", parts.len()));
    };
    if user.is_empty() {
        return failed("Authentication failed: username not specified");
    }
    if password.is_empty() {
        return failed("Authentication failed: password not specified");
    }
    if !authorize_as.is_empty() && authorize_as != user {
        return failed("Authentication failed: Client requested an authorization id that is different from username");
    }
    // Hashes are of one size, and are compared in a time that says nothing about where they differ.
    let known = state.config.plain_users.get(user);
    let expected = Sha256::digest(known.map_or("", String::as_str));
    let same: bool = Sha256::digest(password).as_slice().ct_eq(expected.as_slice()).into();
    if same && known.is_some() {
        Ok(user.to_owned())
    } else {
        failed("Authentication failed: Invalid username or password")
    }
}
