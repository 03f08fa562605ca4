//! The codecs of record batches.
//!
//! - upon gzip: members one after the other, as Java writes and reads them.
//! - upon snappy: either one raw block, as librdkafka sends it, or the framing of Xerial's library, as Java sends it: eight
//!   bytes of magic, two versions, then blocks with their lengths in front. We write the latter; everyone reads it.
//! - upon lz4: LZ4 frames of independent blocks of 64 KiB, the only ones that Java reads.
//! - upon zstd: frames of any window up to the format's usual limit. The window lies in memory only as far as there is
//!   output to fill it, so the bound on the output bounds it too.
//!
//! Decompressing takes a bound and fails beyond it, before the memory is taken: a batch of a megabyte can hold gigabytes.

use std::io::{self, Read, Write as _};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use thiserror::Error;

/// A bound for whoever has no better one.
pub const DECOMPRESSED_SIZE_MAX: usize = 128 << 20;
const ZSTD_LEVEL: i32 = 3;
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER: usize = 16;
const XERIAL_BLOCK: usize = 32 << 10;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Raw or in Xerial's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// Bytes that cannot be decompressed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CompressionError {
    /// Not what the codec makes.
    #[error("the records cannot be decompressed as {0:?}")]
    Malformed(Codec),
    /// More output than is allowed.
    #[error("the records are more than {max} bytes once decompressed")]
    TooLarge {
        /// The bound.
        max: usize,
    },
}

impl Codec {
    /// Every codec, by its number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number in a batch's attributes.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number in a batch's attributes.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Kafka's name, as in the configuration `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Compresses.
    #[must_use]
    pub fn compress(self, plain: &[u8]) -> Vec<u8> {
        const MEMORY: &str = "writing into memory does not fail";
        match self {
            Self::None => plain.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain).expect(MEMORY);
                encoder.finish().expect(MEMORY)
            }
            Self::Snappy => compress_xerial(plain),
            Self::Lz4 => {
                let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(plain).expect(MEMORY);
                encoder.finish().expect(MEMORY)
            }
            Self::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).expect(MEMORY),
        }
    }

    /// Decompresses to at most `max` bytes.
    ///
    /// # Errors
    /// [`CompressionError`].
    pub fn decompress(self, packed: &Bytes, max: usize) -> Result<Bytes, CompressionError> {
        let malformed = CompressionError::Malformed(self);
        let plain = match self {
            Self::None if packed.len() > max => return Err(CompressionError::TooLarge { max }),
            Self::None => return Ok(packed.clone()),
            Self::Gzip => read_all(flate2::read::MultiGzDecoder::new(&packed[..]), max, malformed)?,
            Self::Snappy => decompress_snappy(packed, max)?,
            Self::Lz4 => read_all(FrameDecoder::new(&packed[..]), max, malformed)?,
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(&packed[..]).map_err(|_| malformed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| malformed)?;
                read_all(decoder, max, malformed)?
            }
        };
        Ok(plain.into())
    }
}

/// Reads to the end, but no further than one byte beyond `max`.
fn read_all(decoder: impl Read, max: usize, malformed: CompressionError) -> Result<Vec<u8>, CompressionError> {
    let mut plain = Vec::new();
    let read: io::Result<usize> = decoder.take((max as u64).saturating_add(1)).read_to_end(&mut plain);
    match read {
        Ok(size) if size > max => Err(CompressionError::TooLarge { max }),
        Ok(_) => Ok(plain),
        Err(_) => Err(malformed),
    }
}

fn compress_xerial(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(XERIAL_HEADER + plain.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    // The format's version, and the oldest one that can read it.
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK) {
        let packed = encoder.compress_vec(block).expect("blocks are far below snappy's limit");
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

fn decompress_snappy(packed: &[u8], max: usize) -> Result<Vec<u8>, CompressionError> {
    const MALFORMED: CompressionError = CompressionError::Malformed(Codec::Snappy);
    let mut plain = Vec::new();
    if !packed.starts_with(&XERIAL_MAGIC) {
        append_block(packed, &mut plain, max)?;
        return Ok(plain);
    }
    let mut rest = packed;
    while !rest.is_empty() {
        // Streams that were put behind each other begin with the magic again; no block is as long as its first bytes say.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER..).ok_or(MALFORMED)?;
            continue;
        }
        let (size, tail) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
        let (block, tail) = tail.split_at_checked(u32::from_be_bytes(*size) as usize).ok_or(MALFORMED)?;
        append_block(block, &mut plain, max)?;
        rest = tail;
    }
    Ok(plain)
}

/// Appends one raw block, whose first bytes say how long it will be.
fn append_block(block: &[u8], plain: &mut Vec<u8>, max: usize) -> Result<(), CompressionError> {
    const MALFORMED: CompressionError = CompressionError::Malformed(Codec::Snappy);
    /// Snappy turns three bytes into 64 at the best; whoever claims more lies, and gets no memory for it.
    const RATIO_MAX: usize = 32;
    let size = snap::raw::decompress_len(block).map_err(|_| MALFORMED)?;
    let from = plain.len();
    if size > max.saturating_sub(from) {
        return Err(CompressionError::TooLarge { max });
    }
    if size > block.len().saturating_mul(RATIO_MAX) {
        return Err(MALFORMED);
    }
    plain.resize(from + size, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut plain[from..]).map_err(|_| MALFORMED)?;
    if written == size { Ok(()) } else { Err(MALFORMED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_gives_back_what_it_took() {
        let long: Vec<u8> = (0..200_000u32).map(|n| (n / 7) as u8).collect();
        for codec in Codec::ALL {
            for plain in [&b""[..], b"a", b"hello hello hello", &long] {
                let packed = Bytes::from(codec.compress(plain));
                assert_eq!(codec.decompress(&packed, plain.len()).unwrap(), plain, "{codec:?}");
                if !plain.is_empty() {
                    let small = codec.decompress(&packed, plain.len() - 1);
                    assert_eq!(small, Err(CompressionError::TooLarge { max: plain.len() - 1 }), "{codec:?}");
                }
            }
        }
    }

    #[test]
    fn bombs_are_refused() {
        let zeros = vec![0; 32 << 20];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bomb = Bytes::from(codec.compress(&zeros));
            assert!(bomb.len() < 2 << 20, "{codec:?}");
            assert_eq!(codec.decompress(&bomb, 1 << 20), Err(CompressionError::TooLarge { max: 1 << 20 }), "{codec:?}");
        }
    }

    #[test]
    fn raw_and_joined_snappy_are_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"one block").unwrap();
        assert_eq!(Codec::Snappy.decompress(&raw.into(), 100).unwrap(), &b"one block"[..]);
        let mut joined = Codec::Snappy.compress(b"one ");
        joined.extend(Codec::Snappy.compress(b"two"));
        assert_eq!(Codec::Snappy.decompress(&joined.into(), 100).unwrap(), &b"one two"[..]);
    }

    #[test]
    fn a_snappy_block_that_claims_too_much_gets_no_memory() {
        // The length 2^27 - 1 in four bytes, and nothing behind it.
        let lie = Bytes::from_static(&[0xff, 0xff, 0xff, 0x3f]);
        assert_eq!(Codec::Snappy.decompress(&lie, usize::MAX), Err(CompressionError::Malformed(Codec::Snappy)));
    }

    #[test]
    fn garbage_and_cut_input_are_errors() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let garbage = Bytes::from_static(&[0xff; 40]);
            assert_eq!(codec.decompress(&garbage, 1 << 20), Err(CompressionError::Malformed(codec)));
            let mut cut = codec.compress(&[7; 5000]);
            cut.truncate(cut.len() / 2);
            assert_eq!(codec.decompress(&cut.into(), 1 << 20), Err(CompressionError::Malformed(codec)), "{codec:?}");
        }
    }

    #[test]
    fn numbers_and_names() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_number(codec.number()), Some(codec));
            assert_eq!(Codec::from_name(codec.name()), Some(codec));
        }
        assert_eq!(Codec::from_number(5), None);
    }
}
