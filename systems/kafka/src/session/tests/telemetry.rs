//! What clients say about themselves.

use bytes::Bytes;
use verity_types::ConnId;

use super::rig::{PLAIN, Rig};
use crate::machine::cluster::ConfigResource;
use crate::wire::message::{
    ApiVersionsRequest, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource, IncrementalAlterableConfig, PushTelemetryRequest,
};
use crate::wire::{Codec, ErrorCode, Uuid};

fn subscribe(rig: &mut Rig, name: &str, entries: &[(&str, &str)]) {
    let configs = entries.iter().map(|(name, value)| IncrementalAlterableConfig {
        name: (*name).into(),
        config_operation: 0,
        value: Some((*value).into()),
    });
    let resource = IncrementalAlterConfigsResource {
        resource_type: ConfigResource::CLIENT_METRICS,
        resource_name: name.into(),
        configs: configs.collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let conn = rig.connect(PLAIN);
    assert_eq!(ask!(rig, conn, 1, IncrementalAlterConfigs, request).responses[0].error_code, 0);
}

fn ask_for(rig: &mut Rig, conn: ConnId, client_instance_id: Uuid) -> GetTelemetrySubscriptionsResponse {
    let request = GetTelemetrySubscriptionsRequest { client_instance_id };
    ask!(rig, conn, 0, GetTelemetrySubscriptions, request)
}

#[test]
fn a_client_is_told_what_is_wanted_and_says_it() {
    let mut rig = Rig::new();
    subscribe(&mut rig, "one", &[("metrics", "org.a,org.b"), ("interval.ms", "1000"), ("match", "client_id=r.*")]);
    subscribe(&mut rig, "two", &[("metrics", "org.c"), ("interval.ms", "500"), ("match", "client_software_name=x")]);
    let conn = rig.connect(PLAIN);
    let software = ApiVersionsRequest { client_software_name: "rig".into(), client_software_version: "1".into() };
    assert_eq!(ask!(rig, conn, 4, ApiVersions, software).error_code, 0);
    let wanted = ask_for(&mut rig, conn, Uuid::ZERO);
    assert_eq!((wanted.error_code, wanted.push_interval_ms), (0, 1_000));
    assert_eq!(wanted.requested_metrics, ["org.a", "org.b"]);
    let id = wanted.client_instance_id;
    assert!(!id.is_zero());
    assert_eq!(ask_for(&mut rig, conn, id).error_code, ErrorCode::THROTTLING_QUOTA_EXCEEDED.0);
    let push = |codec: i8, metrics: Bytes| PushTelemetryRequest {
        client_instance_id: id,
        subscription_id: wanted.subscription_id,
        terminating: false,
        compression_type: codec,
        metrics,
    };
    let packed = Bytes::from(Codec::Zstd.compress(b"metrics"));
    let mut told = |request: PushTelemetryRequest| {
        rig.advance(1_001);
        ErrorCode(ask!(rig, conn, 0, PushTelemetry, request).error_code)
    };
    assert_eq!(told(push(4, packed.clone())), ErrorCode::NONE);
    assert_eq!(told(push(4, Bytes::from_static(b"no zstd"))), ErrorCode::INVALID_RECORD);
    assert_eq!(told(push(0, vec![0; 1_048_577].into())), ErrorCode::TELEMETRY_TOO_LARGE);
    let other = PushTelemetryRequest { subscription_id: wanted.subscription_id ^ 1, ..push(0, Bytes::new()) };
    assert_eq!(told(other), ErrorCode::UNKNOWN_SUBSCRIPTION_ID);
    assert_eq!(told(push(9, packed.clone())), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    let unnamed = PushTelemetryRequest { client_instance_id: Uuid::ZERO, ..push(0, Bytes::new()) };
    assert_eq!(told(unnamed), ErrorCode::INVALID_REQUEST);
    assert_eq!(told(PushTelemetryRequest { terminating: true, ..push(4, packed.clone()) }), ErrorCode::NONE);
    assert_eq!(told(push(4, packed)), ErrorCode::INVALID_REQUEST, "it had said its last");
}

#[test]
fn a_client_that_pushes_too_often_is_refused() {
    let mut rig = Rig::new();
    subscribe(&mut rig, "all", &[("metrics", "*"), ("interval.ms", "1000")]);
    let conn = rig.connect(PLAIN);
    let wanted = ask_for(&mut rig, conn, Uuid::ZERO);
    assert_eq!(wanted.requested_metrics, ["*"]);
    let request = PushTelemetryRequest {
        client_instance_id: wanted.client_instance_id,
        subscription_id: wanted.subscription_id,
        ..Default::default()
    };
    for expected in [ErrorCode::NONE, ErrorCode::THROTTLING_QUOTA_EXCEEDED] {
        assert_eq!(ask!(rig, conn, 0, PushTelemetry, request.clone()).error_code, expected.0);
    }
}
