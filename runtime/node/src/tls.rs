//! Certificates and encrypted streams.
//!
//! A cluster has one certificate authority. Each node's certificate carries the name `node-<id>.verity`; a peer is
//! whoever its certificate says, and nobody without one is heard. Client doors use the node's certificate as well and
//! may ask clients for theirs. Replaced files are read again, see [`crate::rotation`].
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
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use verity_types::NodeId;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::rotation::Rotating;

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

/// The files of a node's folder.
pub(crate) const FILES: [&str; 3] = [CA_FILE, CERTIFICATE_FILE, KEY_FILE];
const CA_FILE: &str = "ca.pem";
const CERTIFICATE_FILE: &str = "node.pem";
const KEY_FILE: &str = "node.key";

/// What a folder holds.
pub(crate) struct Loaded {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Reads `ca.pem`, `node.pem` and `node.key` from a folder.
pub(crate) fn load(dir: &Path) -> Result<Loaded, TlsError> {
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
    for certificate in certificates(CA_FILE)? {
        roots.add(certificate).map_err(|error| invalid(CA_FILE, error.to_string()))?;
    }
    let key = PrivateKeyDer::from_pem_slice(&read(KEY_FILE)?).map_err(|error| invalid(KEY_FILE, error.to_string()))?;
    Ok(Loaded { roots: Arc::new(roots), chain: certificates(CERTIFICATE_FILE)?, key })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn refuse(error: impl std::fmt::Display) -> TlsError {
    TlsError::Rustls(error.to_string())
}

/// Mutual TLS between nodes.
#[derive(Clone)]
pub struct PeerTls {
    certificates: Arc<Rotating<(TlsAcceptor, TlsConnector)>>,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerTls")
    }
}

fn peer_tls(loaded: Loaded) -> Result<(TlsAcceptor, TlsConnector), TlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&loaded.roots), provider()).build().map_err(refuse)?;
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
    Ok((TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client))))
}

impl PeerTls {
    /// Reads the certificates of a node from a folder: `ca.pem`, `node.pem`, `node.key`.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        Ok(Self { certificates: Arc::new(Rotating::load(dir, peer_tls)?) })
    }

    /// Opens the stream to `node`; fails if the other end cannot prove that it is that node.
    pub(crate) async fn connect(
        &self,
        node: NodeId,
        tcp: TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(node_name(node)).map_err(io::Error::other)?;
        self.certificates.current().1.connect(name, tcp).await
    }

    /// Accepts a stream and tells which node proved itself at the other end.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, NodeId)> {
        let stream = self.certificates.current().0.accept(tcp).await?;
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

/// Whether clients show certificates. One that is shown is checked against `ca.pem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    Ignored,
    /// They are asked, and may have none.
    Wanted,
    /// Without one there is no connection.
    Required,
}

/// TLS for clients.
#[derive(Clone)]
pub struct ServerTls {
    certificates: Arc<Rotating<TlsAcceptor>>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

fn server_tls(loaded: Loaded, clients: ClientCertificates) -> Result<TlsAcceptor, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(loaded.roots, provider());
    let verifier = match clients {
        ClientCertificates::Ignored => WebPkiClientVerifier::no_client_auth(),
        ClientCertificates::Wanted => verifier.allow_unauthenticated().build().map_err(refuse)?,
        ClientCertificates::Required => verifier.build().map_err(refuse)?,
    };
    let key = provider().key_provider.load_private_key(loaded.key).map_err(refuse)?;
    let certified = CertifiedKey::new(loaded.chain, key);
    // A certificate that rustls does not understand, as of version 1, is for the clients to judge.
    if let Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = certified.keys_match() {
        return Err(refuse(error));
    }
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refuse)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Ok(TlsAcceptor::from(Arc::new(server)))
}

impl ServerTls {
    /// Reads a node's certificates from a folder: `ca.pem`, `node.pem`, `node.key`.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(dir: &Path, clients: ClientCertificates) -> Result<Self, TlsError> {
        let certificates = Rotating::load(dir, move |loaded| server_tls(loaded, clients))?;
        Ok(Self { certificates: Arc::new(certificates) })
    }

    /// Accepts a stream and tells the subject of the client's certificate, if it showed one.
    ///
    /// # Errors
    /// The stream's, and a handshake that comes to nothing.
    pub async fn accept(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Option<String>)> {
        let stream = self.certificates.current().accept(tcp).await?;
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

    fn write(dir: &Path, ca: &Issued, node: &Issued) {
        for (file, text) in FILES.into_iter().zip([&ca.certificate, &node.certificate, &node.key]) {
            fs::write(dir.join(file), text).expect("the folder can be written");
        }
    }

    /// Connects once, and tells the certificate that the server shows.
    async fn shown(tls: &ServerTls, ca: &Issued) -> CertificateDer<'static> {
        let mut roots = RootCertStore::empty();
        roots.add(der(&ca.certificate)).expect("an authority");
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let serve = async {
            let (tcp, _) = listener.accept().await.expect("the client connects");
            tls.accept(tcp).await.expect("the client trusts the authority")
        };
        let connect = async {
            let tcp = TcpStream::connect(addr).await.expect("the listener is there");
            let name = ServerName::try_from("localhost").expect("a name");
            TlsConnector::from(Arc::new(client)).connect(name, tcp).await.expect("the server is trusted")
        };
        let (_, stream) = tokio::join!(serve, connect);
        let chain = stream.get_ref().1.peer_certificates().expect("servers show theirs");
        chain[0].clone().into_owned()
    }

    #[tokio::test]
    async fn replaced_certificates_serve_the_next_connection() {
        let dir = tempfile::tempdir().expect("a folder");
        let ca = make_ca("test").expect("a key can be made");
        let [first, second] = ["a.example", "longer-name.example"]
            .map(|host| issue_node(&ca, NodeId(1), &[host.into()]).expect("the authority can sign"));
        write(dir.path(), &ca, &first);
        let ignored = |loaded| server_tls(loaded, ClientCertificates::Ignored);
        let rotating = Rotating::looking_every(std::time::Duration::ZERO, dir.path(), ignored).expect("usable files");
        let tls = ServerTls { certificates: Arc::new(rotating) };
        assert_eq!(shown(&tls, &ca).await, der(&first.certificate));
        write(dir.path(), &ca, &second);
        assert_eq!(shown(&tls, &ca).await, der(&second.certificate));
        // A key without its certificate: halfway through a replacement.
        fs::write(dir.path().join(CERTIFICATE_FILE), &first.certificate).expect("the folder can be written");
        assert_eq!(shown(&tls, &ca).await, der(&second.certificate), "what cannot be used is not used");
        fs::write(dir.path().join(KEY_FILE), first.key.clone() + "\n").expect("the folder can be written");
        assert_eq!(shown(&tls, &ca).await, der(&first.certificate));
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
