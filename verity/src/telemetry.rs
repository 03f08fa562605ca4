//! `[telemetry]`: the nodes of this process, told to an OpenTelemetry collector by OTLP over HTTP.
//!
//! - every interval: each node is asked how it is, and what it says leaves as gauges and counters with the node as an
//!   attribute. The figures and their words are those of `GET /metrics`; a histogram leaves as its counters;
//! - upon the end of a span: see [`spans`];
//! - upon a collector that does not answer: a warning, once, and the next interval is another try. Nothing is kept,
//!   nothing waits for it.
//!
//! Deliberately absent: logs, and `https`; a collector beside the node speaks it to the world.

mod spans;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use tokio::sync::oneshot;

use crate::admin::{Figure, Lab, Labels, Values, figures, report_measured, samples};
use crate::settings::Telemetry;

pub(crate) use spans::{Spans, Traces};

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
    /// What is sent.
    what: &'static str,
}

impl Http {
    fn new(what: &'static str) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        Self { agent: config.build().into(), failed: AtomicBool::new(false), what }
    }
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
            Some(reason) if !failed_before => tracing::warn!(%to, %reason, "{} cannot be sent", self.what),
            None if failed_before => tracing::info!(%to, "{} are sent again", self.what),
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
        let exporter = MetricExporter::builder()
            .with_http()
            .with_http_client(Http::new("figures"))
            .with_endpoint(&endpoint)
            .with_timeout(PATIENCE)
            .build()
            .with_context(|| format!("OpenTelemetry cannot be sent to {endpoint}"))?;
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter).with_interval(interval).build())
            .with_resource(resource())
            .build();
        let latest = Latest::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        *lock(&latest) = runtime.block_on(ask(&lab));
        let mut known = BTreeSet::new();
        let meter = provider.meter("verity");
        instruments(&meter, &latest, &mut known);
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
                            // A node that was silent so far may bring figures that none has told.
                            instruments(&meter, &latest, &mut known);
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

/// Who sends.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    Resource::builder().with_service_name("verity").with_attribute(version).build()
}

fn lock(latest: &Latest) -> std::sync::MutexGuard<'_, Vec<(u64, Vec<Figure>)>> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(lab: &Arc<dyn Lab>) -> Vec<(u64, Vec<Figure>)> {
    report_measured(lab.as_ref()).await.nodes.iter().map(|node| (node.id, figures(node))).collect()
}

/// An instrument for each figure that has none. A node or group that is gone leaves no value behind.
fn instruments(meter: &Meter, latest: &Latest, known: &mut BTreeSet<&'static str>) {
    let new: Vec<Figure> = {
        let latest = lock(latest);
        let all = latest.iter().flat_map(|(_, all)| all);
        all.filter(|figure| known.insert(figure.name)).cloned().collect()
    };
    for Figure { name, help, values } in new {
        match values {
            // The provider keeps the instruments and calls back.
            Values::Gauge(_) => {
                let gauge = meter.u64_observable_gauge(format!("verity.{name}")).with_description(help);
                let latest = Arc::clone(latest);
                let _ = gauge.with_callback(move |observer| observe(&latest, name, "", observer)).build();
            }
            Values::Counter(_) => counter(meter, latest, name, help, ""),
            Values::Histogram(_) => {
                counter(meter, latest, name, help, "_bucket");
                counter(meter, latest, name, help, "_count");
                let sum = meter.f64_observable_counter(format!("verity.{name}_sum")).with_description(help);
                let latest = Arc::clone(latest);
                let _ = sum.with_callback(move |observer| observe(&latest, name, "_sum", observer)).build();
            }
        }
    }
}

fn counter(meter: &Meter, latest: &Latest, name: &'static str, help: &'static str, suffix: &'static str) {
    let latest = Arc::clone(latest);
    let counter = meter.u64_observable_counter(format!("verity.{name}{suffix}")).with_description(help);
    let _ = counter.with_callback(move |observer| observe(&latest, name, suffix, observer)).build();
}

/// Tells every node's numbers of one figure whose names end so.
fn observe<T: FromStr>(latest: &Latest, name: &str, suffix: &str, observer: &dyn AsyncInstrument<T>) {
    for (node, all) in lock(latest).iter() {
        for figure in all.iter().filter(|figure| figure.name == name) {
            for (_, labels, value) in samples(&figure.values).into_iter().filter(|(ending, ..)| *ending == suffix) {
                if let Ok(value) = value.parse() {
                    observer.observe(value, &attributes(*node, labels));
                }
            }
        }
    }
}

fn attributes(node: u64, labels: Labels) -> Vec<KeyValue> {
    let node = KeyValue::new("node", i64::try_from(node).unwrap_or(i64::MAX));
    std::iter::once(node).chain(labels.into_iter().map(|(label, value)| KeyValue::new(label, value))).collect()
}
