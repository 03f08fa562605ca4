//! Puts the protocol's primitive values into a frame.
//!
//! A writer either copies everything into one buffer, or leaves large bytes fields where they are and puts out a list of
//! segments: so the records of a fetch travel from the log to the socket without being copied, and may even stay in
//! their file until then.
//!
//! Writing does not fail. What a field's version does not have is left out; null where it is not allowed is written as the
//! empty value; a string above [`STRING_SIZE_MAX`] is cut, which only texts that we made ourselves can be, since none
//! longer is read.

use bytes::{BufMut, Bytes, BytesMut};
use verity_contract::FileRange;

use super::blob::Blob;
use super::reader::STRING_SIZE_MAX;

/// Bytes fields from this size on become segments of their own.
const SEGMENT_SIZE_MIN: usize = 1024;

/// Collects a message.
#[derive(Debug, Default)]
pub struct Writer {
    /// What comes before `open`. The first segment stays writable for the frame's length.
    first: Option<BytesMut>,
    done: Vec<Blob>,
    open: BytesMut,
    splice: bool,
}

impl Writer {
    /// Copies everything into one buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves large bytes fields where they are.
    #[must_use]
    pub fn segmented() -> Self {
        Self { splice: true, ..Self::default() }
    }

    /// Appends `bytes` as they are.
    pub fn put(&mut self, bytes: &[u8]) {
        self.open.put_slice(bytes);
    }

    /// Appends `bytes`, without copying them if this writer makes segments and they are large.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if !self.splice || bytes.len() < SEGMENT_SIZE_MIN {
            return self.put(bytes);
        }
        self.put_apart(Blob::Memory(bytes.clone()));
    }

    /// Appends bytes that are in a file, and leaves them there.
    ///
    /// # Panics
    /// If this writer makes no segments.
    pub fn put_range(&mut self, range: &FileRange) {
        assert!(self.splice, "what lies in a file is not copied into a buffer");
        self.put_apart(Blob::File(range.clone()));
    }

    fn put_apart(&mut self, segment: Blob) {
        let head = self.open.split();
        if self.first.is_none() {
            self.first = Some(head);
        } else if !head.is_empty() {
            self.done.push(Blob::Memory(head.freeze()));
        }
        self.done.push(segment);
    }

    /// Appends a number in seven-bit groups, the lowest first.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.open.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.open.put_u8(value as u8);
    }

    /// Appends a length in the flexible encoding.
    pub fn compact_length(&mut self, size: Option<usize>) {
        let raw = size.map_or(0, |size| u32::try_from(size + 1).expect("what is written was bounded when it came in"));
        self.uvarint(raw);
    }

    /// Appends a 32-bit length in the older encoding.
    pub fn length(&mut self, size: Option<usize>) {
        let raw = size.map_or(-1, |size| i32::try_from(size).expect("what is written was bounded when it came in"));
        self.put(&raw.to_be_bytes());
    }

    /// Appends a string; `None` for null.
    pub fn string(&mut self, text: Option<&str>, flexible: bool) {
        let text = text.map(|text| &text[..text.floor_char_boundary(STRING_SIZE_MAX)]);
        if flexible {
            self.compact_length(text.map(str::len));
        } else {
            let raw = text.map_or(-1, |text| text.len() as i16);
            self.put(&raw.to_be_bytes());
        }
        self.put(text.unwrap_or_default().as_bytes());
    }

    /// Appends a tagged field whose value `write` puts into a writer of its own.
    pub fn tag(&mut self, tag: u32, write: impl FnOnce(&mut Self)) {
        let mut value = Self::new();
        write(&mut value);
        self.uvarint(tag);
        self.uvarint(u32::try_from(value.open.len()).expect("tagged fields are small"));
        self.put(&value.open);
    }

    /// Writes how many bytes follow into the first four, which must have been left for it.
    pub fn close_frame(&mut self) {
        let size = self.size() - 4;
        let size = i32::try_from(size).expect("answers are bounded by what is asked for");
        let first = self.first.as_mut().unwrap_or(&mut self.open);
        first[..4].copy_from_slice(&size.to_be_bytes());
    }

    fn size(&self) -> usize {
        let first = self.first.as_ref().map_or(0, BytesMut::len);
        first + self.done.iter().map(Blob::len).sum::<usize>() + self.open.len()
    }

    /// What was written, in order. No segment is empty.
    #[must_use]
    pub fn into_segments(self) -> Vec<Blob> {
        let Some(first) = self.first else {
            return if self.open.is_empty() { Vec::new() } else { vec![self.open.freeze().into()] };
        };
        let mut segments = Vec::with_capacity(self.done.len() + 2);
        segments.push(first.freeze().into());
        segments.extend(self.done);
        segments.push(self.open.freeze().into());
        segments.retain(|segment: &Blob| !segment.is_empty());
        segments
    }

    /// What was written, in one piece.
    ///
    /// # Panics
    /// If this writer makes segments.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        assert!(!self.splice, "segments are not put together again");
        self.open.freeze()
    }
}
