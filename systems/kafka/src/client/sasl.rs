//! SASL, the client's side: PLAIN (RFC 4616), SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677).
//!
//! - upon [`Exchange::begin`]: what is to be said first;
//! - upon what the server says: what is to be said next, or nothing any more: the client is known, and, with SCRAM, the
//!   server has shown that it knows the password's hash.
//!
//! HAZARD: the number of iterations comes from the server and costs time; [`ITERATIONS_MAX`] bounds it. PLAIN sends the
//! password as it is, so that without TLS everybody on the way reads it.
//!
//! Deliberately absent: SASLprep (RFC 4013); passwords beyond ASCII are sent as they are written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use thiserror::Error;

use crate::scram::Hash;

/// More than this is not calculated.
const ITERATIONS_MAX: u32 = 1_000_000;

/// How a client shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// By its password.
    Plain,
    /// By what it knows of its password.
    ScramSha256,
    /// The same with a longer hash.
    ScramSha512,
}

/// Why a client is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthenticationError {
    /// The server says so.
    #[error("{0}")]
    Refused(String),
    /// What it says is not SCRAM, or asks for too much.
    #[error("the server's answer is not {0}'s")]
    Malformed(&'static str),
    /// It does not know the password's hash: it is not the server that it says it is.
    #[error("the server has not shown that it knows the user")]
    Impostor,
}

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    password: String,
    bare: String,
    nonce: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The server's last word is yes or no.
    Waiting,
    /// The server says salt and iterations.
    First,
    /// The server shows what it knows.
    Final(Vec<u8>),
    Done,
}

impl Mechanism {
    /// As the protocol calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    fn hash(self) -> Option<Hash> {
        match self {
            Self::Plain => None,
            Self::ScramSha256 => Some(Hash::Sha256),
            Self::ScramSha512 => Some(Hash::Sha512),
        }
    }
}

impl Exchange {
    /// Begins one; also what is to be said. `nonce` is drawn anew for each, of printable ASCII without a comma.
    #[must_use]
    pub fn begin(mechanism: Mechanism, user: &str, password: &str, nonce: &str) -> (Self, Bytes) {
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let (said, state) = match mechanism {
            Mechanism::Plain => (format!("\0{user}\0{password}"), State::Waiting),
            _ => (format!("n,,{bare}"), State::First),
        };
        let (password, nonce) = (password.to_owned(), nonce.to_owned());
        (Self { mechanism, password, bare, nonce, state }, Bytes::from(said))
    }

    /// What is to be said to this; `None` at the end.
    ///
    /// # Errors
    /// [`AuthenticationError`].
    pub fn on_answer(&mut self, answer: &[u8]) -> Result<Option<Bytes>, AuthenticationError> {
        let malformed = AuthenticationError::Malformed(self.mechanism.name());
        let text = std::str::from_utf8(answer).map_err(|_| malformed.clone())?;
        match std::mem::replace(&mut self.state, State::Done) {
            State::Waiting | State::Done => Ok(None),
            State::First => self.on_first(text).ok_or(malformed).map(Some),
            State::Final(expected) => {
                if let Some(reason) = text.strip_prefix("e=") {
                    return Err(AuthenticationError::Refused(reason.to_owned()));
                }
                let shown = text.strip_prefix("v=").and_then(|rest| STANDARD.decode(rest.split(',').next()?).ok());
                if shown.ok_or(malformed)? == expected { Ok(None) } else { Err(AuthenticationError::Impostor) }
            }
        }
    }

    fn on_first(&mut self, server_first: &str) -> Option<Bytes> {
        let hash = self.mechanism.hash()?;
        let mut attributes = server_first.split(',');
        let mut attribute = |name: &str| attributes.next()?.strip_prefix(name);
        let nonce = attribute("r=")?;
        let salt = STANDARD.decode(attribute("s=")?).ok()?;
        let iterations: u32 = attribute("i=")?.parse().ok()?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() || iterations > ITERATIONS_MAX {
            return None;
        }
        let salted = hash.salted(self.password.as_bytes(), &salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        let (stored_key, server_key) = hash.keys(&salted);
        // `biws` is the header of GSS-API, `n,,`.
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.bare);
        let signature = hash.hmac(&stored_key, message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        self.state = State::Final(hash.hmac(&server_key, message.as_bytes()));
        Some(Bytes::from(format!("{without_proof},p={}", STANDARD.encode(proof))))
    }
}
