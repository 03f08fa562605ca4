//! Against another implementation of the same schemas: what we write, it reads and writes again byte for byte, and sees the
//! same names and values in it.
//!
//! Names are compared by the debug texts of both, since two neighbours of one type could be swapped and no byte would tell.

use bytes::BytesMut;
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};

use super::draw::Draw;
use crate::wire::{ApiKey, Reader, Request, Response, Writer};

/// How many values of each message and version are tried.
const DRAWS: u64 = 12;

/// Versions that the other implementation does not have yet.
const OURS_ALONE: [(ApiKey, i16); 7] = [
    (ApiKey::ListOffsets, 11),
    (ApiKey::OffsetCommit, 10),
    (ApiKey::OffsetFetch, 10),
    (ApiKey::DescribeLogDirs, 5),
    (ApiKey::ShareFetch, 2),
    (ApiKey::ShareAcknowledge, 2),
    (ApiKey::DescribeShareGroupOffsets, 1),
];

/// Every version that both know.
fn shared() -> Vec<(ApiKey, TheirKey, i16)> {
    let mut list = Vec::new();
    for &key in ApiKey::ALL {
        let theirs = TheirKey::try_from(key.number()).expect("both know every key");
        let known = theirs.valid_versions();
        for version in key.versions() {
            if !OURS_ALONE.contains(&(key, version)) {
                assert!((known.min..=known.max).contains(&version), "{key} {version}: {known:?}");
                list.push((key, theirs, version));
            }
        }
    }
    list
}

/// Fields of versions that only one of the two knows.
const ONE_SIDED: [(ApiKey, &str); 11] = [
    (ApiKey::InitProducerId, "enable_2_pc:"),
    (ApiKey::InitProducerId, "keep_prepared_txn:"),
    (ApiKey::InitProducerId, "ongoing_txn_producer_id:"),
    (ApiKey::InitProducerId, "ongoing_txn_producer_epoch:"),
    (ApiKey::DescribeLogDirs, "is_cordoned:"),
    (ApiKey::ShareFetch, "share_acquire_mode:"),
    (ApiKey::ShareFetch, "is_renew_ack:"),
    (ApiKey::ShareFetch, "partition_max_bytes:"),
    (ApiKey::ShareAcknowledge, "is_renew_ack:"),
    (ApiKey::ShareAcknowledge, "acquisition_lock_timeout_ms:"),
    (ApiKey::DescribeShareGroupOffsets, "lag:"),
];

/// The names and plain values in a debug text, in order.
fn tokens(text: &str) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let bytes = text.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.#".contains(&byte);
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        if bytes[at] == b'"' {
            at += 1;
            while bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at += 1;
            // What is absent from a version is null here and may be empty there.
            if at > from + 2 {
                list.push(text[from..at].to_owned());
            }
        } else if is_word(bytes[at]) {
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            let word = &text[from..at];
            let rest = &text[at..];
            if rest.starts_with(": ") {
                let name = word.trim_start_matches("r#").trim_start_matches('_');
                if name != "unknown_tagged_fields" {
                    list.push(format!("{name}:"));
                }
            } else if word.parse::<f64>().is_ok() || word == "true" || word == "false" {
                list.push(word.to_owned());
            } else if word != "None" && !rest.starts_with(" {") && !rest.starts_with(['(', '"']) {
                list.push("id".to_owned());
            }
        } else {
            at += 1;
        }
    }
    list
}

/// Fails unless both saw the same names and values.
fn compare(key: ApiKey, version: i16, ours: &str, theirs: &str) {
    let without = |text| {
        let mut list = tokens(text);
        let one_sided = |token: &String| ONE_SIDED.contains(&(key, token.as_str()));
        while let Some(place) = list.iter().position(one_sided) {
            list.drain(place..place + 2);
        }
        list
    };
    assert_eq!(without(ours), without(theirs), "{key} {version}");
}

#[test]
fn requests_are_equal() {
    for (key, theirs, version) in shared() {
        for seed in 0..DRAWS {
            let request = Request::draw(&mut Draw::new(seed), key, version);
            let mut writer = Writer::new();
            request.encode(&mut writer, version);
            let bytes = writer.into_bytes();
            let mut rest = bytes.clone();
            let read = RequestKind::decode(theirs, &mut rest, version)
                .unwrap_or_else(|error| panic!("{key} {version}: {error:#} in {request:?}"));
            assert!(rest.is_empty(), "{key} {version}: {} bytes left of {request:?}", rest.len());
            let mut again = BytesMut::new();
            read.encode(&mut again, version).unwrap();
            assert_eq!(bytes, again.freeze(), "{key} {version}: {request:?} against {read:?}");
            compare(key, version, &format!("{request:?}"), &format!("{read:?}"));
            assert_eq!(Request::decode(key, version, &mut Reader::new(bytes)), Ok(request), "{key} {version}");
        }
    }
}

#[test]
fn responses_are_equal() {
    for (key, theirs, version) in shared() {
        for seed in 0..DRAWS {
            let response = Response::draw(&mut Draw::new(seed), key, version);
            let mut writer = Writer::new();
            response.encode(&mut writer, version);
            let bytes = writer.into_bytes();
            let mut rest = bytes.clone();
            let read = ResponseKind::decode(theirs, &mut rest, version)
                .unwrap_or_else(|error| panic!("{key} {version}: {error:#} in {response:?}"));
            assert!(rest.is_empty(), "{key} {version}: {} bytes left of {response:?}", rest.len());
            let mut again = BytesMut::new();
            read.encode(&mut again, version).unwrap();
            assert_eq!(bytes, again.freeze(), "{key} {version}: {response:?} against {read:?}");
            compare(key, version, &format!("{response:?}"), &format!("{read:?}"));
            assert_eq!(Response::decode(key, version, &mut Reader::new(bytes)), Ok(response), "{key} {version}");
        }
    }
}

#[test]
fn headers_are_chosen_alike() {
    for (key, theirs, version) in shared() {
        assert_eq!(key.request_header_version(version), theirs.request_header_version(version), "{key} {version}");
        assert_eq!(key.response_header_version(version), theirs.response_header_version(version), "{key} {version}");
    }
}

#[test]
fn members_tell_each_other_the_same() {
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
    use kafka_protocol::protocol::{Decodable, Encodable};

    use crate::wire::{Field as _, Message as _, message};
    for version in message::ConsumerProtocolSubscription::VERSIONS {
        for seed in 0..DRAWS {
            let format = message::ConsumerProtocolSubscription::format(version);
            let ours = message::ConsumerProtocolSubscription::draw(&mut Draw::new(seed), format);
            let bytes = ours.to_bytes(version);
            let theirs = ConsumerProtocolSubscription::decode(&mut bytes.clone(), version).unwrap();
            let mut again = BytesMut::new();
            theirs.encode(&mut again, version).unwrap();
            assert_eq!(bytes, again.freeze());
            let ours = message::ConsumerProtocolAssignment::draw(&mut Draw::new(seed), format);
            let bytes = ours.to_bytes(version);
            let theirs = ConsumerProtocolAssignment::decode(&mut bytes.clone(), version).unwrap();
            let mut again = BytesMut::new();
            theirs.encode(&mut again, version).unwrap();
            assert_eq!(bytes, again.freeze());
        }
    }
}

#[test]
fn error_codes_have_the_same_names() {
    use kafka_protocol::ResponseError;

    use crate::wire::ErrorCode;
    let mut count = 0;
    for &code in ErrorCode::ALL {
        let Some(theirs) = ResponseError::try_from_code(code.0) else { continue };
        if let ResponseError::Unknown(_) = theirs {
            continue;
        }
        count += 1;
        let ours: String = code.name().unwrap().split('_').map(str::to_lowercase).collect();
        let theirs = format!("{theirs:?}").to_lowercase();
        assert_eq!(ours.trim_end_matches("exception"), theirs.trim_end_matches("exception"), "{}", code.0);
    }
    assert!(count > 100, "{count} were compared");
}

#[test]
fn a_swap_of_neighbours_would_be_seen() {
    let ours = "Part { leader_epoch: 3, partition: 4, id: AAAA, name: Some(\"a: 1\"), unknown_tagged_fields: {} }";
    let same = "Part { leader_epoch: 3, partition: 4, id: 00-11, name: Some(Name(\"a: 1\")) }";
    let swapped = "Part { partition: 3, leader_epoch: 4, id: 00-11, name: Some(Name(\"a: 1\")) }";
    assert_eq!(tokens(ours), tokens(same));
    assert_ne!(tokens(ours), tokens(swapped));
    assert!(tokens(ours).contains(&"\"a: 1\"".to_owned()));
}
