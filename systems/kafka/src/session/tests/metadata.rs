//! Versions, metadata, topics that are created because they are asked for.

use super::rig::{PLAIN, Rig};
use crate::wire::message::{
    ApiVersionsRequest, FindCoordinatorRequest, MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use crate::wire::{ApiKey, ErrorCode, Request, Response};

fn metadata(rig: &mut Rig, version: i16, topics: Option<&[&str]>) -> MetadataResponse {
    let named = |name: &&str| MetadataRequestTopic { name: Some((*name).to_owned()), ..Default::default() };
    let topics = topics.map(|topics| topics.iter().map(named).collect());
    let conn = rig.connect(PLAIN);
    match rig.ask(conn, version, &Request::Metadata(MetadataRequest { topics, ..Default::default() })) {
        Response::Metadata(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_says_what_it_speaks() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let request = ApiVersionsRequest { client_software_name: "rig".into(), client_software_version: "1.0".into() };
    let Response::ApiVersions(response) = rig.ask(conn, 4, &Request::ApiVersions(request)) else { panic!() };
    assert_eq!(response.error_code, 0);
    assert!(response.api_keys.iter().any(|key| key.api_key == ApiKey::Metadata.number()));
    let unnamed = Request::ApiVersions(ApiVersionsRequest::default());
    let Response::ApiVersions(response) = rig.ask(conn, 3, &unnamed) else { panic!() };
    assert_eq!(response.error_code, ErrorCode::INVALID_REQUEST.0);
}

#[test]
fn topics_are_created_because_they_are_asked_for() {
    let mut rig = Rig::new();
    assert_eq!(metadata(&mut rig, 12, None).topics.len(), 0);
    let response = metadata(&mut rig, 12, Some(&["orders", "bad name"]));
    assert_eq!(response.brokers.len(), 1);
    assert_eq!((response.topics[0].error_code, response.topics[0].partitions[0].leader_id), (0, 1));
    assert_eq!(response.topics[1].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION.0);
    for version in [0, 1, 12] {
        assert_eq!(metadata(&mut rig, version, if version == 0 { Some(&[]) } else { None }).topics.len(), 1);
    }
}

#[test]
fn a_partition_that_nobody_led_yet_is_expected_of_its_preferred_replica() {
    let mut rig = Rig::new();
    rig.leaderless = true;
    let conn = rig.connect(PLAIN);
    let topic = MetadataRequestTopic { name: Some("orders".to_owned()), ..Default::default() };
    let request = Request::Metadata(MetadataRequest { topics: Some(vec![topic]), ..Default::default() });
    rig.send(conn, 12, &request);
    rig.advance(1_100);
    let Some(Response::Metadata(response)) = rig.receive(conn) else { panic!("it does not wait for ever") };
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id, partition.leader_epoch), (0, 1, -1));
}

#[test]
fn whoever_leads_the_coordinators_group_coordinates() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let request = FindCoordinatorRequest { coordinator_keys: vec!["a".into(), "b".into()], ..Default::default() };
    let Response::FindCoordinator(response) = rig.ask(conn, 4, &Request::FindCoordinator(request)) else { panic!() };
    assert_eq!(
        response.coordinators.iter().map(|found| (found.node_id, found.port)).collect::<Vec<_>>(),
        [(1, 9092); 2]
    );
    let old = FindCoordinatorRequest { key: "a".into(), ..Default::default() };
    let Response::FindCoordinator(response) = rig.ask(conn, 0, &Request::FindCoordinator(old)) else { panic!() };
    assert_eq!((response.node_id, response.port), (1, 9092));
}

#[test]
fn bytes_that_are_no_request_end_the_connection() {
    let mut rig = Rig::new();
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x04\x7f\xff\0\0", b"GET / HTTP/1.1\r\n\r\n"] {
        let conn = rig.connect(PLAIN);
        rig.send_bytes(conn, bytes::Bytes::from_static(bytes));
        assert!(rig.is_closed(conn), "{bytes:?}");
    }
}
