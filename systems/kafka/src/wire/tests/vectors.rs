//! Frames written out by hand from the protocol's public description, so that an error which both implementations share
//! would still be seen.

use bytes::Bytes;

use crate::wire::message::*;
use crate::wire::{
    ApiKey, Blob, Incoming, Request, RequestError, RequestHeader, Response, Uuid, decode_request, decode_response,
    encode_request, encode_response, unsupported_api_versions,
};

/// Bytes from hexadecimal digits; text in quotes stands for itself, and `|` for nothing.
fn hex(text: &str) -> Bytes {
    let mut out = Vec::new();
    for word in text.split_whitespace().filter(|word| *word != "|") {
        match word.strip_prefix('\'') {
            Some(letters) => out.extend_from_slice(letters.trim_end_matches('\'').as_bytes()),
            None => {
                assert_eq!(word.len() % 2, 0, "{word}");
                for at in (0..word.len()).step_by(2) {
                    out.push(u8::from_str_radix(&word[at..at + 2], 16).unwrap());
                }
            }
        }
    }
    out.into()
}

/// A frame without its length, which must be right.
fn body(frame: &[Blob]) -> Bytes {
    let whole = frame.iter().map(|piece| piece.read().unwrap()).collect::<Vec<_>>().concat();
    let (size, body) = whole.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_be_bytes(*size) as usize, body.len());
    Bytes::copy_from_slice(body)
}

/// Asserts that `request` is `text` behind a header from "cli" with correlation id 7, both ways.
fn request(version: i16, request: impl Into<Request>, text: &str) {
    let request = request.into();
    let bytes = hex(text);
    assert_eq!(body(&[encode_request(version, 7, Some("cli"), &request).into()]), bytes, "{request:?}");
    let header = RequestHeader { key: request.key(), version, correlation_id: 7, client_id: Some("cli".to_owned()) };
    assert_eq!(decode_request(bytes), Ok(Incoming::Request(header, request)));
}

/// Asserts that `response` is `text` behind a header with correlation id 7, both ways.
fn response(version: i16, response: impl Into<Response>, text: &str) {
    let response = response.into();
    let bytes = hex(text);
    assert_eq!(body(&encode_response(version, 7, &response)), bytes, "{response:?}");
    assert_eq!(decode_response(response.key(), version, bytes), Ok((7, response)));
}

#[test]
fn api_versions_requests() {
    request(0, ApiVersionsRequest::default(), "0012 0000 00000007 0003 'cli'");
    let named =
        ApiVersionsRequest { client_software_name: "rdkafka".to_owned(), client_software_version: "2.3".to_owned() };
    request(3, named.clone(), "0012 0003 00000007 0003 'cli' 00 | 08 'rdkafka' 04 '2.3' 00");
    request(4, named, "0012 0004 00000007 0003 'cli' 00 | 08 'rdkafka' 04 '2.3' 00");
}

#[test]
fn api_versions_responses_have_the_oldest_header() {
    let api_keys = vec![ApiVersion { api_key: 18, min_version: 0, max_version: 4 }];
    let plain = ApiVersionsResponse { api_keys, ..Default::default() };
    response(0, plain.clone(), "00000007 | 0000 00000001 0012 0000 0004");
    response(1, plain.clone(), "00000007 | 0000 00000001 0012 0000 0004 00000000");
    response(3, plain.clone(), "00000007 | 0000 02 0012 0000 0004 00 00000000 00");
    let featured = ApiVersionsResponse {
        supported_features: vec![SupportedFeatureKey {
            name: "kraft.version".to_owned(),
            min_version: 0,
            max_version: 1,
        }],
        finalized_features_epoch: 5,
        ..plain
    };
    let features = "02 | 00 14 02 0e 'kraft.version' 0000 0001 00 | 01 08 0000000000000005";
    response(4, featured, &format!("00000007 | 0000 02 0012 0000 0004 00 00000000 {features}"));
}

#[test]
fn a_newer_api_versions_is_answered_in_version_0() {
    // What follows the correlation id of a version from the future is not looked at.
    let incoming = decode_request(hex("0012 0063 00000009 ffffffff"));
    assert_eq!(incoming, Ok(Incoming::ApiVersionsUnsupported { correlation_id: 9 }));
    let answer = encode_response(0, 9, &unsupported_api_versions().into());
    assert_eq!(body(&answer), hex("00000009 | 0023 00000001 0012 0000 0004"));
}

#[test]
fn what_is_no_request_says_why() {
    assert_eq!(decode_request(hex("03e7 0000 00000009 ffff")), Err(RequestError::UnknownKey(999)));
    let version = RequestError::UnsupportedVersion { key: ApiKey::Produce, version: 2, correlation_id: 9 };
    assert_eq!(decode_request(hex("0000 0002 00000009 ffff")), Err(version));
    assert!(matches!(decode_request(hex("0003 000c 0000")), Err(RequestError::Header(_))));
    assert!(matches!(decode_request(hex("0003 000c 00000009 ffff 00 05")), Err(RequestError::Body { .. })));
}

#[test]
fn metadata() {
    let id = Uuid([0x11; 16]);
    request(
        12,
        MetadataRequest {
            topics: Some(vec![
                MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some("logs".to_owned()) },
                MetadataRequestTopic { topic_id: id, name: None },
            ]),
            allow_auto_topic_creation: true,
            ..Default::default()
        },
        "0003 000c 00000007 0003 'cli' 00 | 03
            00000000000000000000000000000000 05 'logs' 00
            11111111111111111111111111111111 00 00
            01 00 00",
    );
    // Every topic: an empty list in version 0, null from then on.
    request(
        0,
        MetadataRequest { topics: Some(vec![]), ..Default::default() },
        "0003 0000 00000007 0003 'cli' 00000000",
    );
    request(1, MetadataRequest { topics: None, ..Default::default() }, "0003 0001 00000007 0003 'cli' ffffffff");
    response(
        12,
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: "a.b".to_owned(),
                port: 9092,
                rack: Some("r1".to_owned()),
            }],
            cluster_id: Some("c".to_owned()),
            controller_id: 1,
            topics: vec![MetadataResponseTopic {
                name: Some("logs".to_owned()),
                topic_id: id,
                partitions: vec![MetadataResponsePartition {
                    leader_id: 1,
                    leader_epoch: 4,
                    replica_nodes: vec![1, 2],
                    isr_nodes: vec![1],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
        "00000007 00 | 00000000
            02 00000001 04 'a.b' 00002384 03 'r1' 00
            02 'c' 00000001
            02 0000 05 'logs' 11111111111111111111111111111111 00
                02 0000 00000000 00000001 00000004 03 00000001 00000002 02 00000001 01 00
                80000000 00
            00",
    );
}

#[test]
fn produce() {
    let records = Bytes::from_static(b"BATCH");
    let produce = |name: &str, topic_id| ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: name.to_owned(),
            topic_id,
            partition_data: vec![PartitionProduceData { index: 3, records: Some(records.clone()) }],
        }],
        ..Default::default()
    };
    request(
        3,
        produce("logs", Uuid::ZERO),
        "0000 0003 00000007 0003 'cli' | ffff ffff 00007530
            00000001 0004 'logs' 00000001 00000003 00000005 'BATCH'",
    );
    request(
        9,
        produce("logs", Uuid::ZERO),
        "0000 0009 00000007 0003 'cli' 00 | 00 ffff 00007530 02 05 'logs' 02 00000003 06 'BATCH' 00 00 00",
    );
    request(
        13,
        produce("", Uuid([0x11; 16])),
        "0000 000d 00000007 0003 'cli' 00 | 00 ffff 00007530
            02 11111111111111111111111111111111 02 00000003 06 'BATCH' 00 00 00",
    );
    response(
        10,
        ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: "logs".to_owned(),
                partition_responses: vec![PartitionProduceResponse {
                    index: 3,
                    error_code: 6,
                    base_offset: -1,
                    current_leader: LeaderIdAndEpoch { leader_id: 2, leader_epoch: 9 },
                    ..Default::default()
                }],
                ..Default::default()
            }],
            node_endpoints: vec![NodeEndpoint { node_id: 2, host: "b".to_owned(), port: 9092, rack: None }],
            ..Default::default()
        },
        "00000007 00 |
            02 05 'logs' 02 00000003 0006 ffffffffffffffff ffffffffffffffff ffffffffffffffff 01 00
                01 00 09 00000002 00000009 00
                00
            00000000
            01 00 0d 02 00000002 02 'b' 00002384 00 00",
    );
}

#[test]
fn fetch() {
    request(
        12,
        FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 0x0010_0000,
            isolation_level: 1,
            session_epoch: 0,
            topics: vec![FetchTopic {
                topic: "logs".to_owned(),
                partitions: vec![FetchPartition {
                    partition: 3,
                    current_leader_epoch: 9,
                    fetch_offset: 42,
                    partition_max_bytes: 0x0010_0000,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            rack_id: "r1".to_owned(),
            ..Default::default()
        },
        "0001 000c 00000007 0003 'cli' 00 | ffffffff 000001f4 00000001 00100000 01 00000000 00000000
            02 05 'logs' 02 00000003 00000009 000000000000002a ffffffff ffffffffffffffff 00100000 00 00
            01 03 'r1' 00",
    );
    response(
        4,
        FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic: "logs".to_owned(),
                partitions: vec![FetchPartitionData {
                    partition_index: 3,
                    high_watermark: 43,
                    last_stable_offset: 43,
                    aborted_transactions: Some(vec![AbortedTransaction { producer_id: 5, first_offset: 6 }]),
                    records: Some(Bytes::from_static(b"BATCH").into()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
        "00000007 | 00000000 00000001 0004 'logs' 00000001
            00000003 0000 000000000000002b 000000000000002b
            00000001 0000000000000005 0000000000000006
            00000005 'BATCH'",
    );
    response(
        16,
        FetchResponse {
            session_id: 1,
            responses: vec![FetchableTopicResponse {
                topic_id: Uuid([0x11; 16]),
                partitions: vec![FetchPartitionData {
                    partition_index: 3,
                    high_watermark: 43,
                    last_stable_offset: 43,
                    log_start_offset: 0,
                    records: Some(Bytes::from_static(b"BATCH").into()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
        "00000007 00 | 00000000 0000 00000001
            02 11111111111111111111111111111111
                02 00000003 0000 000000000000002b 000000000000002b 0000000000000000 00 ffffffff 06 'BATCH' 00 00
            00",
    );
}

#[test]
fn join_group() {
    let join = |instance: Option<&str>, reason: Option<&str>| JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        group_instance_id: instance.map(str::to_owned),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".to_owned(), metadata: Bytes::from_static(&[0, 1]) }],
        reason: reason.map(str::to_owned),
        ..Default::default()
    };
    request(
        5,
        join(Some("i"), None),
        "000b 0005 00000007 0003 'cli' | 0001 'g' 0000afc8 000493e0 0000 0001 'i' 0008 'consumer'
            00000001 0005 'range' 00000002 0001",
    );
    request(
        9,
        join(None, Some("why")),
        "000b 0009 00000007 0003 'cli' 00 | 02 'g' 0000afc8 000493e0 01 00 09 'consumer'
            02 06 'range' 03 0001 00 04 'why' 00",
    );
    let answer = JoinGroupResponse {
        generation_id: 1,
        protocol_name: Some("range".to_owned()),
        leader: "m".to_owned(),
        member_id: "m".to_owned(),
        members: vec![JoinGroupResponseMember { member_id: "m".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    response(
        5,
        answer.clone(),
        "00000007 | 00000000 0000 00000001 0005 'range' 0001 'm' 0001 'm' 00000001 0001 'm' ffff 00000000",
    );
    response(
        9,
        JoinGroupResponse { protocol_type: Some("consumer".to_owned()), ..answer },
        "00000007 00 | 00000000 0000 00000001 09 'consumer' 06 'range' 02 'm' 00 02 'm' 02 02 'm' 00 01 00 00",
    );
}

#[test]
fn nullable_structs_have_a_byte_in_front() {
    let beat = ConsumerGroupHeartbeatResponse { member_epoch: 1, heartbeat_interval_ms: 5000, ..Default::default() };
    response(0, beat.clone(), "00000007 00 | 00000000 0000 00 00 00000001 00001388 ff 00");
    let assignment = ConsumerGroupHeartbeatAssignment { topic_partitions: vec![] };
    let beat = ConsumerGroupHeartbeatResponse { assignment: Some(assignment), ..beat };
    response(0, beat, "00000007 00 | 00000000 0000 00 00 00000001 00001388 01 01 00 00");
}

#[test]
fn versions_that_the_other_implementation_lacks() {
    request(
        10,
        OffsetCommitRequest {
            group_id: "g".to_owned(),
            generation_id_or_member_epoch: 2,
            member_id: "m".to_owned(),
            topics: vec![OffsetCommitRequestTopic {
                topic_id: Uuid([0x11; 16]),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 3,
                    committed_offset: 42,
                    committed_metadata: Some(String::new()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
        "0008 000a 00000007 0003 'cli' 00 | 02 'g' 00000002 02 'm' 00
            02 11111111111111111111111111111111 02 00000003 000000000000002a ffffffff 01 00 00 00",
    );
    request(
        10,
        OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: "g".to_owned(),
                topics: Some(vec![OffsetFetchRequestTopics {
                    topic_id: Uuid([0x11; 16]),
                    partition_indexes: vec![3],
                    ..Default::default()
                }]),
                ..Default::default()
            }],
            require_stable: true,
            ..Default::default()
        },
        "0009 000a 00000007 0003 'cli' 00 | 02 02 'g' 00 ffffffff
            02 11111111111111111111111111111111 02 00000003 00 00 01 00",
    );
    request(
        2,
        ShareFetchRequest {
            group_id: Some("g".to_owned()),
            member_id: Some("m".to_owned()),
            max_bytes: 1,
            max_records: 2,
            batch_size: 3,
            share_acquire_mode: 1,
            is_renew_ack: true,
            ..Default::default()
        },
        "004e 0002 00000007 0003 'cli' 00 | 02 'g' 02 'm' 00000000 00000000 00000000 00000001 00000002 00000003 01 01
            01 01 00",
    );
    request(
        2,
        ShareAcknowledgeRequest { is_renew_ack: true, ..Default::default() },
        "004f 0002 00000007 0003 'cli' 00 | 00 00 00000000 01 01 00",
    );
    response(
        2,
        ShareAcknowledgeResponse { acquisition_lock_timeout_ms: 5, ..Default::default() },
        "00000007 00 | 00000000 0000 00 00000005 01 01 00",
    );
    response(
        1,
        DescribeShareGroupOffsetsResponse {
            groups: vec![DescribeShareGroupOffsetsResponseGroup {
                topics: vec![DescribeShareGroupOffsetsResponseTopic {
                    partitions: vec![DescribeShareGroupOffsetsResponsePartition {
                        start_offset: 1,
                        leader_epoch: 2,
                        lag: 3,
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
        "00000007 00 | 00000000 02 01 02 01 00000000000000000000000000000000
            02 00000000 0000000000000001 00000002 0000000000000003 0000 00 00 00 0000 00 00 00",
    );
}

#[test]
fn the_advertised_table_is_that_of_kafka_4() {
    let said: Vec<_> = ApiKey::ALL
        .iter()
        .map(|key| {
            let ApiVersion { api_key, min_version, max_version } = key.api_version();
            format!("{api_key}:{min_version}-{max_version}")
        })
        .collect();
    let known = "0:0-13 1:4-18 2:1-11 3:0-13 8:2-10 9:1-10 10:0-6 11:0-9 12:0-4 13:0-5 14:0-5 15:0-6 16:0-5 17:0-1 \
        18:0-4 19:2-7 20:1-6 21:0-2 22:0-5 23:2-4 24:0-5 25:0-4 26:0-5 28:0-5 29:1-3 30:1-3 31:1-3 32:1-4 33:0-2 \
        35:1-4 36:0-2 37:0-3 42:0-2 43:0-2 44:0-1 45:0-1 46:0-0 47:0-0 48:0-1 49:0-1 50:0-0 51:0-0 57:0-2 60:0-2 \
        61:0-0 65:0-0 66:0-2 68:0-1 69:0-1 71:0-0 72:0-0 74:0-1 75:0-0 76:1-1 77:1-1 78:1-2 79:1-2 90:0-1 91:0-0 \
        92:0-0";
    assert_eq!(said.join(" "), known);
    for key in ApiKey::ALL {
        assert_eq!(ApiKey::from_number(key.number()), Some(*key));
        assert!(key.advertised().end() <= key.versions().end());
    }
}
