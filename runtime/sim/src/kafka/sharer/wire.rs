//! What a sharer says and hears, byte by byte.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::super::wire::{self, Batch, put_compact, request, skip_compact, take_batches, take_count};
use super::{GROUP, TopicId};

/// Metadata that tell the ids of topics.
const METADATA: (i16, i16) = wire::METADATA_WITH_IDS;
const RESOURCE_BROKER: i8 = 4;
const RESOURCE_GROUP: i8 = 32;
/// A fetch of nothing waits so long.
const WAIT_MS: i32 = 100;

/// What a sharer says of neighbouring records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) kind: i8,
}

/// Neighbouring records that were acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acquired {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) count: i16,
}

/// What an answer says of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) topic: TopicId,
    pub(super) error: i16,
    /// Of the acknowledgements that came with the request.
    pub(super) settled: i16,
    pub(super) batches: Vec<Batch>,
    pub(super) acquired: Vec<Acquired>,
}

fn count(of: usize) -> u8 {
    u8::try_from(of + 1).expect("they are few")
}

pub(super) fn topic_id(topic: usize, correlation: i32) -> Bytes {
    request(METADATA, correlation, |out| {
        out.put_u8(2);
        // By its name.
        out.put_slice(&[0; 16]);
        put_compact(out, &format!("t{topic}"));
        out.put_u8(0);
        // It may be created, and no operations are asked for.
        out.put_slice(&[1, 0, 0]);
    })
}

/// How share groups behave in this world: settings of all, and of the one.
pub(super) fn configure(all: &[(&str, String)], own: &[(&str, String)], correlation: i32) -> Bytes {
    request(wire::INCREMENTAL_ALTER_CONFIGS, correlation, |out| {
        out.put_u8(3);
        for (kind, name, settings) in [(RESOURCE_BROKER, "", all), (RESOURCE_GROUP, GROUP, own)] {
            out.put_i8(kind);
            put_compact(out, name);
            out.put_u8(count(settings.len()));
            for (name, value) in settings {
                put_compact(out, name);
                out.put_i8(0);
                put_compact(out, value);
                out.put_u8(0);
            }
            out.put_u8(0);
        }
        out.put_slice(&[0; 2]);
    })
}

pub(super) fn heartbeat(member: &str, epoch: i32, topics: usize, correlation: i32) -> Bytes {
    request(wire::SHARE_GROUP_HEARTBEAT, correlation, |out| {
        put_compact(out, GROUP);
        put_compact(out, member);
        out.put_i32(epoch);
        // No rack.
        out.put_u8(0);
        out.put_u8(count(topics));
        (0..topics).for_each(|topic| put_compact(out, &format!("t{topic}")));
        out.put_u8(0);
    })
}

fn put_partition(out: &mut BytesMut, topic: TopicId, said: &[Said]) {
    out.put_u8(2);
    out.put_slice(&topic);
    out.put_u8(2);
    out.put_i32(0);
    out.put_u8(count(said.len()));
    for Said { first, last, kind } in said {
        out.put_i64(*first);
        out.put_i64(*last);
        out.put_u8(2);
        out.put_i8(*kind);
        out.put_u8(0);
    }
    // Of the partition, of the topic.
    out.put_slice(&[0; 2]);
}

/// A fetch of so many records or a few more, or of so many and no more.
pub(super) fn fetch(
    (member, session): (&str, i32),
    topic: TopicId,
    said: &[Said],
    (most, exact): (i32, bool),
    correlation: i32,
) -> Bytes {
    request(wire::SHARE_FETCH, correlation, |out| {
        put_compact(out, GROUP);
        put_compact(out, member);
        out.put_i32(session);
        out.put_i32(WAIT_MS);
        out.put_i32(1);
        out.put_i32(1 << 20);
        out.put_i32(most);
        out.put_i32(most);
        out.put_u8(u8::from(exact));
        // No lock is renewed.
        out.put_u8(0);
        put_partition(out, topic, said);
        // Nothing is forgotten.
        out.put_slice(&[1, 0]);
    })
}

pub(super) fn acknowledge((member, session): (&str, i32), topic: TopicId, said: &[Said], correlation: i32) -> Bytes {
    request(wire::SHARE_ACKNOWLEDGE, correlation, |out| {
        put_compact(out, GROUP);
        put_compact(out, member);
        out.put_i32(session);
        out.put_u8(0);
        put_partition(out, topic, said);
        out.put_u8(0);
    })
}

pub(super) fn offsets(topics: usize, correlation: i32) -> Bytes {
    request(wire::DESCRIBE_SHARE_OFFSETS, correlation, |out| {
        out.put_u8(2);
        put_compact(out, GROUP);
        out.put_u8(count(topics));
        for topic in 0..topics {
            put_compact(out, &format!("t{topic}"));
            out.put_u8(2);
            out.put_i32(0);
            out.put_u8(0);
        }
        out.put_slice(&[0; 2]);
    })
}

// ---- answers

fn skip_tags(body: &mut Bytes) {
    body.advance(1);
}

fn take_id(body: &mut Bytes) -> TopicId {
    let mut id = [0; 16];
    body.copy_to_slice(&mut id);
    id
}

fn length(body: &mut Bytes) -> usize {
    take_count(body).unwrap_or(0)
}

/// The error and the id of the one topic that was asked for.
pub(super) fn take_topic_id(body: &mut Bytes) -> (i16, TopicId) {
    body.advance(5);
    for _ in 0..length(body) {
        body.advance(4);
        skip_compact(body);
        body.advance(4);
        skip_compact(body);
        skip_tags(body);
    }
    skip_compact(body);
    body.advance(4);
    length(body);
    let error = body.get_i16();
    skip_compact(body);
    (error, take_id(body))
}

/// The first error of all resources.
pub(super) fn take_configured(body: &mut Bytes) -> i16 {
    body.advance(5);
    let errors = (0..length(body)).map(|_| {
        let error = body.get_i16();
        skip_compact(body);
        body.advance(1);
        skip_compact(body);
        skip_tags(body);
        error
    });
    errors.fold(0, |first, error| if first == 0 { error } else { first })
}

/// The error, and the member's epoch.
pub(super) fn take_beaten(body: &mut Bytes) -> (i16, i32) {
    body.advance(5);
    let error = body.get_i16();
    skip_compact(body);
    skip_compact(body);
    (error, body.get_i32())
}

/// An answer to a fetch: its error, and of each partition what there is.
pub(super) fn take_fetched(body: &mut Bytes) -> Result<(i16, Vec<Part>), String> {
    body.advance(5);
    let error = body.get_i16();
    skip_compact(body);
    body.advance(4);
    let mut parts = Vec::new();
    for _ in 0..length(body) {
        let topic = take_id(body);
        for _ in 0..length(body) {
            body.advance(4);
            let error = body.get_i16();
            skip_compact(body);
            let settled = body.get_i16();
            skip_compact(body);
            // Who leads.
            body.advance(9);
            let size = length(body);
            let batches = take_batches(body.split_to(size))?;
            let acquired = (0..length(body)).map(|_| {
                let acquired = Acquired { first: body.get_i64(), last: body.get_i64(), count: body.get_i16() };
                skip_tags(body);
                acquired
            });
            let acquired = acquired.collect();
            skip_tags(body);
            parts.push(Part { topic, error, settled, batches, acquired });
        }
        skip_tags(body);
    }
    Ok((error, parts))
}

/// An answer to acknowledgements: its error, and that of the one partition.
pub(super) fn take_acknowledged(body: &mut Bytes) -> (i16, i16) {
    body.advance(5);
    let error = body.get_i16();
    skip_compact(body);
    body.advance(4);
    if length(body) == 0 {
        return (error, 0);
    }
    body.advance(16);
    length(body);
    body.advance(4);
    (error, body.get_i16())
}

/// The error, and where the group stands in each topic, in their order.
pub(super) fn take_offsets(body: &mut Bytes) -> (i16, Vec<i64>) {
    body.advance(5);
    length(body);
    skip_compact(body);
    let mut starts = Vec::new();
    for _ in 0..length(body) {
        skip_compact(body);
        body.advance(16);
        for _ in 0..length(body) {
            body.advance(4);
            starts.push(body.get_i64());
            // The leader's epoch, the lag, the error.
            body.advance(14);
            skip_compact(body);
            skip_tags(body);
        }
        skip_tags(body);
    }
    (body.get_i16(), starts)
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::{Found, Producer, batch};
    use super::*;

    /// The answer's tagged fields, how long it was throttled, no error, no words.
    fn answer() -> BytesMut {
        let mut body = BytesMut::new();
        body.put_slice(&[0; 8]);
        body
    }

    #[test]
    fn an_answer_to_a_fetch_is_read() {
        let (mut body, record) = (answer(), batch(9, Producer { id: -1, epoch: -1 }, -1, false));
        body.put_i32(30_000);
        body.put_u8(2);
        body.put_slice(&[7; 16]);
        body.put_u8(2);
        body.put_i32(0);
        body.put_i16(0);
        body.put_u8(0);
        body.put_i16(121);
        body.put_u8(0);
        body.put_slice(&[0; 9]);
        body.put_u8(count(record.len()));
        body.put_slice(&record);
        body.put_u8(2);
        body.put_i64(0);
        body.put_i64(0);
        body.put_i16(3);
        body.put_slice(&[0; 4]);
        let (error, parts) = take_fetched(&mut body.freeze()).expect("it is one");
        let [part] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!((error, part.topic, part.error, part.settled), (0, [7; 16], 0, 121));
        assert_eq!(part.acquired, [Acquired { first: 0, last: 0, count: 3 }]);
        assert_eq!(part.batches.iter().map(|batch| batch.found).collect::<Vec<_>>(), [Found::Value(9)]);
    }

    #[test]
    fn answers_to_acknowledgements_and_to_heartbeats_are_read() {
        let mut body = answer();
        body.put_i32(30_000);
        body.put_u8(1);
        assert_eq!(take_acknowledged(&mut body.freeze()), (0, 0));
        let mut body = answer();
        body.put_i32(30_000);
        body.put_u8(2);
        body.put_slice(&[7; 16]);
        body.put_u8(2);
        body.put_i32(0);
        body.put_i16(121);
        assert_eq!(take_acknowledged(&mut body.freeze()), (0, 121));
        let mut body = answer();
        put_compact(&mut body, "me");
        body.put_i32(4);
        assert_eq!(take_beaten(&mut body.freeze()), (0, 4));
    }
}
