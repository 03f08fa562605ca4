//! How commands reach a running cluster: its admin API, and the token of the data folder for what changes something.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::secrets;

/// Where the cluster is.
#[derive(Args, Debug)]
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
}

impl AdminArgs {
    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder().http_status_as_error(false).build().into()
    }

    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T> {
        let mut response = response.with_context(|| {
            format!("no Verity answers at {}; start one with `verity up`, or name it with --admin", self.admin)
        })?;
        if response.status().is_success() {
            return response.body_mut().read_json().context("the answer is not Verity's");
        }
        let answer: serde_json::Value = response.body_mut().read_json().context("the answer is not Verity's")?;
        bail!("{}", answer["error"].as_str().unwrap_or("refused"))
    }

    /// Asks.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.answer(Self::agent().get(format!("http://{}{path}", self.admin)).call())
    }

    /// Changes something.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T> {
        let Some(token) = self.token.clone().or_else(|| secrets::read_admin_token(&self.data_dir)) else {
            bail!(
                "there is no admin.token in {}; name the cluster's data folder with --data-dir, or give --token",
                self.data_dir.display()
            );
        };
        let post = Self::agent().post(format!("http://{}{path}", self.admin));
        self.answer(post.header("Authorization", format!("Bearer {token}")).send_json(request))
    }
}
