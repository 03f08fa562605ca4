//! The eight characters behind a descriptor's `#` (BIP 380).

/// Characters that a descriptor may have, in groups of 32: an error within a group is one wrong symbol.
const INPUT: &[u8] =
    b"0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ";
const OUTPUT: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u64; 5] = [0xf5_dee5_1989, 0xa9_fdca_3312, 0x1b_ab10_e32d, 0x37_06b1_677a, 0x64_4d62_6ffd];

fn fold(state: u64, symbol: u64) -> u64 {
    let top = state >> 35;
    let mut next = ((state & 0x7_ffff_ffff) << 5) ^ symbol;
    for (bit, value) in GENERATOR.iter().enumerate() {
        if (top >> bit) & 1 != 0 {
            next ^= value;
        }
    }
    next
}

/// The checksum; none if there is a character that no descriptor has.
pub(crate) fn checksum(text: &str) -> Option<String> {
    let (mut state, mut group, mut count) = (1_u64, 0_u64, 0);
    for byte in text.bytes() {
        let place = u64::try_from(INPUT.iter().position(|own| *own == byte)?).ok()?;
        state = fold(state, place & 31);
        group = group * 3 + (place >> 5);
        count += 1;
        if count == 3 {
            state = fold(state, group);
            (group, count) = (0, 0);
        }
    }
    if count > 0 {
        state = fold(state, group);
    }
    for _ in 0..8 {
        state = fold(state, 0);
    }
    state ^= 1;
    let symbol = |index: usize| char::from(OUTPUT[usize::try_from((state >> (5 * (7 - index))) & 31).unwrap_or(0)]);
    Some((0..8).map(symbol).collect())
}

/// With its checksum.
pub(crate) fn with_checksum(text: String) -> String {
    let sum = checksum(&text).unwrap_or_default();
    format!("{text}#{sum}")
}

/// The descriptor without its checksum, which must be right if it is there.
pub(super) fn strip(text: &str, required: bool) -> Result<&str, String> {
    let mut parts = text.split('#');
    let (payload, sum) = (parts.next().unwrap_or(""), parts.next());
    if parts.next().is_some() {
        return Err("Multiple '#' symbols".into());
    }
    match sum {
        None if required => return Err("Missing checksum".into()),
        Some(sum) if sum.len() != 8 => {
            return Err(format!("Expected 8 character checksum, not {} characters", sum.len()));
        }
        _ => {}
    }
    let computed = checksum(payload).ok_or("Invalid characters in payload")?;
    match sum {
        Some(sum) if sum != computed => {
            Err(format!("Provided checksum '{sum}' does not match computed checksum '{computed}'"))
        }
        _ => Ok(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bips_own_examples_hold() {
        assert_eq!(checksum("raw(deadbeef)").as_deref(), Some("89f8spxm"));
        assert_eq!(strip("raw(deadbeef)#89f8spxm", true), Ok("raw(deadbeef)"));
        for wrong in [
            "raw(deadbeef)",
            "raw(deadbeef)#",
            "raw(deadbeef)#89f8spxmx",
            "raw(deadbeef)#89f8spx",
            "raw(deedbeef)#89f8spxm",
            "raw(deadbeef)##9f8spxm",
            "raw(Ü)#00000000",
        ] {
            assert!(strip(wrong, true).is_err(), "{wrong}");
        }
    }
}
