//! The node that is called: requests by HTTP, and what can go wrong with them in Core's words.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use verity_bitcoin::session::rpc::Json;

use super::super::daemon::pause;
use super::super::rpc::Node;

/// Between attempts of a client that waits.
const ATTEMPTS_EVERY: Duration = Duration::from_secs(1);
/// What a node answers that is not ready yet.
const IN_WARMUP: i64 = -28;

/// What a node said.
#[derive(Debug)]
pub(super) enum Reply {
    /// What was asked for.
    Result(Json),
    /// Why it was not done.
    Error(Json),
}

/// Why there is no reply.
enum Trouble {
    /// It may go away: the node is not there, or not ready.
    Transient(String),
    /// It stays.
    Lasting(anyhow::Error),
}

/// What a node lets us in by.
#[derive(Clone)]
pub(super) enum Credentials {
    /// `user:password`.
    Password(String),
    /// The file that has the same, which a node writes anew at each start.
    Cookie(PathBuf),
}

impl Credentials {
    fn read(&self) -> Option<String> {
        match self {
            Self::Password(pair) => Some(pair.clone()),
            Self::Cookie(path) => fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned()),
        }
    }
}

/// Where a node is, and how it lets us in.
pub(super) struct Remote {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Credentials,
    /// The wallet that is called.
    pub(super) wallet: Option<String>,
    /// Whether the node is waited for, and for how many seconds; 0 for ever.
    pub(super) wait: Option<u64>,
    /// An answer may take so many seconds; 0 for ever.
    pub(super) timeout: u64,
    /// Where credentials could stand.
    pub(super) conf_path: PathBuf,
}

/// A port that something can listen at.
pub(super) fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

/// `host`, `host:port`, `v6`, `[v6]:port`.
pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>)> {
    let (host, said) = match text.rsplit_once(':') {
        Some((host, said)) if !host.contains(':') || host.ends_with(']') => (host, Some(said)),
        _ => (text, None),
    };
    let invalid = || anyhow!("Invalid port provided in -rpcconnect: {text}");
    let port = said.map(|said| port(said).ok_or_else(invalid)).transpose()?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// A wallet's name, as a path has it.
fn encoded(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

#[expect(clippy::disallowed_methods, reason = "how long a node is waited for")]
fn now() -> Instant {
    Instant::now()
}

impl Remote {
    /// The same node, for another of its wallets or for none.
    pub(super) fn of_wallet(&self, wallet: Option<String>) -> Self {
        Self {
            host: self.host.clone(),
            credentials: self.credentials.clone(),
            conf_path: self.conf_path.clone(),
            wallet,
            ..*self
        }
    }

    /// Calls a method, and waits for the node to start if that is wanted.
    ///
    /// # Errors
    /// The node is not there, lets nobody in, or says nothing that is an answer.
    pub(super) fn call(&self, method: &str, params: &Json) -> Result<Reply> {
        let begin = now();
        loop {
            let words = match self.attempt(method, params) {
                Ok(reply) => return Ok(reply),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Transient(words)) => words,
            };
            let Some(seconds) = self.wait else { bail!(words) };
            if seconds > 0 && begin.elapsed() >= Duration::from_secs(seconds) {
                bail!("timeout on transient error: {words}");
            }
            pause(ATTEMPTS_EVERY);
        }
    }

    fn attempt(&self, method: &str, params: &Json) -> Result<Reply, Trouble> {
        let lasting = |words: String| Err(Trouble::Lasting(anyhow!(words)));
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let wait = (self.timeout > 0).then(|| Duration::from_secs(self.timeout));
        let credentials = self.credentials.read();
        let node = Node::of(&format!("{host}:{}", self.port), credentials.as_deref().unwrap_or_default(), wait);
        let node = match &self.wallet {
            Some(name) => node.wallet(&encoded(name)),
            None => node,
        };
        let request = Json::obj()
            .with("jsonrpc", "2.0")
            .with("method", method)
            .with("params", params.clone())
            .with("id", 1_u8)
            .write();
        let (status, text) = node.exchange(&request).map_err(|error| Trouble::Transient(self.silence(&error)))?;
        match status {
            401 if credentials.is_none() => {
                return lasting(format!(
                    "Could not locate RPC credentials. No authentication cookie could be found, and RPC password is not set.  \
                     See -rpcpassword and -stdinrpcpass.  Configuration file: ({})",
                    self.conf_path.display()
                ));
            }
            401 => return lasting("Authorization failed: Incorrect rpcuser or rpcpassword".to_owned()),
            503 => return lasting(format!("Server response: {text}")),
            400 | 404 | 500 => {}
            400.. => return lasting(format!("server returned HTTP error {status}")),
            _ if text.is_empty() => return lasting("no response from server".to_owned()),
            _ => {}
        }
        let Some(reply) = Json::read(text.as_bytes()) else {
            return lasting("couldn't parse reply from server".to_owned());
        };
        let (result, error) = (reply.get("result"), reply.get("error"));
        if reply.fields().map_or(true, |fields| fields.is_empty()) {
            return lasting("expected reply to have result, error and id properties".to_owned());
        }
        if error.is_null() {
            return Ok(Reply::Result(result.clone()));
        }
        if self.wait.is_some() && error.get("code").int() == Ok(IN_WARMUP) {
            return Err(Trouble::Transient("server in warmup".to_owned()));
        }
        Ok(Reply::Error(error.clone()))
    }

    fn silence(&self, error: &ureq::Error) -> String {
        let code = match error {
            ureq::Error::Timeout(_) => " (error code 0 - \"timeout reached\")",
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                " (error code 1 - \"EOF reached\")"
            }
            _ => "",
        };
        format!(
            "Could not connect to the server {}:{}{code}\n\n\
             Make sure the bitcoind server is running and that you are connecting to the correct RPC port.\n\
             Use \"bitcoin-cli -help\" for more info.",
            self.host, self.port
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port() {
        let of = |text: &str| host_and_port(text).map_err(|error| error.to_string());
        assert_eq!(of("a"), Ok(("a".to_owned(), None)));
        assert_eq!(of("a:7"), Ok(("a".to_owned(), Some(7))));
        assert_eq!(of("::1"), Ok(("::1".to_owned(), None)));
        assert_eq!(of("[::1]:7"), Ok(("::1".to_owned(), Some(7))));
        assert_eq!(of("a:0"), Err("Invalid port provided in -rpcconnect: a:0".to_owned()));
        assert_eq!(encoded("a b/c"), "a%20b%2Fc");
    }
}
