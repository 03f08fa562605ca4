//! The admin API: health, status, metrics, faults.
//!
//! ```text
//! GET  /healthz      200 while the process runs
//! GET  /readyz       200 once every group of the node has a leader and this node can serve; 503 before
//! GET  /metrics      Prometheus text
//! GET  /api/status   how every node of this process is, as JSON
//! GET  /api/members  who takes part, as JSON; POST changes it, and needs the token
//! GET  /api/evidence who lied, and the proofs; GET /api/keys, with which they are checked
//! POST /api/certified a znode or a record, with the signatures of f + 1 nodes; needs the token
//! POST /api/fault    break or heal something; needs the token of the data folder in `Authorization: Bearer`
//! ```
//! Requests whose `Host` or `Origin` is not this machine are refused, so that a web page in a browser cannot reach a
//! cluster on loopback. Over TLS names are not asked for: no page can have a certificate of the cluster's authority.
//!
//! Deliberately absent: what a fault does. The nodes know.

mod evidence;
mod fault;
mod kafka;
mod listener;
mod members;
mod metrics;
mod records_query;
mod status;
mod tree_query;

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::oneshot;
use tracing::Instrument as _;
use verity_node::{NodeClient, ServerTls, TRACE};
use verity_types::NodeId;

use crate::bitcoin::chains::Chains;

pub(crate) use evidence::{CertifiedReport, CertifiedRequest, EvidenceReport, parse_keys};
pub(crate) use fault::{Chain, FaultRequest};
pub(crate) use listener::Listener;
use listener::TlsListener;
pub(crate) use members::{About, Member, MembersReport, MembersRequest, Switches};
pub(crate) use metrics::{Figure, Labels, Values, figures, samples};
pub(crate) use records_query::Place;
pub(crate) use status::{StatusReport, report_measured};

/// The nodes of this process, as the admin API sees them.
pub(crate) trait Lab: Send + Sync + 'static {
    /// All nodes of the process, running or not.
    fn ids(&self) -> Vec<NodeId>;
    /// Something to ask a running node with.
    fn client(&self, id: NodeId) -> Option<NodeClient>;
    /// Ends a node as if its process had died.
    fn crash(&self, id: NodeId) -> Result<()>;
    /// Starts a node again.
    fn restart(&self, id: NodeId) -> Result<()>;
    /// True if faults may be brought about.
    fn is_lab(&self) -> bool;
    /// What the cluster is.
    fn about(&self) -> About;
    /// The nodes' Bitcoin nodes, if they are served.
    fn chains(&self) -> Option<Arc<Chains>>;
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) lab: Arc<dyn Lab>,
    /// The node whose port this is.
    pub(crate) node: NodeId,
    pub(crate) token: Arc<str>,
}

/// A running admin server.
pub(crate) struct AdminServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Serves the admin API of each node at its address. `hint` says what moves it from a port that is taken.
    pub(crate) fn start(listeners: Vec<Listener>, hint: &str) -> Result<Self> {
        let mut bound = Vec::new();
        for Listener { addr, admin, tls } in listeners {
            let listener = std::net::TcpListener::bind(addr)
                .with_context(|| format!("the admin API cannot listen on {addr}, {hint}"))?;
            listener.set_nonblocking(true)?;
            bound.push((listener, admin, tls));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "the binary's own thread for its admin API")]
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                for (listener, admin, tls) in bound {
                    if let Err(error) = serve(listener, admin, tls) {
                        tracing::error!(%error, "the admin API does not run");
                    }
                }
                // Either the server is stopped or its owner is gone; both end it.
                let _ = stopped.await;
            });
        });
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the admin thread does not panic");
        }
    }
}

fn serve(listener: std::net::TcpListener, admin: Admin, tls: Option<ServerTls>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    match tls {
        None => {
            let router = router(admin).layer(axum::middleware::from_fn(from_this_machine));
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        Some(tls) => {
            let listener = TlsListener::start(listener, tls)?;
            tokio::spawn(async move { axum::serve(listener, router(admin)).await });
        }
    }
    Ok(())
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::serve))
        .route("/api/status", get(status::serve))
        .route("/api/members", get(members::list).post(members::change))
        .route("/api/evidence", get(evidence::serve))
        .route("/api/keys", get(evidence::keys))
        .route("/api/certified", post(evidence::certified))
        .route("/api/fault", post(fault::serve))
        .layer(axum::middleware::from_fn(traced))
        .with_state(admin)
}

/// A request that failed, with one line that says why.
pub(crate) struct Refused(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self(StatusCode::CONFLICT, format!("{error:#}"))
    }
}

async fn readyz(State(admin): State<Admin>) -> Result<&'static str, Refused> {
    let not_ready = |why: &str| Refused(StatusCode::SERVICE_UNAVAILABLE, why.to_owned());
    let client = admin.lab.client(admin.node).ok_or_else(|| not_ready("the node is not running"))?;
    let status = client.status().await.map_err(|error| not_ready(&error.to_string()))?;
    if status.groups.iter().all(|group| group.role.leader.is_some() && group.applied.0 > 0) {
        Ok("ready\n")
    } else {
        Err(not_ready("a group has no leader yet"))
    }
}

/// One span for each request to the API. Health and metrics are asked for all the time, and tell nothing.
async fn traced(request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/api/") {
        return next.run(request).await;
    }
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let span = tracing::info_span!(target: TRACE, "admin", method, path, status = tracing::field::Empty);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("status", u64::from(response.status().as_u16()));
    response
}

/// Refuses what a browser sends on behalf of another site, and names that only look like this machine.
async fn from_this_machine(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
    let origin_host = origin.map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    if !is_local(host) || origin_host.is_some_and(|origin| !is_local(origin)) {
        return Refused(StatusCode::FORBIDDEN, "the admin API answers only to this machine's own names".into())
            .into_response();
    }
    next.run(request).await
}

/// True for `localhost` and literal addresses, with or without a port. A name that resolves here by an attacker's DNS is
/// neither.
fn is_local(host: &str) -> bool {
    let name = if let Some(rest) = host.strip_prefix('[') {
        rest.split(']').next().unwrap_or_default()
    } else {
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

pub(crate) fn check_token(admin: &Admin, headers: &HeaderMap) -> Result<(), Refused> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Every byte is compared, so that the time taken tells nothing.
    let same = !given.is_empty()
        && given.len() == admin.token.len()
        && given.bytes().zip(admin.token.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
    if same {
        Ok(())
    } else {
        Err(Refused(StatusCode::UNAUTHORIZED, "this needs the token in the data folder's admin.token".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_names_pass() {
        for host in ["localhost", "localhost:7070", "127.0.0.1:7070", "[::1]:7070", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "evil.example:7070", "localhost.evil.example", "", "127.0.0.1.evil.example:80"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
