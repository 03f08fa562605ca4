//! Certificates and encrypted streams.
//!
//! A cluster has one certificate authority. Each node's certificate carries the name `node-<id>.verity`; a peer is
//! whoever its certificate says, and nobody without one is heard. Client doors use the node's certificate as well and
//! may ask clients for theirs.
//!
//! Deliberately absent: revocation. A node that left is no longer a member, and its messages are ignored.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use verity_types::NodeId;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Why certificates cannot be made or used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What a file holds cannot be used.
    #[error("{path}: {reason}")]
    Invalid {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS library refuses the certificates.
    #[error("the certificates cannot be used: {0}")]
    Rustls(String),
}

/// The files of a certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Makes the certificate authority of a new cluster.
///
/// # Errors
/// [`TlsError::Make`].
pub fn make_ca(cluster: &str) -> Result<Issued, TlsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(&format!("Verity cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Makes a node's certificate. `hosts` are further names or addresses under which clients reach it.
///
/// # Errors
/// [`TlsError`].
pub fn issue_node(ca: &Issued, node: NodeId, hosts: &[String]) -> Result<Issued, TlsError> {
    let mut names = vec![node_name(node), "localhost".into(), "127.0.0.1".into(), "::1".into()];
    names.extend(hosts.iter().cloned());
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = name(&node_name(node));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    issue(ca, params)
}

/// Makes a client's certificate with this common name.
///
/// # Errors
/// [`TlsError`].
pub fn issue_client(ca: &Issued, common_name: &str) -> Result<Issued, TlsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(common_name);
    params.subject_alt_names = vec![SanType::Rfc822Name(
        "client@verity.invalid".try_into().map_err(|error| TlsError::Rustls(format!("{error:?}")))?,
    )];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(ca, params)
}

fn issue(ca: &Issued, params: CertificateParams) -> Result<Issued, TlsError> {
    let ca_key = KeyPair::from_pem(&ca.key)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn node_name(node: NodeId) -> String {
    format!("node-{node}.verity")
}

struct Loaded {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Reads `ca.pem`, `node.pem` and `node.key` from a folder.
fn load(dir: &Path) -> Result<Loaded, TlsError> {
    let read = |file: &str| {
        let path = dir.join(file);
        fs::read(&path).map_err(|source| TlsError::File { path: path.display().to_string(), source })
    };
    let invalid = |file: &str, reason: String| TlsError::Invalid { path: dir.join(file).display().to_string(), reason };
    let certificates = |file: &str| {
        CertificateDer::pem_slice_iter(&read(file)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| invalid(file, error.to_string()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.pem")? {
        roots.add(certificate).map_err(|error| invalid("ca.pem", error.to_string()))?;
    }
    let key =
        PrivateKeyDer::from_pem_slice(&read("node.key")?).map_err(|error| invalid("node.key", error.to_string()))?;
    Ok(Loaded { roots: Arc::new(roots), chain: certificates("node.pem")?, key })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Mutual TLS between nodes.
#[derive(Clone)]
pub struct PeerTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerTls")
    }
}

impl PeerTls {
    /// Reads the certificates of a node from a folder: `ca.pem`, `node.pem`, `node.key`.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        let refuse = |error: rustls::Error| TlsError::Rustls(error.to_string());
        let loaded = load(dir)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&loaded.roots), provider())
            .build()
            .map_err(|error| TlsError::Rustls(error.to_string()))?;
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refuse)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(loaded.chain.clone(), loaded.key.clone_key())
            .map_err(refuse)?;
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refuse)?
            .with_root_certificates(loaded.roots)
            .with_client_auth_cert(loaded.chain, loaded.key)
            .map_err(refuse)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), connector: TlsConnector::from(Arc::new(client)) })
    }

    /// Opens the stream to `node`; fails if the other end cannot prove that it is that node.
    pub(crate) async fn connect(
        &self,
        node: NodeId,
        tcp: TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(node_name(node)).map_err(io::Error::other)?;
        self.connector.connect(name, tcp).await
    }

    /// Accepts a stream and tells which node proved itself at the other end.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, NodeId)> {
        let stream = self.acceptor.accept(tcp).await?;
        let node = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(certified_node);
        let node = node.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the certificate names no node"))?;
        Ok((stream, node))
    }
}

fn certified_node(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(names),
        _ => None,
    })?;
    names.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => name.strip_prefix("node-")?.strip_suffix(".verity")?.parse().ok().map(NodeId),
        _ => None,
    })
}

/// TLS for clients.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Reads a node's certificates from a folder. A client's certificate is asked for, checked against `ca.pem`, and
    /// needed if `client_certificates_required`.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(dir: &Path, client_certificates_required: bool) -> Result<Self, TlsError> {
        let refuse = |error: rustls::Error| TlsError::Rustls(error.to_string());
        let loaded = load(dir)?;
        let mut verifier = WebPkiClientVerifier::builder_with_provider(loaded.roots, provider());
        if !client_certificates_required {
            verifier = verifier.allow_unauthenticated();
        }
        let verifier = verifier.build().map_err(|error| TlsError::Rustls(error.to_string()))?;
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(refuse)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(loaded.chain, loaded.key)
            .map_err(refuse)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)) })
    }

    /// Accepts a stream and tells the subject of the client's certificate, if it showed one.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Option<String>)> {
        let stream = self.acceptor.accept(tcp).await?;
        let subject = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(subject);
        Ok((stream, subject))
    }
}

/// The subject as RFC 2253 writes it: most specific part first, parts joined by commas.
fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut parts: Vec<String> = parsed
        .subject()
        .iter_attributes()
        .filter_map(|attribute| {
            let oid = attribute.attr_type();
            let value = attribute.as_str().ok()?;
            let key = match oid.to_id_string().as_str() {
                "2.5.4.3" => "CN".to_owned(),
                "2.5.4.6" => "C".to_owned(),
                "2.5.4.7" => "L".to_owned(),
                "2.5.4.8" => "ST".to_owned(),
                "2.5.4.10" => "O".to_owned(),
                "2.5.4.11" => "OU".to_owned(),
                "0.9.2342.19200300.100.1.25" => "DC".to_owned(),
                other => other.to_owned(),
            };
            Some(format!("{key}={value}"))
        })
        .collect();
    parts.reverse();
    Some(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).expect("what was just made is PEM")
    }

    #[test]
    fn certificates_name_their_bearer() {
        let ca = make_ca("test").expect("a key can be made");
        let node = issue_node(&ca, NodeId(3), &["db.example".into()]).expect("the authority can sign");
        assert_eq!(certified_node(&der(&node.certificate)), Some(NodeId(3)));
        let client = issue_client(&ca, "alice").expect("the authority can sign");
        assert_eq!(certified_node(&der(&client.certificate)), None);
        assert_eq!(subject(&der(&client.certificate)).as_deref(), Some("CN=alice"));
    }
}
