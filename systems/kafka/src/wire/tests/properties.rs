//! What holds for every message: bytes never panic, every truncation is an error, writing and reading agree, memory is
//! bounded.

use bytes::Bytes;
use proptest::prelude::*;

use super::draw::Draw;
use crate::wire::message::*;
use crate::wire::{
    ApiKey, Batches, Blob, Codec, DECODED_BYTES_MAX, Message as _, Reader, Request, Response, Rules, STRING_SIZE_MAX,
    WireError, Writer, decode_request, decode_response, validate,
};

fn every_version() -> impl Iterator<Item = (ApiKey, i16)> {
    ApiKey::ALL.iter().flat_map(|&key| key.versions().map(move |version| (key, version)))
}

fn any_version() -> impl Strategy<Value = (ApiKey, i16)> {
    let all: Vec<_> = every_version().collect();
    prop::sample::select(all)
}

fn request_bytes(request: &Request, version: i16) -> Bytes {
    let mut writer = Writer::new();
    request.encode(&mut writer, version);
    writer.into_bytes()
}

fn response_bytes(response: &Response, version: i16) -> Bytes {
    let mut writer = Writer::new();
    response.encode(&mut writer, version);
    writer.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bytes_never_panic((key, version) in any_version(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = Request::decode(key, version, &mut Reader::new(bytes.clone()));
        let _ = Response::decode(key, version, &mut Reader::new(bytes.clone()));
        let _ = decode_request(bytes.clone());
        let _ = decode_response(key, version, bytes.clone());
        let _ = validate(&bytes, &Rules::default());
        for batch in Batches::new(bytes.clone()).flatten() {
            let _ = batch.decompress(1 << 20);
        }
        for codec in Codec::ALL {
            let _ = codec.decompress(&bytes, 1 << 20);
        }
    }

    #[test]
    fn a_changed_byte_never_panics(
        (key, version) in any_version(), seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = request_bytes(&Request::draw(&mut Draw::new(seed), key, version), version).to_vec();
        bytes.push(0);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        // What is read all the same can be written, and means the same then.
        if let Ok(request) = Request::decode(key, version, &mut Reader::new(bytes.into())) {
            let again = request_bytes(&request, version);
            let read = Request::decode(key, version, &mut Reader::new(again.clone())).unwrap();
            prop_assert_eq!(request_bytes(&read, version), again);
        }
        let mut bytes = response_bytes(&Response::draw(&mut Draw::new(seed), key, version), version).to_vec();
        bytes.push(0);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(response) = Response::decode(key, version, &mut Reader::new(bytes.into())) {
            let again = response_bytes(&response, version);
            let read = Response::decode(key, version, &mut Reader::new(again.clone())).unwrap();
            prop_assert_eq!(response_bytes(&read, version), again);
        }
    }

    #[test]
    fn segments_are_the_same_bytes((key, version) in any_version(), seed in any::<u64>()) {
        let response = Response::draw(&mut Draw::new(seed), key, version);
        let mut writer = Writer::segmented();
        response.encode(&mut writer, version);
        prop_assert_eq!(joined(&writer.into_segments()), response_bytes(&response, version));
    }
}

fn joined(segments: &[Blob]) -> Bytes {
    segments.iter().map(|segment| segment.read().unwrap()).collect::<Vec<_>>().concat().into()
}

#[test]
fn every_version_round_trips_and_every_truncation_is_an_error() {
    for (key, version) in every_version() {
        for seed in 100..104 {
            let request = Request::draw(&mut Draw::new(seed), key, version);
            let bytes = request_bytes(&request, version);
            for size in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
                let cut = Request::decode(key, version, &mut Reader::new(bytes.slice(..size)));
                assert!(cut.is_err(), "{key} {version} at {size} of {}", bytes.len());
            }
            let mut reader = Reader::new(bytes);
            assert_eq!(Request::decode(key, version, &mut reader), Ok(request), "{key} {version}");
            assert_eq!(reader.remaining(), 0);
            let response = Response::draw(&mut Draw::new(seed), key, version);
            let bytes = response_bytes(&response, version);
            for size in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
                let cut = Response::decode(key, version, &mut Reader::new(bytes.slice(..size)));
                assert!(cut.is_err(), "{key} {version} at {size} of {}", bytes.len());
            }
            let mut reader = Reader::new(bytes);
            assert_eq!(Response::decode(key, version, &mut reader), Ok(response), "{key} {version}");
            assert_eq!(reader.remaining(), 0);
        }
    }
}

#[test]
fn a_count_beyond_the_bytes_reserves_nothing() {
    // Produce 3: no transactional id, acks, timeout, then 2^31 - 1 topics.
    let old = Bytes::from_static(&[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(ProduceRequest::decode(&mut Reader::new(old), 3), Err(WireError::Truncated));
    // Produce 9: the same in the flexible encoding, 2^32 - 2 of them.
    let new = Bytes::from_static(&[0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(ProduceRequest::decode(&mut Reader::new(new), 9), Err(WireError::Truncated));
    let negative = Bytes::from_static(&[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
    assert_eq!(ProduceRequest::decode(&mut Reader::new(negative), 3), Err(WireError::InvalidLength(-2)));
    let padded = Bytes::from_static(&[0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x1f]);
    assert_eq!(ProduceRequest::decode(&mut Reader::new(padded), 9), Err(WireError::NumberTooLong));
}

#[test]
fn a_frame_of_tiny_elements_is_bounded_in_memory() {
    // Empty strings take a byte each, and much more than that in memory.
    let count = 4 << 20;
    let mut writer = Writer::new();
    writer.compact_length(Some(count));
    writer.put(&vec![1; count]);
    let frame = writer.into_bytes();
    assert!(frame.len() < 5 << 20 && count * size_of::<String>() > DECODED_BYTES_MAX);
    assert_eq!(DescribeGroupsRequest::decode(&mut Reader::new(frame), 5), Err(WireError::TooLarge));
}

#[test]
fn null_is_refused_where_the_version_has_none() {
    let null = || Bytes::from_static(&[0xff; 4]);
    assert_eq!(MetadataRequest::decode(&mut Reader::new(null()), 0), Err(WireError::Null));
    assert_eq!(MetadataRequest::decode(&mut Reader::new(null()), 1).unwrap().topics, None);
    // Ours is written as the empty value there.
    assert_eq!(MetadataRequest::default().to_bytes(0), &[0; 4][..]);
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // ApiVersions 3: two names, then tag 1000 of three bytes.
    let bytes = Bytes::from_static(&[1, 1, 1, 0xe8, 7, 3, 9, 9, 9]);
    assert_eq!(ApiVersionsRequest::decode(&mut Reader::new(bytes.clone()), 3), Ok(ApiVersionsRequest::default()));
    assert_eq!(ApiVersionsRequest::decode(&mut Reader::new(bytes.slice(..8)), 3), Err(WireError::Truncated));
    // The response's tag 1 is eight bytes long and says nine.
    let mut bytes = vec![0, 0, 1, 0, 0, 0, 0, 1, 1, 9];
    bytes.extend([0; 9]);
    assert_eq!(ApiVersionsResponse::decode(&mut Reader::new(bytes.into()), 3), Err(WireError::TagSize(1)));
}

#[test]
fn a_version_that_is_not_spoken_is_an_error() {
    let error = WireError::UnsupportedVersion { version: 19, min: 4, max: 18 };
    assert_eq!(FetchRequest::decode(&mut Reader::new(Bytes::new()), 19), Err(error));
}

#[test]
fn texts_that_are_too_long_are_cut_at_a_letter() {
    let long = "€".repeat(STRING_SIZE_MAX);
    for version in [0, 3] {
        let response = FindCoordinatorResponse { host: long.clone(), ..Default::default() };
        let bytes = response.to_bytes(version);
        let read = FindCoordinatorResponse::decode(&mut Reader::new(bytes), version).unwrap();
        assert_eq!(read.host.len(), STRING_SIZE_MAX / 3 * 3);
    }
    let mut writer = Writer::new();
    writer.compact_length(Some(STRING_SIZE_MAX + 1));
    writer.put(&vec![b'a'; STRING_SIZE_MAX + 1]);
    let error = WireError::InvalidLength(STRING_SIZE_MAX as i64 + 1);
    assert_eq!(FindCoordinatorRequest::decode(&mut Reader::new(writer.into_bytes()), 3), Err(error));
}

#[test]
fn records_are_slices_both_ways() {
    let records = Bytes::from(vec![7; 5000]);
    let partition = PartitionProduceData { index: 0, records: Some(records.clone()) };
    let topic = TopicProduceData { partition_data: vec![partition], ..Default::default() };
    let request = ProduceRequest { topic_data: vec![topic], ..Default::default() };
    let frame = request.to_bytes(9);
    let inside = frame.as_ptr_range();
    let read = ProduceRequest::decode(&mut Reader::new(frame), 9).unwrap();
    let slice = read.topic_data[0].partition_data[0].records.clone().unwrap();
    assert!(inside.contains(&slice.as_ptr()), "a slice of the frame");

    let partition = FetchPartitionData { records: Some(records.clone().into()), ..Default::default() };
    let topic = FetchableTopicResponse { partitions: vec![partition.clone(), partition], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    let mut writer = Writer::segmented();
    response.encode(&mut writer, 12);
    let segments = writer.into_segments();
    let is_shared = |segment: &&Blob| matches!(segment, Blob::Memory(bytes) if bytes.as_ptr() == records.as_ptr());
    let shared = segments.iter().filter(is_shared).count();
    assert_eq!((segments.len(), shared), (5, 2), "head, records, middle, records, tail");
    assert_eq!(joined(&segments), response.to_bytes(12));
}
