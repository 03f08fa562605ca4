//! Numbers on the stack.
//!
//! - A number is bytes, the lowest first; the highest bit of the last byte is its sign. Nothing is zero, and so is a lone
//!   sign bit ("negative zero").
//! - Operands of arithmetic have at most four bytes; results may have five, and then serve as bytes only.
//! - Locktimes have at most five (BIP 65, BIP 112).
//! - `MINIMALDATA`: no last byte that carries nothing, unless its predecessor's highest bit is taken (BIP 62, rule 4).

use super::ScriptError;

/// Operands have no more bytes.
pub(super) const BYTES_MAX: usize = 4;
/// Locktimes have no more.
pub(super) const LOCKTIME_BYTES_MAX: usize = 5;

/// Reads a number of at most so many bytes (eight or fewer).
///
/// # Errors
/// `SCRIPTNUM` if it is longer, or longer than it must be where that counts.
pub(super) fn decode(bytes: &[u8], bytes_max: usize, minimal: bool) -> Result<i64, ScriptError> {
    if bytes.len() > bytes_max || (minimal && !is_minimal(bytes)) {
        return Err(ScriptError::ScriptNum);
    }
    let Some((last, rest)) = bytes.split_last() else { return Ok(0) };
    let magnitude = rest.iter().rev().fold(i64::from(last & 0x7f), |high, low| (high << 8) | i64::from(*low));
    Ok(if last & 0x80 == 0 { magnitude } else { -magnitude })
}

fn is_minimal(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [only] => only & 0x7f != 0,
        [.., before, last] => last & 0x7f != 0 || before & 0x80 != 0,
    }
}

/// Writes a number in as few bytes as it takes.
pub(super) fn encode(number: i64) -> Vec<u8> {
    let (mut bytes, mut magnitude) = (Vec::new(), number.unsigned_abs());
    while magnitude > 0 {
        bytes.push((magnitude & 0xff) as u8);
        magnitude >>= 8;
    }
    let sign = if number < 0 { 0x80 } else { 0 };
    match bytes.last_mut() {
        Some(last) if *last & 0x80 == 0 => *last |= sign,
        Some(_) => bytes.push(sign),
        None => {}
    }
    bytes
}

/// True unless these bytes are zero, or negative zero, of any length.
pub(super) fn is_true(bytes: &[u8]) -> bool {
    bytes.split_last().is_some_and(|(last, rest)| last & 0x7f != 0 || rest.iter().any(|byte| *byte != 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_their_bytes() {
        for (number, bytes) in [
            (0, &[][..]),
            (1, &[1]),
            (-1, &[0x81]),
            (127, &[0x7f]),
            (-127, &[0xff]),
            (128, &[0x80, 0]),
            (-128, &[0x80, 0x80]),
            (255, &[0xff, 0]),
            (0x7fff_ffff, &[0xff, 0xff, 0xff, 0x7f]),
            (-0x8000_0000, &[0, 0, 0, 0x80, 0x80]),
        ] {
            assert_eq!(encode(number), bytes, "{number}");
            assert_eq!(decode(bytes, 5, true), Ok(number), "{number}");
        }
    }

    #[test]
    fn what_is_long_is_refused() {
        assert_eq!(decode(&[0; 5], BYTES_MAX, false), Err(ScriptError::ScriptNum));
        assert_eq!(decode(&[0; 4], BYTES_MAX, false), Ok(0));
        for bytes in [&[0][..], &[0x80], &[1, 0], &[1, 0x80]] {
            assert_eq!(decode(bytes, BYTES_MAX, true), Err(ScriptError::ScriptNum), "{bytes:?}");
        }
    }

    #[test]
    fn negative_zero_is_false() {
        for bytes in [&[][..], &[0], &[0x80], &[0, 0, 0x80], &[0, 0]] {
            assert!(!is_true(bytes), "{bytes:?}");
        }
        for bytes in [&[1][..], &[0x81], &[0x80, 0], &[0, 1], &[0x80, 0x80]] {
            assert!(is_true(bytes), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back(number in -0xff_ffff_ffff_i64..=0xff_ffff_ffff) {
            prop_assert_eq!(decode(&encode(number), 6, true), Ok(number));
        }
    }
}
