//! The few requests of Kafka's protocol that a load needs, byte by byte, in versions without tagged fields.
//!
//! Deliberately absent: flexible versions, compression, and every field that a load does not look at.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

/// A request's number and the version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api(pub i16, pub i16);

/// Appends batches.
pub const PRODUCE: Api = Api(0, 7);
/// Reads batches, outside of any fetch session.
pub const FETCH: Api = Api(1, 4);
/// Who leads what.
pub const METADATA: Api = Api(3, 1);
/// Which versions a server speaks.
pub const API_VERSIONS: Api = Api(18, 0);
/// Makes topics.
pub const CREATE_TOPICS: Api = Api(19, 2);
/// Names an idempotent producer.
pub const INIT_PRODUCER_ID: Api = Api(22, 1);

/// The largest frame that is read.
pub const FRAME_SIZE_MAX: usize = 64 << 20;

/// A frame under construction: a length that [`Frame::finish`] fills in, and what was put behind it.
#[derive(Clone, Debug)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// A request with its header.
    #[must_use]
    pub fn request(api: Api, correlation: i32) -> Frame {
        Frame(vec![0; 4]).i16(api.0).i16(api.1).i32(correlation).string("bench")
    }

    /// A response with its header.
    #[must_use]
    pub fn response(correlation: i32) -> Frame {
        Frame(vec![0; 4]).i32(correlation)
    }

    /// Appends a byte.
    #[must_use]
    pub fn i8(mut self, value: i8) -> Frame {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Appends two bytes.
    #[must_use]
    pub fn i16(mut self, value: i16) -> Frame {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Appends four bytes; also the count in front of an array.
    #[must_use]
    pub fn i32(mut self, value: i32) -> Frame {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Appends eight bytes.
    #[must_use]
    pub fn i64(mut self, value: i64) -> Frame {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Appends a string with its length.
    #[must_use]
    pub fn string(self, value: &str) -> Frame {
        let mut frame = self.i16(i16::try_from(value.len()).expect("a name of ours is short"));
        frame.0.extend(value.as_bytes());
        frame
    }

    /// Appends bytes with their length.
    #[must_use]
    pub fn bytes(self, value: &[u8]) -> Frame {
        let mut frame = self.i32(i32::try_from(value.len()).expect("a batch of ours is small"));
        frame.0.extend(value);
        frame
    }

    /// The bytes, ready to be sent.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let size = u32::try_from(self.0.len() - 4).expect("a frame of ours is small");
        self.0[..4].copy_from_slice(&size.to_be_bytes());
        self.0
    }
}

/// Reads what a peer has sent.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next so many bytes.
    ///
    /// # Errors
    /// When there are fewer; so do all below.
    pub fn take(&mut self, size: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size).context("a frame ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many as were asked for"))
    }

    /// A byte.
    ///
    /// # Errors
    /// At the end.
    pub fn i8(&mut self) -> Result<i8> {
        self.array().map(i8::from_be_bytes)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// At the end.
    pub fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// At the end.
    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// At the end.
    pub fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string; a null one is empty.
    ///
    /// # Errors
    /// At the end, or when it is no text.
    pub fn string(&mut self) -> Result<&'a str> {
        let size = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(std::str::from_utf8(self.take(size)?)?)
    }

    /// Bytes; null ones are empty.
    ///
    /// # Errors
    /// At the end.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let size = usize::try_from(self.i32()?).unwrap_or(0);
        self.take(size)
    }

    /// A number of a record, in the variable length that records have.
    ///
    /// # Errors
    /// At the end.
    pub fn varint(&mut self) -> Result<i64> {
        let mut raw: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        anyhow::bail!("a number without an end")
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = (value << 1 ^ value >> 63) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Now, as records say it. What is older than the topic keeps would be let go of while it is measured.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a client's records bear the time")]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A batch of these values, without keys, compression or a producer's name.
#[must_use]
pub fn batch<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>, timestamp_ms: i64) -> Vec<u8> {
    let (mut records, mut record, mut count) = (Vec::new(), Vec::new(), 0_i32);
    for value in values {
        let value = value.as_ref();
        record.clear();
        record.push(0);
        put_varint(&mut record, 0);
        put_varint(&mut record, i64::from(count));
        put_varint(&mut record, -1);
        put_varint(&mut record, value.len() as i64);
        record.extend(value);
        put_varint(&mut record, 0);
        put_varint(&mut records, record.len() as i64);
        records.extend(&record);
        count += 1;
    }
    let checked = Frame(Vec::new()).i16(0).i32(count - 1).i64(timestamp_ms).i64(timestamp_ms);
    let mut checked = checked.i64(-1).i16(-1).i32(-1).i32(count).0;
    checked.extend(records);
    let crc = crc32c::crc32c(&checked) as i32;
    // Leader epoch, magic and checksum are nine of the bytes that the length counts.
    let length = i32::try_from(checked.len() + 9).expect("a batch of ours is small");
    let mut batch = Frame(Vec::new()).i64(0).i32(length).i32(-1).i8(2).i32(crc).0;
    batch.extend(checked);
    batch
}

/// Calls `each` with the value of every record in these batches, of which the last may be cut; says where the next begins.
///
/// # Errors
/// When a batch is compressed or malformed.
pub fn values(batches: &[u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<Option<i64>> {
    let (mut cursor, mut next) = (Cursor(batches), None);
    while cursor.0.len() >= 12 {
        let base_offset = cursor.i64()?;
        let size = usize::try_from(cursor.i32()?).context("a batch of negative length")?;
        let Ok(body) = cursor.take(size) else { break };
        let mut body = Cursor(body);
        body.take(9)?;
        ensure!(body.i16()? & 7 == 0, "a batch is compressed");
        let last_offset_delta = body.i32()?;
        body.take(8 + 8 + 8 + 2 + 4)?;
        for _ in 0..body.i32()? {
            let size = usize::try_from(body.varint()?)?;
            let mut record = Cursor(body.take(size)?);
            record.i8()?;
            record.varint()?;
            record.varint()?;
            let key = usize::try_from(record.varint()?).unwrap_or(0);
            record.take(key)?;
            let value = usize::try_from(record.varint()?).unwrap_or(0);
            each(record.take(value)?)?;
        }
        next = Some(base_offset + i64::from(last_offset_delta) + 1);
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_back_and_a_cut_one_is_left() {
        let whole = batch(["a", "bc"], 7);
        let mut twice = whole.clone();
        twice.extend(&whole[..whole.len() - 1]);
        let mut seen = Vec::new();
        let next = values(&twice, |value| {
            seen.push(value.to_vec());
            Ok(())
        });
        assert_eq!(next.unwrap(), Some(2));
        assert_eq!(seen, [b"a".to_vec(), b"bc".to_vec()]);
    }

    #[test]
    fn numbers_of_any_sign_are_read_back() {
        for value in [0, -1, 1, 63, 64, -65, 300, i64::from(i32::MAX), i64::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Cursor(&out).varint().unwrap(), value);
        }
    }

    #[test]
    fn a_frame_that_ends_early_is_an_error() {
        assert!(Cursor(&[0, 1]).i32().is_err());
        assert!(Cursor(&[0, 9, 65]).string().is_err());
        assert!(Cursor(&[0xff; 11]).varint().is_err());
    }
}
