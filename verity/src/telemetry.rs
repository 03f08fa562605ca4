//! `[telemetry]`: the nodes of this process, told to an OpenTelemetry collector by OTLP over HTTP.
//!
//! - every interval: each node is asked how it is, and what it says leaves as gauges with the node and the group as
//!   attributes. The figures and their words are those of `GET /metrics`;
//! - upon a collector that does not answer: a warning, once, and the next interval is another try. Nothing is kept,
//!   nothing waits for it.
//!
//! Deliberately absent: traces and logs, and `https`; a collector beside the node speaks it to the world.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use tokio::sync::oneshot;

use crate::admin::{Figure, Lab, figures, report};
use crate::settings::Telemetry;

/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every node's figures, as they were last asked for.
type Latest = Arc<Mutex<Vec<(u64, Vec<Figure>)>>>;

/// What sends. Dropping it sends once more, and ends.
pub(crate) struct Exporter {
    provider: SdkMeterProvider,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The way to the collector.
#[derive(Debug)]
struct Http {
    agent: ureq::Agent,
    /// The last try failed.
    failed: AtomicBool,
}

#[async_trait::async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let to = request.uri().to_string();
        let answer = self.agent.run(request.map(|body| body.to_vec())).and_then(|answer| {
            let (parts, mut body) = answer.into_parts();
            Ok(Response::from_parts(parts, Bytes::from(body.read_to_vec()?)))
        });
        let failure = match &answer {
            Err(error) => Some(error.to_string()),
            Ok(answer) => Some(answer.status()).filter(|status| !status.is_success()).map(|status| status.to_string()),
        };
        let failed_before = self.failed.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(reason) if !failed_before => tracing::warn!(%to, %reason, "figures cannot be sent"),
            None if failed_before => tracing::info!(%to, "figures are sent again"),
            _ => {}
        }
        Ok(answer?)
    }
}

impl Exporter {
    /// Starts to send, if there is somewhere to send to.
    pub(crate) fn start(settings: &Telemetry, lab: Arc<dyn Lab>) -> Result<Option<Self>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let endpoint = format!("{}/v1/metrics", endpoint.trim_end_matches('/'));
        let interval = Duration::from_secs(settings.interval_s);
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
        let exporter = MetricExporter::builder()
            .with_http()
            .with_http_client(Http { agent: agent.into(), failed: AtomicBool::new(false) })
            .with_endpoint(&endpoint)
            .with_timeout(PATIENCE)
            .build()
            .with_context(|| format!("OpenTelemetry cannot be sent to {endpoint}"))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter).with_interval(interval).build())
            .with_resource(Resource::builder().with_service_name("verity").with_attribute(version).build())
            .build();
        let latest = Latest::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        *lock(&latest) = runtime.block_on(ask(&lab));
        gauges(&provider, &latest);
        let (stop, mut stopped) = oneshot::channel::<()>();
        #[expect(clippy::disallowed_methods, reason = "the binary's own thread, which waits for slow nodes")]
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                // Asked twice an interval, so that what is sent is younger than one.
                let mut pause = tokio::time::interval(interval / 2);
                loop {
                    tokio::select! {
                        _ = &mut stopped => break,
                        _ = pause.tick() => {
                            let all = ask(&lab).await;
                            *lock(&latest) = all;
                        }
                    }
                }
            });
        });
        Ok(Some(Self { provider, stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last figures were not sent");
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread that asks does not panic");
        }
    }
}

fn lock(latest: &Latest) -> std::sync::MutexGuard<'_, Vec<(u64, Vec<Figure>)>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(lab: &Arc<dyn Lab>) -> Vec<(u64, Vec<Figure>)> {
    report(lab.as_ref()).await.nodes.iter().map(|node| (node.id, figures(node))).collect()
}

/// One gauge for each figure. A node or group that is gone leaves no value behind.
fn gauges(provider: &SdkMeterProvider, latest: &Latest) {
    let meter = provider.meter("verity");
    let known: Vec<(&'static str, &'static str)> = lock(latest)
        .first()
        .map(|(_, all)| all.iter().map(|figure| (figure.name, figure.help)).collect())
        .unwrap_or_default();
    for (name, help) in known {
        let latest = Arc::clone(latest);
        // The provider keeps the instrument and calls back.
        let _ = meter
            .u64_observable_gauge(format!("verity.{name}"))
            .with_description(help)
            .with_callback(move |observer| {
                for (node, all) in lock(&latest).iter() {
                    let node = i64::try_from(*node).unwrap_or(i64::MAX);
                    for (group, value) in all.iter().filter(|figure| figure.name == name).flat_map(|f| &f.values) {
                        let mut attributes = vec![KeyValue::new("node", node)];
                        attributes.extend(group.as_ref().map(|group| KeyValue::new("group", group.clone())));
                        observer.observe(*value, &attributes);
                    }
                }
            })
            .build();
    }
}
