//! Calls to a Bitcoin node, Verity's or any other, by JSON-RPC.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use clap::Args;
use serde_json::{Value, json};

/// A call that takes longer has no answer.
const CALL_WAIT: Duration = Duration::from_secs(30);
/// No answer is longer: a full mempool, each transaction with all that is known of it.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Where a node is, and how it lets us in.
#[derive(Args, Debug)]
#[command(next_help_heading = "Where the node is")]
pub(crate) struct RpcArgs {
    /// Its calls.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:18443", env = "VERITY_BITCOIN_RPC")]
    rpc: String,
    /// The file that it writes for clients on this machine.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    cookie: Option<PathBuf>,
    /// A user, where there is no cookie.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// The user's password.
    #[arg(long, env = "VERITY_BITCOIN_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

/// One node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    url: String,
    authorization: String,
    agent: ureq::Agent,
}

impl RpcArgs {
    /// The node.
    pub(crate) fn node(&self) -> Result<Node> {
        let credentials = match (&self.user, &self.password, &self.cookie) {
            (Some(user), Some(password), _) => format!("{user}:{password}"),
            (_, _, Some(cookie)) => {
                let text = std::fs::read_to_string(cookie);
                text.with_context(|| format!("cannot read {}; does the node run?", cookie.display()))?.trim().to_owned()
            }
            _ => bail!("say how the node lets you in: --cookie DIR/regtest/.cookie, or --user and --password"),
        };
        Ok(Node::of(&self.rpc, &credentials, Some(CALL_WAIT)))
    }
}

impl Node {
    /// A node of this process, or any whose password is known.
    pub(crate) fn new(addr: &str, user: &str, password: &str) -> Self {
        Self::of(addr, &format!("{user}:{password}"), Some(CALL_WAIT))
    }

    /// A node that lets in whoever has these credentials, `user:password`; an answer may take so long.
    pub(super) fn of(addr: &str, credentials: &str, wait: Option<Duration>) -> Self {
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
        let config = ureq::Agent::config_builder().timeout_global(wait).http_status_as_error(false);
        Self {
            url: format!("http://{addr}/"),
            authorization: format!("Basic {encoded}"),
            agent: config.build().new_agent(),
        }
    }

    /// The same node, for one of its wallets.
    pub(crate) fn wallet(&self, name: &str) -> Self {
        Self { url: format!("{}wallet/{name}", self.url), ..self.clone() }
    }

    /// Calls a method that answers with text.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub(crate) fn text(&self, method: &str, params: &Value) -> Result<String> {
        let answer = self.call(method, params)?;
        answer.as_str().map(str::to_owned).with_context(|| format!("{method} answers with no text"))
    }

    /// The height of its tip.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub(crate) fn height(&self) -> Result<u64> {
        self.call("getblockcount", &json!([]))?.as_u64().context("a height is a number")
    }

    /// Sends a request; answers with the status and the text that came.
    ///
    /// # Errors
    /// The node is not there, or does not answer.
    pub(super) fn exchange(&self, body: &str) -> Result<(u16, String), ureq::Error> {
        let request = self.agent.post(&self.url).header("Authorization", &self.authorization);
        let mut response = request.send(body)?;
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
        Ok((response.status().as_u16(), text))
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The node is not there, lets nobody in, or says no in its own words.
    pub(crate) fn call(&self, method: &str, params: &Value) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let (status, text) = self.exchange(&body).with_context(|| format!("{} does not answer", self.url))?;
        if status == 401 {
            bail!("{} lets nobody in by that password", self.url);
        }
        let mut answer: Value = serde_json::from_str(&text).map_err(|_| anyhow!("{} answers no JSON", self.url))?;
        match &answer["error"]["message"] {
            Value::String(words) => bail!("{method}: {words}"),
            _ => Ok(answer["result"].take()),
        }
    }
}
