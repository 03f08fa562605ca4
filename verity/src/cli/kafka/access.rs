//! The flags that say where a cluster is, and as whom it is asked.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use verity_kafka::client::Mechanism;

use crate::cli::admin::HEADING;
use crate::kafka::{Access, Identity, Trust};

/// Where the cluster is.
#[derive(Args, Debug)]
#[command(next_help_heading = HEADING)]
pub(super) struct AccessArgs {
    /// Brokers to ask first, separated by commas; they name the others.
    #[arg(
        long,
        short = 'b',
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092",
        env = "VERITY_KAFKA"
    )]
    bootstrap: Vec<String>,
    /// The authority's ca.pem: brokers are asked over TLS.
    #[arg(long, global = true, value_name = "FILE", env = "VERITY_KAFKA_CA")]
    tls_ca: Option<PathBuf>,
    /// The client's own certificate, for brokers that want one.
    #[arg(long, global = true, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name in the brokers' certificates, if it is not their address.
    #[arg(long, global = true, value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
    /// How the user is shown; without it, by SCRAM-SHA-256 if there is a user.
    #[arg(long, global = true, value_enum, value_name = "MECHANISM", requires = "user")]
    sasl: Option<Sasl>,
    /// Who asks, by SASL.
    #[arg(long, global = true, value_name = "NAME", env = "VERITY_KAFKA_USER")]
    user: Option<String>,
    /// The password. On a command line others of this machine can read it; the variable hides it.
    #[arg(long, global = true, value_name = "TEXT", env = "VERITY_KAFKA_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// A file that holds the password.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sasl {
    Plain,
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

impl AccessArgs {
    pub(super) fn access(&self) -> Result<Access> {
        let own = self.tls_cert.clone().zip(self.tls_key.clone());
        if own.is_some() && self.tls_ca.is_none() {
            bail!("--tls-cert is shown over TLS; name the authority of the brokers with --tls-ca");
        }
        let trust = self.tls_ca.clone().map(|ca| Trust { ca, own, name: self.tls_name.clone() });
        Access::new(self.bootstrap.clone(), trust.as_ref(), self.identity()?)
    }

    fn identity(&self) -> Result<Option<Identity>> {
        let Some(user) = self.user.clone() else { return Ok(None) };
        let password = match (&self.password, &self.password_file) {
            (Some(password), _) => password.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            (None, None) => bail!("user {user} needs a password: VERITY_KAFKA_PASSWORD, or --password-file"),
        };
        let mechanism = match self.sasl {
            Some(Sasl::Plain) => Mechanism::Plain,
            None | Some(Sasl::ScramSha256) => Mechanism::ScramSha256,
            Some(Sasl::ScramSha512) => Mechanism::ScramSha512,
        };
        Ok(Some(Identity { mechanism, user, password }))
    }
}
