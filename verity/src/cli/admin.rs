//! How commands reach a running cluster: its admin API, and the token of the data folder for what changes something.
//!
//! - upon an admin API beyond loopback: it speaks TLS, and the authority's `ca.pem` says whether it is the one;
//! - upon one that does not answer: the command ends. Nothing here waits for ever.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::secrets;

/// An address at which nobody answers within this has nobody.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// What a node says about itself, and what it breaks, takes no longer.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// A change of members takes as long as newcomers need to learn the log, within the bounds that the cluster has for it.
const CHANGE_WAIT: Duration = Duration::from_secs(90);
/// A fault of a chain takes effect within this: blocks are mined, and travel.
const FAULT_WAIT: Duration = Duration::from_secs(300);
/// The heading of these flags in help.
pub(crate) const HEADING: &str = "Where the cluster is";

/// Where the cluster is.
#[derive(Args, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct AdminArgs {
    /// The admin API of the cluster, or of the node for `verity server`.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:7070", env = "VERITY_ADMIN")]
    admin: String,
    /// The data folder, whose admin.token allows changes.
    #[arg(long, global = true, value_name = "DIR", default_value = "verity-data", env = "VERITY_DATA_DIR")]
    data_dir: PathBuf,
    /// The token itself, if the data folder is elsewhere.
    #[arg(long, global = true, env = "VERITY_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    trust: Trust,
}

/// Whom a command trusts.
#[derive(Args, Clone, Debug)]
pub(crate) struct Trust {
    /// The authority's ca.pem: the admin API is asked over TLS, as it is served beyond loopback.
    #[arg(long, global = true, value_name = "FILE", env = "VERITY_ADMIN_CA", help_heading = HEADING)]
    admin_ca: Option<PathBuf>,
}

/// One admin API.
pub(crate) struct Way<'a> {
    admin: &'a str,
    url: String,
    agent: ureq::Agent,
}

impl Trust {
    /// The way to the admin API at `HOST:PORT`, or at an address with its scheme.
    pub(crate) fn way<'a>(&self, admin: &'a str) -> Result<Way<'a>> {
        let url = match (admin.contains("://"), &self.admin_ca) {
            (true, _) => admin.trim_end_matches('/').to_owned(),
            (false, None) => format!("http://{admin}"),
            (false, Some(_)) => format!("https://{admin}"),
        };
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_WAIT))
            .timeout_global(Some(ANSWER_WAIT));
        match &self.admin_ca {
            Some(path) => config = config.tls_config(trusting(path)?),
            None if url.starts_with("https:") => {
                bail!("{admin} speaks TLS; name the authority's ca.pem with --admin-ca")
            }
            None => {}
        }
        Ok(Way { admin, url, agent: config.build().into() })
    }
}

/// TLS that believes this authority and no other.
fn trusting(path: &Path) -> Result<TlsConfig> {
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        bail!("{} holds no certificate; `verity cert ca` makes one", path.display());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCerts::Specific(Arc::new(certificates));
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}

impl Way<'_> {
    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T> {
        let mut response = response.map_err(|error| match error {
            ureq::Error::Timeout(ureq::Timeout::Global) => {
                anyhow::anyhow!("{} has not answered in time; what was asked may still be done", self.admin)
            }
            error => anyhow::Error::new(error).context(format!(
                "no Verity answers at {}; start one with `verity up`, or name it with --admin; beyond loopback it \
                 speaks TLS, and --admin-ca names the authority",
                self.admin
            )),
        })?;
        if response.status().is_success() {
            return response.body_mut().read_json().context("the answer is not Verity's");
        }
        let answer: serde_json::Value = response.body_mut().read_json().context("the answer is not Verity's")?;
        bail!("{}", answer["error"].as_str().unwrap_or("refused"))
    }

    /// Asks.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.answer(self.agent.get(format!("{}{path}", self.url)).call())
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: &str,
        wait: Duration,
        request: &impl Serialize,
    ) -> Result<T> {
        let post = self.agent.post(format!("{}{path}", self.url)).config().timeout_global(Some(wait)).build();
        self.answer(post.header("Authorization", format!("Bearer {token}")).send_json(request))
    }
}

impl AdminArgs {
    /// Asks.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.trust.way(&self.admin)?.get(path)
    }

    /// Breaks or heals something.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T> {
        self.trust.way(&self.admin)?.post(path, &self.token()?, ANSWER_WAIT, request)
    }

    /// The same, for what takes effect before it answers.
    pub(crate) fn post_patiently<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T> {
        self.trust.way(&self.admin)?.post(path, &self.token()?, FAULT_WAIT, request)
    }

    /// Changes the members.
    pub(crate) fn change<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T> {
        self.trust.way(&self.admin)?.post(path, &self.token()?, CHANGE_WAIT, request)
    }

    fn token(&self) -> Result<String> {
        let Some(token) = self.token.clone().or_else(|| secrets::read_admin_token(&self.data_dir)) else {
            bail!(
                "there is no admin.token in {}; name the cluster's data folder with --data-dir, or give --token",
                self.data_dir.display()
            );
        };
        Ok(token)
    }
}
