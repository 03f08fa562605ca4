//! The date that HTTP writes: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// The last second of 9999: the format has four digits for a year.
const SECONDS_MAX: u64 = 253_402_300_799;

/// The date of a moment in seconds since 1970-01-01 UTC; no later than the end of the year 9999.
#[must_use]
pub fn http_date(unix_seconds: u64) -> String {
    let seconds = unix_seconds.min(SECONDS_MAX);
    let (days, rest) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let weekday = DAYS[usize::try_from(days % 7).expect("less than seven")];
    // Years that begin in March, in eras of 400 years: the leap day is the last of its year.
    let since_march_0 = days + 719_468;
    let (era, day_of_era) = (since_march_0 / 146_097, since_march_0 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let month = MONTHS[usize::try_from(month).expect("less than twelve")];
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}
