//! What a leader takes and what it does not, each with its error code.

use bytes::{Bytes, BytesMut};

use crate::wire::{
    BatchBuilder, Codec, ErrorCode, Marker, Rejected, Rules, TimestampType, marker_batch, stamp, validate,
};

fn sample(codec: Codec) -> BytesMut {
    let mut builder = BatchBuilder::new(codec);
    builder.push(1000, Some(b"k"), Some(b"v"), &[]);
    builder.push(3000, None, Some(b"w"), &[]);
    builder.push(2000, Some(b"k"), None, &[]);
    builder.build()
}

/// Writes into a batch at a place and makes the checksum right again.
fn with(mut batch: BytesMut, at: usize, bytes: &[u8]) -> BytesMut {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn refused(batch: impl Into<Bytes>, rules: &Rules) -> Rejected {
    validate(&batch.into(), rules).expect_err("it is invalid")
}

fn code(batch: impl Into<Bytes>) -> ErrorCode {
    refused(batch, &Rules::default()).code
}

#[test]
fn sound_batches_pass_in_every_codec() {
    for codec in Codec::ALL {
        let accepted = validate(&sample(codec).freeze(), &Rules::default()).unwrap();
        assert_eq!(accepted.header.record_count, 3);
        assert_eq!((accepted.max_timestamp, accepted.stamp), (3000, None), "{codec:?}");
    }
}

#[test]
fn one_batch_and_nothing_else() {
    let one = sample(Codec::None).freeze();
    assert_eq!(code(Bytes::new()), ErrorCode::INVALID_RECORD);
    assert_eq!(code([&one[..], &one[..]].concat()), ErrorCode::INVALID_RECORD);
    assert_eq!(code([&one[..], &[0]].concat()), ErrorCode::INVALID_RECORD);
    assert_eq!(code(one.slice(..one.len() - 1)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(one.slice(..20)), ErrorCode::INVALID_RECORD);
}

#[test]
fn header_faults_have_their_codes() {
    let batch = || sample(Codec::None);
    let mut flipped = batch();
    flipped[70] ^= 1;
    assert_eq!(code(flipped), ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(code(with(batch(), 8, &10i32.to_be_bytes())), ErrorCode::CORRUPT_MESSAGE, "length");
    assert_eq!(code(with(batch(), 16, &[1])), ErrorCode::INVALID_RECORD, "magic 1");
    assert_eq!(code(with(batch(), 16, &[3])), ErrorCode::CORRUPT_MESSAGE, "magic 3");
    assert_eq!(code(with(batch(), 0, &1i64.to_be_bytes())), ErrorCode::INVALID_RECORD, "base offset");
    assert_eq!(code(with(batch(), 22, &[5])), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(code(with(batch(), 57, &4i32.to_be_bytes())), ErrorCode::INVALID_RECORD, "count");
    assert_eq!(code(with(batch(), 23, &3i32.to_be_bytes())), ErrorCode::INVALID_RECORD, "last offset");
    let none = with(with(batch(), 57, &0i32.to_be_bytes()), 23, &(-1i32).to_be_bytes());
    assert_eq!(code(none), ErrorCode::INVALID_RECORD, "no record");
    assert_eq!(code(with(batch(), 22, &[0x20])), ErrorCode::INVALID_RECORD, "control");
    assert_eq!(code(marker_batch(Marker::Commit, 1, 0, 0, 0)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(with(batch(), 43, &7i64.to_be_bytes())), ErrorCode::INVALID_RECORD, "producer without sequence");
    let small = Rules { batch_size_max: batch().len() - 1, ..Rules::default() };
    assert_eq!(refused(batch(), &small).code, ErrorCode::MESSAGE_TOO_LARGE);
    let old = Rules { zstd: false, ..Rules::default() };
    assert_eq!(refused(sample(Codec::Zstd), &old).code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
}

#[test]
fn record_faults_have_their_codes() {
    let batch = || sample(Codec::None);
    // The first record's offset delta is its fourth byte.
    let moved = refused(with(batch(), 64, &[2]), &Rules::default());
    assert_eq!(moved.code, ErrorCode::INVALID_RECORD);
    assert_eq!(moved.records[0].0, 0);
    assert_eq!(code(with(batch(), 61, &[0x7f])), ErrorCode::INVALID_RECORD, "a negative size");
    assert_eq!(code(with(batch(), 22, &[Codec::Gzip.number()])), ErrorCode::INVALID_RECORD, "not gzip");
    let fewer = with(with(batch(), 57, &2i32.to_be_bytes()), 23, &1i32.to_be_bytes());
    assert_eq!(code(fewer), ErrorCode::INVALID_RECORD, "a record too many");
    let more = with(with(batch(), 57, &i32::MAX.to_be_bytes()), 23, &(i32::MAX - 1).to_be_bytes());
    assert_eq!(code(more), ErrorCode::INVALID_RECORD, "records too few");
}

#[test]
fn a_compacted_topic_wants_keys() {
    let rules = Rules { compacted: true, ..Rules::default() };
    let rejected = refused(sample(Codec::Snappy), &rules);
    assert_eq!(rejected.code, ErrorCode::INVALID_RECORD);
    assert_eq!(rejected.records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_bomb_is_too_large() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.push(0, None, Some(&vec![0; 8 << 20]), &[]);
    let rules = Rules { decompressed_size_max: 1 << 20, ..Rules::default() };
    assert_eq!(refused(builder.build(), &rules).code, ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn timestamps_are_bounded_on_both_sides() {
    let late = Rules { now_ms: 10_000, before_max_ms: 8_000, ..Rules::default() };
    let rejected = refused(sample(Codec::Lz4), &late);
    assert_eq!(rejected.code, ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(rejected.records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0]);
    let early = Rules { now_ms: 0, after_max_ms: 2_999, ..Rules::default() };
    assert_eq!(refused(sample(Codec::Lz4), &early).records[0].0, 1);
    let none = {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(-1, None, None, &[]);
        builder.build()
    };
    assert!(validate(&none.freeze(), &late).is_ok(), "no timestamp is none to judge");
    let far = with(sample(Codec::None), 27, &i64::MAX.to_be_bytes());
    assert_eq!(code(far), ErrorCode::INVALID_TIMESTAMP, "an overflow is far away too");
    let mut claimed = sample(Codec::None);
    stamp(&mut claimed, TimestampType::LogAppendTime, 5);
    assert_eq!(code(claimed), ErrorCode::INVALID_TIMESTAMP);
}

#[test]
fn what_must_be_stamped_is_said() {
    let lying = with(sample(Codec::Gzip), 35, &9999i64.to_be_bytes());
    let accepted = validate(&lying.clone().freeze(), &Rules::default()).unwrap();
    assert_eq!(accepted.stamp, Some((TimestampType::CreateTime, 3000)));
    let mut right = lying;
    stamp(&mut right, TimestampType::CreateTime, 3000);
    assert_eq!(right, sample(Codec::Gzip));
    let append = Rules { timestamp_type: TimestampType::LogAppendTime, now_ms: 77, ..Rules::default() };
    let accepted = validate(&sample(Codec::None).freeze(), &append).unwrap();
    assert_eq!((accepted.max_timestamp, accepted.stamp), (77, Some((TimestampType::LogAppendTime, 77))));
}
