//! Where a cluster is, and as whom it is asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use verity_kafka::client::Mechanism;

/// The files of TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// The authority that brokers' certificates come from.
    pub(crate) ca: PathBuf,
    /// The client's own certificate and key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
    /// The name that brokers' certificates bear, if it is not their address.
    pub(crate) name: Option<String>,
}

/// Who asks.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) mechanism: Mechanism,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// TLS, ready to connect.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(super) connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

/// A cluster, from where it is asked.
#[derive(Clone)]
pub(crate) struct Access {
    /// Brokers to ask first, `HOST:PORT`.
    pub(crate) bootstrap: Vec<String>,
    pub(super) tls: Option<Tls>,
    pub(super) identity: Option<Identity>,
}

impl Access {
    /// By these flags.
    pub(crate) fn new(bootstrap: Vec<String>, trust: Option<&Trust>, identity: Option<Identity>) -> Result<Self> {
        for address in &bootstrap {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                bail!("{address:?} is not HOST:PORT, such as 127.0.0.1:9092");
            }
        }
        let tls = trust.map(Tls::load).transpose()?;
        Ok(Self { bootstrap, tls, identity })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.with_context(|| format!("{} is not PEM", path.display()))?;
    if all.is_empty() {
        bail!("{} holds no certificate", path.display());
    }
    Ok(all)
}

impl Tls {
    fn load(trust: &Trust) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&trust.ca)? {
            roots.add(certificate).with_context(|| format!("{} cannot be used", trust.ca.display()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &trust.own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let pem = std::fs::read(key).with_context(|| format!("cannot read {}", key.display()))?;
                let key = PrivateKeyDer::from_pem_slice(&pem)
                    .with_context(|| format!("{} holds no private key", key.display()))?;
                config.with_client_auth_cert(certificates(certificate)?, key)?
            }
        };
        let name = trust
            .name
            .clone()
            .map(|name| ServerName::try_from(name.clone()).with_context(|| format!("{name:?} is no name")));
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name: name.transpose()? })
    }

    /// The name that the certificate of a host must bear.
    pub(super) fn name(&self, host: &str) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| ServerName::try_from(host.to_owned()).ok())
    }
}
