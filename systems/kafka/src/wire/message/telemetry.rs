//! The metrics that clients push (KIP-714).

use bytes::Bytes;

use super::super::schema::schema;
use super::super::uuid::Uuid;

schema! {
    /// Asks which metrics the broker wants.
    GetTelemetrySubscriptionsRequest(0..=0, flexible 0) {
        client_instance_id: Uuid,
    }

    /// The metrics wanted, and how often.
    GetTelemetrySubscriptionsResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        client_instance_id: Uuid,
        subscription_id: i32,
        accepted_compression_types: Vec<i8>,
        push_interval_ms: i32,
        telemetry_max_bytes: i32,
        delta_temporality: bool,
        requested_metrics: Vec<String>,
    }

    /// Pushes a client's metrics.
    PushTelemetryRequest(0..=0, flexible 0) {
        client_instance_id: Uuid,
        subscription_id: i32,
        terminating: bool,
        compression_type: i8,
        metrics: Bytes,
    }

    /// Whether they were taken.
    PushTelemetryResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
    }
}
