//! Moments as CometBFT writes them: seconds and nanoseconds, RFC 3339 in JSON.

use serde::{Serialize, Serializer};

use super::proto::{ProtoError, Reader, Writer};

const NANOS: i128 = 1_000_000_000;
const DAY: i64 = 86_400;

/// A moment, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Since 1970-01-01.
    pub seconds: i64,
    /// Within the second.
    pub nanos: u32,
}

impl Time {
    /// Go's zero value, the year 1, which stands where there is no moment.
    pub const ZERO: Time = Time { seconds: -62_135_596_800, nanos: 0 };

    /// So many nanoseconds since 1970-01-01.
    #[must_use]
    pub fn from_unix_nanos(nanos: u64) -> Self {
        let seconds = i64::try_from(nanos / 1_000_000_000).expect("2^64 nanoseconds are 584 years");
        Self { seconds, nanos: u32::try_from(nanos % 1_000_000_000).expect("less than a second") }
    }

    /// Nanoseconds since 1970-01-01.
    #[must_use]
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.seconds) * NANOS + i128::from(self.nanos)
    }

    /// One millisecond later.
    #[must_use]
    pub fn plus_milli(self) -> Self {
        let nanos = self.nanos + 1_000_000;
        Self { seconds: self.seconds + i64::from(nanos / 1_000_000_000), nanos: nanos % 1_000_000_000 }
    }

    /// `google.protobuf.Timestamp`.
    pub fn write(self, out: &mut Writer) {
        out.int(1, self.seconds).uint(2, self.nanos.into());
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn read(reader: Reader) -> Result<Self, ProtoError> {
        let mut time = Self { seconds: 0, nanos: 0 };
        reader.fields(|field| {
            match field.number {
                1 => time.seconds = field.int()?,
                2 => time.nanos = field.small()?,
                _ => {}
            }
            Ok(())
        })?;
        let years = -62_135_596_800..253_402_300_800;
        if time.nanos >= 1_000_000_000 || !years.contains(&time.seconds) {
            return Err(ProtoError("no moment of the years 1 to 9999"));
        }
        Ok(time)
    }

    /// Reads RFC 3339, with any offset.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once('T')?;
        let seconds = days(date)?.checked_mul(DAY)?;
        let at = rest.find(['Z', '+', '-'])?;
        let (clock, zone) = rest.split_at(at);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let parts: Vec<i64> = clock.split(':').map(two).collect::<Option<_>>()?;
        let [hour, minute, second] = parts[..] else { return None };
        if hour > 23 || minute > 59 || second > 59 || fraction.is_empty() {
            return None;
        }
        if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let nanos = format!("{fraction:0<9}").parse().ok()?;
        let offset = if zone == "Z" {
            0
        } else {
            let (sign, zone) = zone.split_at(1);
            let (hours, minutes) = zone.split_once(':')?;
            let offset = two(hours)? * 3_600 + two(minutes)? * 60;
            if sign == "-" { -offset } else { offset }
        };
        Some(Self { seconds: seconds + hour * 3_600 + minute * 60 + second - offset, nanos })
    }

    /// Midnight of a day such as 2026-01-31.
    #[must_use]
    pub fn parse_date(text: &str) -> Option<Self> {
        Some(Self { seconds: days(text)?.checked_mul(DAY)?, nanos: 0 })
    }

    /// The year that it is in.
    #[must_use]
    pub fn year(self) -> i64 {
        civil(self.seconds.div_euclid(DAY)).0
    }
}

fn two(text: &str) -> Option<i64> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01 of a day in the calendar.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, two(parts.next()?)?, two(parts.next()?)?);
    if parts.next().is_some() || year.len() != 4 || !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year: i64 = year.parse().ok()?;
    let at = from_civil(year, month, day);
    // A day that is not in the calendar comes back as another one.
    ((1..=12).contains(&month) && civil(at) == (year, month, day)).then_some(at)
}

/// Days since 1970-01-01; the calendar repeats every 400 years, which begin in March.
fn from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The reverse.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil(self.seconds.div_euclid(DAY));
        let second = self.seconds.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos > 0 {
            let fraction = format!("{:09}", self.nanos);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
