//! What happened, and for how long, as OpenTelemetry's spans: starts and stops, changes of roles and members, snapshots,
//! and what administrators asked for.
//!
//! - upon the end of a span of [`verity_node::TRACE`]: it leaves with its fields, below the span that it was within; other
//!   spans are for logs alone;
//! - upon no collector: nothing is kept.
//!
//! Deliberately absent: spans of clients' requests. They are counted, and a count is all that they can afford.

use std::fmt;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use opentelemetry::trace::{Span as _, SpanContext, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context as Scope, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::{Http, PATIENCE, resource};
use crate::settings::Telemetry;

/// Where spans go, once there is somewhere.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// What sends spans. Dropping it sends what is left, and ends.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts to send, if there is somewhere to send to.
    pub(crate) fn start(settings: &Telemetry) -> Result<Option<Self>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Http::new("spans"))
            .with_endpoint(&endpoint)
            .with_timeout(PATIENCE)
            .build()
            .with_context(|| format!("OpenTelemetry cannot be sent to {endpoint}"))?;
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
        // A process has one exporter; the first stays.
        let _ = TRACER.set(provider.tracer("verity"));
        Ok(Some(Self(provider)))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Turns spans of the program into OpenTelemetry's.
pub(crate) struct Spans;

/// A span under way, with what is known of it.
struct Begun {
    span: opentelemetry_sdk::trace::Span,
}

struct Fields<'a>(&'a mut opentelemetry_sdk::trace::Span);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.set_attribute(KeyValue::new(field.name(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.set_attribute(KeyValue::new(field.name(), value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.set_attribute(KeyValue::new(field.name(), value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.set_attribute(KeyValue::new(field.name(), i64::try_from(value).unwrap_or(i64::MAX)));
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, scope: Scope<'_, S>) {
        let (Some(tracer), Some(span)) = (TRACER.get(), scope.span(id)) else { return };
        let parent = span.scope().skip(1).find_map(|outer| Some(context(outer.extensions().get::<Begun>()?)));
        let span_here = tracer.start_with_context(attributes.metadata().name(), &parent.unwrap_or_default());
        let mut begun = Begun { span: span_here };
        attributes.record(&mut Fields(&mut begun.span));
        span.extensions_mut().insert(begun);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, scope: Scope<'_, S>) {
        let Some(span) = scope.span(id) else { return };
        if let Some(begun) = span.extensions_mut().get_mut::<Begun>() {
            values.record(&mut Fields(&mut begun.span));
        }
    }

    fn on_close(&self, id: Id, scope: Scope<'_, S>) {
        let Some(span) = scope.span(&id) else { return };
        let begun = span.extensions_mut().remove::<Begun>();
        if let Some(mut begun) = begun {
            begun.span.end();
        }
    }
}

fn context(outer: &Begun) -> Context {
    let outer: SpanContext = outer.span.span_context().clone();
    Context::new().with_remote_span_context(outer)
}
