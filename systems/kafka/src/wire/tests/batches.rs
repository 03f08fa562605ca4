//! Batches: against another implementation in every codec, and what is done to them on their way.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType as TheirTimestampType,
};
use proptest::prelude::*;

use crate::wire::{
    Batch, BatchBuilder, BatchError, Batches, Codec, DECOMPRESSED_SIZE_MAX, Marker, NO_SEQUENCE, Rebuilt,
    TimestampType, assign, empty_batch, marker_batch, parse_marker, rebuild, stamp,
};

type Header = (String, Option<Vec<u8>>);

/// A record as both implementations can have it.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

fn blob() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..40))
}

fn plain() -> impl Strategy<Value = Plain> {
    let headers = prop::collection::vec(("[a-c]{0,3}", blob()), 0..4).prop_map(|mut headers: Vec<Header>| {
        // The other implementation has no duplicates.
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        headers.dedup_by(|a, b| a.0 == b.0);
        headers
    });
    (1_000_000i64..2_000_000, blob(), blob(), headers).prop_map(|(timestamp, key, value, headers)| Plain {
        timestamp,
        key,
        value,
        headers,
    })
}

fn build(builder: BatchBuilder, records: &[Plain]) -> BytesMut {
    let mut builder = builder;
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    builder.build()
}

fn read(batch: &Batch) -> Vec<Plain> {
    let plain = batch.decompress(DECOMPRESSED_SIZE_MAX).unwrap();
    let records = batch.records(&plain).map(|record| {
        let record = record.unwrap();
        Plain {
            timestamp: batch.header().timestamp(record.timestamp_delta),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .map(|(key, value)| (String::from_utf8(key.to_vec()).unwrap(), value.map(<[u8]>::to_vec)))
                .collect(),
        }
    });
    records.collect()
}

fn only(bytes: impl Into<Bytes>) -> Batch {
    let batches: Vec<_> = Batches::new(bytes.into()).collect::<Result<_, _>>().unwrap();
    assert_eq!(batches.len(), 1);
    batches[0].verify().unwrap();
    batches[0].clone()
}

fn compression(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

fn their_record(record: &Plain, offset: i64) -> TheirRecord {
    TheirRecord {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 6,
        producer_id: 77,
        producer_epoch: 3,
        timestamp_type: TheirTimestampType::Creation,
        offset,
        sequence: 500 + offset as i32,
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from)))
            .collect::<IndexMap<_, _>>(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_other_implementation_agrees(records in prop::collection::vec(plain(), 1..12)) {
        for codec in Codec::ALL {
            let builder = BatchBuilder::new(codec).at(0, 6).producer(77, 3, 500).transactional();
            let ours = build(builder, &records).freeze();
            prop_assert_eq!(&read(&only(ours.clone())), &records);

            let decoded = RecordBatchDecoder::decode(&mut ours.clone()).unwrap();
            let expected: Vec<_> = (0..).zip(&records).map(|(at, record)| their_record(record, at)).collect();
            prop_assert_eq!(&decoded.records, &expected, "{:?}", codec);

            let mut theirs = BytesMut::new();
            let options = RecordEncodeOptions { version: 2, compression: compression(codec) };
            RecordBatchEncoder::encode(&mut theirs, &expected, &options).unwrap();
            let theirs = only(theirs.freeze());
            prop_assert_eq!(&read(&theirs), &records, "{:?}", codec);
            if codec == Codec::None {
                // They let base timestamp and deltas begin at the earliest record, Kafka and we at the first.
                let same = only(ours);
                prop_assert_eq!(theirs.header().producer_id, same.header().producer_id);
                prop_assert_eq!(theirs.header().base_sequence, same.header().base_sequence);
                prop_assert_eq!(theirs.header().attributes, same.header().attributes);
                prop_assert_eq!(theirs.header().max_timestamp, same.header().max_timestamp);
                prop_assert_eq!(theirs.header().last_offset_delta, same.header().last_offset_delta);
            }
        }
    }

    #[test]
    fn a_changed_bit_is_seen(records in prop::collection::vec(plain(), 1..4), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = build(BatchBuilder::new(Codec::None), &records);
        // Everything from the checksum on is covered.
        let place = 17 + at.index(bytes.len() - 17);
        bytes[place] ^= 1 << bit;
        let batch = Batch::take(&mut bytes.freeze()).unwrap().unwrap();
        prop_assert!(batch.verify().is_err());
    }

    #[test]
    fn compaction_keeps_offsets_and_timestamps(records in prop::collection::vec(plain(), 1..12), mask in any::<u16>(), horizon in prop::option::of(5_000_000i64..6_000_000)) {
        for codec in [Codec::None, Codec::Lz4] {
            let batch = only(build(BatchBuilder::new(codec).at(100, 6).producer(77, 3, 500), &records));
            let plain = batch.decompress(DECOMPRESSED_SIZE_MAX).unwrap();
            let keep = |delta: i32| mask >> delta & 1 == 1;
            let kept: Vec<_> = (0..).zip(&records).filter(|(at, _)| keep(*at)).collect();
            match rebuild(&batch, &plain, horizon, |record| keep(record.offset_delta)).unwrap() {
                Rebuilt::Unchanged => prop_assert!(kept.len() == records.len() && horizon.is_none()),
                Rebuilt::Empty => prop_assert!(kept.is_empty()),
                Rebuilt::Batch(bytes) => {
                    let new = only(bytes);
                    let (old_header, header) = (batch.header(), new.header());
                    prop_assert_eq!(header.base_offset, 100);
                    prop_assert_eq!(header.last_offset_delta, old_header.last_offset_delta);
                    prop_assert_eq!(header.last_sequence(), old_header.last_sequence());
                    prop_assert_eq!(header.delete_horizon(), horizon);
                    let plain = new.decompress(DECOMPRESSED_SIZE_MAX).unwrap();
                    let deltas: Vec<_> = new.records(&plain).map(|record| record.unwrap().offset_delta).collect();
                    prop_assert_eq!(deltas, kept.iter().map(|(at, _)| *at).collect::<Vec<_>>());
                    prop_assert_eq!(read(&new), kept.into_iter().map(|(_, record)| record.clone()).collect::<Vec<_>>());
                    let again = rebuild(&new, &plain, horizon, |_| true).unwrap();
                    prop_assert_eq!(again, Rebuilt::Unchanged, "another pass finds nothing to do");
                }
            }
        }
    }
}

fn sample() -> BytesMut {
    let mut builder = BatchBuilder::new(Codec::Gzip).producer(9, 1, 10);
    builder.push(1000, Some(b"k"), Some(b"v"), &[]);
    builder.push(3000, None, None, &[(b"h", None), (b"h", Some(b"2"))]);
    builder.push(2000, Some(b""), Some(b""), &[]);
    builder.build()
}

#[test]
fn a_batch_byte_by_byte() {
    let mut builder = BatchBuilder::new(Codec::None).at(5, 2).producer(9, 1, 10).transactional();
    builder.push(1000, Some(b"k"), None, &[(b"h", Some(b"v"))]);
    let batch = builder.build();
    let expected = [
        &5i64.to_be_bytes()[..],
        // 49 bytes of header behind the length, and twelve of records.
        &61i32.to_be_bytes(),
        &2i32.to_be_bytes(),
        &[2],
        &batch[17..21],
        &0x0010i16.to_be_bytes(),
        &0i32.to_be_bytes(),
        &1000i64.to_be_bytes(),
        &1000i64.to_be_bytes(),
        &9i64.to_be_bytes(),
        &1i16.to_be_bytes(),
        &10i32.to_be_bytes(),
        &1i32.to_be_bytes(),
        // Eleven bytes: no attributes, no deltas, a key of one, null, one header of one and one.
        &[22, 0, 0, 0, 2, b'k', 1, 2, 2, b'h', 2, b'v'],
    ]
    .concat();
    assert_eq!(batch, expected);
    // CRC-32C of "123456789" is the check value of its definition; the field is CRC-32C of what follows it.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(batch[17..21], crc32c::crc32c(&batch[21..]).to_be_bytes());
}

#[test]
fn assigning_an_offset_needs_no_new_checksum() {
    let mut bytes = sample();
    let before = bytes.clone();
    assign(&mut bytes, 1 << 40, 77);
    assert_eq!(bytes[16..], before[16..]);
    let batch = only(bytes);
    let header = batch.header();
    assert_eq!((header.base_offset, header.leader_epoch), (1 << 40, 77));
    assert_eq!((header.last_offset(), header.next_offset()), ((1 << 40) + 2, (1 << 40) + 3));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 3000));
    assert_eq!((header.record_count, header.last_sequence()), (3, 12));
}

#[test]
fn stamping_gives_every_record_the_brokers_time() {
    let mut bytes = sample();
    let before = bytes.clone();
    stamp(&mut bytes, TimestampType::CreateTime, 3000);
    assert_eq!(bytes, before, "nothing to do");
    stamp(&mut bytes, TimestampType::LogAppendTime, 5555);
    let batch = only(bytes);
    assert_eq!(batch.header().attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert!(read(&batch).iter().all(|record| record.timestamp == 5555));
    let plain = batch.decompress(DECOMPRESSED_SIZE_MAX).unwrap();
    let Rebuilt::Batch(less) = rebuild(&batch, &plain, None, |record| record.offset_delta == 0).unwrap() else {
        panic!("a record went")
    };
    assert_eq!(read(&only(less))[0].timestamp, 5555, "compaction does not forget it");
}

#[test]
fn sequences_go_on_at_zero() {
    let mut builder = BatchBuilder::new(Codec::None).producer(9, 1, i32::MAX);
    builder.push(0, None, None, &[]);
    builder.push(0, None, None, &[]);
    let batch = only(builder.build());
    assert_eq!(batch.header().last_sequence(), 0);
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(0, None, None, &[]);
    assert_eq!(only(builder.build()).header().last_sequence(), NO_SEQUENCE);
}

#[test]
fn markers_are_what_consumers_know() {
    for (marker, kind) in [(Marker::Abort, 0), (Marker::Commit, 1)] {
        let mut bytes = marker_batch(marker, 77, 3, 0x0102_0304, 1234);
        assign(&mut bytes, 10, 1);
        let batch = only(bytes);
        let header = batch.header();
        assert_eq!(header.attributes.0, 0x30);
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (77, 3, -1));
        assert_eq!((header.last_offset(), header.max_timestamp), (10, 1234));
        let plain = batch.decompress(100).unwrap();
        let record = batch.records(&plain).next().unwrap().unwrap();
        assert_eq!(record.key, Some(&[0, 0, 0, kind][..]));
        assert_eq!(record.value, Some(&[0, 0, 1, 2, 3, 4][..]));
        assert_eq!(parse_marker(&record), Some((marker, 0x0102_0304)));
    }
}

#[test]
fn an_empty_batch_keeps_the_producer() {
    let mut bytes = sample();
    assign(&mut bytes, 40, 7);
    let old = *only(bytes).header();
    let empty = empty_batch(&old);
    assert_eq!(empty.len(), 61);
    let batch = only(empty);
    let header = batch.header();
    assert_eq!((header.record_count, header.last_offset(), header.last_sequence()), (0, 42, 12));
    assert_eq!((header.base_timestamp, header.max_timestamp), (3000, 3000));
    assert_eq!(header.codec(), Ok(Codec::None));
    let plain = batch.decompress(0).unwrap();
    assert_eq!(batch.records(&plain).count(), 0);
}

#[test]
fn a_blob_is_batches_and_perhaps_a_cut_one() {
    let whole = sample().freeze();
    let two = Bytes::from([&whole[..], &whole[..]].concat());
    assert_eq!(Batches::new(two.clone()).filter(Result::is_ok).count(), 2);
    for size in 0..whole.len() {
        let found: Vec<_> = Batches::new(two.slice(..whole.len() + size)).collect();
        assert!(found[0].is_ok());
        assert_eq!(found.len(), if size == 0 { 1 } else { 2 });
        assert!(found[1..].iter().all(|batch| *batch == Err(BatchError::Truncated)), "{size}");
    }
    let mut short = whole.to_vec();
    short[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert_eq!(Batch::take(&mut short.into()), Err(BatchError::Length(48)));
    let mut long = whole.to_vec();
    long[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(Batch::take(&mut long.into()), Err(BatchError::Truncated));
    let mut old = whole.to_vec();
    old[16] = 1;
    assert_eq!(Batch::take(&mut old.into()), Err(BatchError::Magic(1)));
}
