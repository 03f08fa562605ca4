//! The records inside a batch, once they are decompressed.
//!
//! ```text
//! record  = size:varint attributes:i8 timestamp delta:varlong offset delta:varint
//!           key value header count:varint header*
//! key     = size:varint bytes             -1 for null; so is value
//! header  = size:varint bytes value       the key of a header is never null
//! ```
//! Variable-length numbers are zigzag: 0, -1, 1, -2. Everything borrows from the decompressed bytes. Headers are pairs in
//! the order in which they came: a key may be there twice.

use super::batch::BatchError;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Milliseconds since the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Its offset above the batch's base offset.
    pub offset_delta: i32,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; null is a tombstone where a topic is compacted.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// The headers of a record, known to be well-formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    rest: &'a [u8],
}

impl Headers<'_> {
    /// How many there are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        take_header(&mut self.rest)
    }
}

/// The records of a batch, in order.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
}

impl<'a> Records<'a> {
    /// `count` records out of `plain`, which must end with the last.
    #[must_use]
    pub fn new(plain: &'a [u8], count: i32) -> Self {
        Self { rest: plain, index: 0, count }
    }

    fn take(&mut self) -> Result<Record<'a>, BatchError> {
        let malformed = BatchError::Record { index: self.index };
        let size = take_varint(&mut self.rest).ok_or(malformed)?;
        let size = usize::try_from(size).map_err(|_| malformed)?;
        let (body, rest) = self.rest.split_at_checked(size).ok_or(malformed)?;
        self.rest = rest;
        take_record(body).ok_or(malformed)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            if self.rest.is_empty() {
                return None;
            }
            self.rest = &[];
            return Some(Err(BatchError::TrailingBytes));
        }
        let record = self.take();
        self.index += 1;
        if record.is_err() {
            // Nothing behind a broken record has a place that is known.
            (self.rest, self.index) = (&[], self.count);
        }
        Some(record)
    }
}

fn take_record(mut body: &[u8]) -> Option<Record<'_>> {
    let body = &mut body;
    let (_attributes, rest) = body.split_first()?;
    *body = rest;
    let timestamp_delta = take_varlong(body)?;
    let offset_delta = take_varint(body)?;
    let key = take_blob(body)?;
    let value = take_blob(body)?;
    let count = usize::try_from(take_varint(body)?).ok()?;
    let headers = Headers { count, rest: body };
    for _ in 0..count {
        take_header(body)?;
    }
    body.is_empty().then_some(Record { timestamp_delta, offset_delta, key, value, headers })
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let key = take_blob(rest)??;
    Some((key, take_blob(rest)?))
}

/// Bytes with their length in front. The outer `None` is malformed, the inner one null.
fn take_blob<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let size = take_varint(rest)?;
    if size == -1 {
        return Some(None);
    }
    let (blob, tail) = rest.split_at_checked(usize::try_from(size).ok()?)?;
    *rest = tail;
    Some(Some(blob))
}

fn take_varlong(rest: &mut &[u8]) -> Option<i64> {
    let mut raw = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        let group = u64::from(byte & 0x7f);
        if shift == 63 && group > 1 {
            return None;
        }
        raw |= group << shift;
        if byte & 0x80 == 0 {
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

fn take_varint(rest: &mut &[u8]) -> Option<i32> {
    let before = rest.len();
    let value = i32::try_from(take_varlong(rest)?).ok()?;
    // Five bytes hold every such number; a client that pads it further is broken.
    (before - rest.len() <= 5).then_some(value)
}

pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

fn put_blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    match blob {
        None => put_varlong(out, -1),
        Some(blob) => {
            put_varlong(out, i64::try_from(blob.len()).expect("no slice is longer"));
            out.extend_from_slice(blob);
        }
    }
}

/// Appends a record. `scratch` is emptied and used.
pub(super) fn put_record<'h>(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    record: &Record<'_>,
    headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
) {
    scratch.clear();
    scratch.push(0);
    put_varlong(scratch, record.timestamp_delta);
    put_varlong(scratch, record.offset_delta.into());
    put_blob(scratch, record.key);
    put_blob(scratch, record.value);
    put_varlong(scratch, headers.len() as i64);
    for (key, value) in headers {
        put_blob(scratch, Some(key));
        put_blob(scratch, value);
    }
    put_varlong(out, scratch.len() as i64);
    out.extend_from_slice(scratch);
}

impl ExactSizeIterator for Headers<'_> {
    fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_length_numbers_are_zigzag() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[126]),
            (-64, &[127]),
            (64, &[0x80, 1]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(take_varlong(&mut &out[..]), Some(value));
        }
        assert_eq!(take_varlong(&mut &[0xff; 10][..]), None, "too long");
        assert_eq!(take_varint(&mut &[0xfe, 0xff, 0xff, 0xff, 0x1f][..]), None, "above 32 bits");
        assert_eq!(take_varint(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]), None, "padded");
        assert_eq!(take_varint(&mut &[][..]), None);
    }

    #[test]
    fn headers_keep_order_and_duplicates() {
        let record =
            Record { timestamp_delta: 5, offset_delta: 0, key: Some(b"k"), value: None, headers: Headers::default() };
        let headers: [(&[u8], Option<&[u8]>); 3] = [(b"b", Some(b"1")), (b"a", None), (b"b", Some(b"2"))];
        let mut out = Vec::new();
        put_record(&mut out, &mut Vec::new(), &record, headers.into_iter());
        let read: Vec<_> = Records::new(&out, 1).collect::<Result<_, _>>().unwrap();
        assert_eq!(read[0].headers.collect::<Vec<_>>(), headers);
        assert_eq!((read[0].key, read[0].value), (Some(&b"k"[..]), None));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let record = Record {
            timestamp_delta: 5,
            offset_delta: 0,
            key: Some(b"key"),
            value: Some(b""),
            headers: Headers::default(),
        };
        let headers: [(&[u8], Option<&[u8]>); 1] = [(b"h", Some(b"v"))];
        let mut out = Vec::new();
        put_record(&mut out, &mut Vec::new(), &record, headers.into_iter());
        for size in 0..out.len() {
            let read: Vec<_> = Records::new(&out[..size], 1).collect();
            assert_eq!(read, [Err(BatchError::Record { index: 0 })], "{size}");
        }
        assert_eq!(Records::new(&out, 0).collect::<Vec<_>>(), [Err(BatchError::TrailingBytes)]);
        out[0] += 2;
        out.push(0);
        assert_eq!(
            Records::new(&out, 1).collect::<Vec<_>>(),
            [Err(BatchError::Record { index: 0 })],
            "a byte too many"
        );
    }
}
