//! A read of a Kafka partition, in the bytes that nodes sign and in words.
//!
//! Records are signed in their partition's name, which is a number. Which topic has that number the metadata's members sign:
//! no number is ever given twice, so that what they say of it stays true. Where the metadata are on an agreement that signs
//! nothing, as a topic on PBFT may be in a cluster that is not, nobody says so to those who ask later.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use verity_kafka::machine::cluster::{self, Located};
use verity_kafka::machine::partition::{self, Held};
use verity_kafka::wire::{Batch, ErrorCode, Uuid};
use verity_types::GroupId;

/// No batch in the words of people is larger.
const PLAIN_BYTES_MAX: usize = 64 << 20;

/// The query for where a partition is.
pub(super) fn locate(topic: &str, partition: i32) -> Bytes {
    cluster::Query::Locate { topic: topic.to_owned(), partition }.encode()
}

/// The query for the batch that holds an offset.
pub(super) fn batch(offset: i64) -> Bytes {
    partition::Query::Batch(offset).encode()
}

/// What the metadata say of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) id: Uuid,
    pub(crate) partition: i32,
    pub(crate) group: GroupId,
    pub(crate) members: BTreeSet<i32>,
}

impl Place {
    /// Reads it.
    pub(crate) fn of(query: &Bytes, answer: &Bytes) -> Result<Self> {
        let strange = || anyhow!("this is no certificate of a partition's place");
        let Ok(cluster::Query::Locate { topic, partition }) = cluster::Query::decode(query) else {
            return Err(strange());
        };
        let Located { error, id, group, members } = Located::decode(answer).map_err(|_| strange())?;
        if error != ErrorCode::NONE {
            bail!("there is no partition {partition} of a topic {topic}");
        }
        Ok(Self { topic, id, partition, group: GroupId(group), members })
    }
}

/// What was asked of a partition and what it came to.
pub(super) fn words(query: &Bytes, answer: &Bytes, place: Option<&Place>) -> Result<(String, String)> {
    let strange = || anyhow!("the certificate is of no read of a znode or a record");
    let Some(partition::Query::Batch(offset)) = partition::Query::decode(query) else { return Err(strange()) };
    let Held { error, batch } = Held::decode(answer.clone()).ok_or_else(strange)?;
    let of = place.map_or_else(
        || "a partition whose topic nobody signed".to_owned(),
        |place| format!("{}/{} (topic {})", place.topic, place.partition, place.id),
    );
    let asked = format!("record {offset} of {of}");
    if error != ErrorCode::NONE {
        return Ok((asked, format!("{error:?}")));
    }
    Ok((asked, record(batch, offset)?))
}

/// The record at an offset, or what stands in its place.
fn record(mut bytes: Bytes, offset: i64) -> Result<String> {
    let batch = Batch::take(&mut bytes).context("the batch cannot be read")?.context("there is no batch")?;
    batch.verify().context("the batch is damaged")?;
    let header = *batch.header();
    if header.attributes.is_control() {
        return Ok(format!("a transaction's marker, at {}", header.base_offset));
    }
    let plain = batch.decompress(PLAIN_BYTES_MAX).context("the batch cannot be decompressed")?;
    for record in batch.records(&plain) {
        let record = record.context("a record cannot be read")?;
        let at = header.base_offset + i64::from(record.offset_delta);
        if at >= offset {
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or_else(|| "null".to_owned(), |bytes| format!("{:?}", String::from_utf8_lossy(bytes)))
            };
            let (key, value) = (text(record.key), text(record.value));
            let moved =
                if at == offset { String::new() } else { format!(" at {at}, since {offset} was compacted away") };
            let open = if header.attributes.is_transactional() { ", of a transaction" } else { "" };
            return Ok(format!(
                "{key} = {value}{moved}, written at {} ms{open}",
                header.timestamp(record.timestamp_delta)
            ));
        }
    }
    Ok(format!("nothing: {offset} was compacted away"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_words_and_anything_else_is_refused() {
        let gone = Held::none(ErrorCode::OFFSET_OUT_OF_RANGE).encode();
        let located =
            Located { error: ErrorCode::NONE, id: Uuid([7; 16]), group: 1 << 32, members: [1, 2, 3, 4].into() };
        let place = Place::of(&locate("orders", 2), &located.encode()).expect("a place");
        assert_eq!((place.group, place.partition, place.members.len()), (GroupId(1 << 32), 2, 4));
        let (asked, said) = words(&batch(5), &gone, Some(&place)).expect("an answer");
        assert!(asked.starts_with("record 5 of orders/2 (topic "), "{asked}");
        assert!(said.contains("OFFSET_OUT_OF_RANGE"), "{said}");
        let nowhere = Located { error: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ..Located::default() };
        assert!(Place::of(&locate("orders", 2), &nowhere.encode()).is_err());
        assert!(Place::of(&batch(5), &located.encode()).is_err() && words(&locate("orders", 2), &gone, None).is_err());
        assert!(
            words(&batch(5), &Held { error: ErrorCode::NONE, batch: Bytes::from_static(b"x") }.encode(), None).is_err()
        );
    }
}
