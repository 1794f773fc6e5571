//! Dates in the three forms of S3: ISO 8601 with milliseconds in XML, HTTP dates in headers, and
//! `x-amz-date`.
//!
//! Written by hand because a listing formats a thousand of them. All times are UTC, counted from
//! 1970.

/// The last moment that four digits of a year can express, in milliseconds.
const MS_MAX: u64 = 253_402_300_799_999;
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const DAYS_LONG: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A moment taken apart.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// Takes a count of seconds apart; times after the year 9999 count as its last second.
fn civil(seconds: u64) -> Civil {
    let seconds = seconds.min(MS_MAX / 1000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years counted from March, eras
    // of 400 years.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    Civil {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        weekday: (days + 4) % 7,
        hour: of_day / 3_600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
    }
}

/// Puts a moment together; `None` when a field is out of its range or the year is before 1970.
fn seconds(year: u64, month: u64, day: u64, clock: [u64; 3]) -> Option<u64> {
    let [hour, minute, second] = clock;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second is written as 60; it counts as the first second of the next minute.
    let valid = (1970..=9999).contains(&year)
        && (1..=days_in_month).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let year_of_era = shifted_year % 400;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = shifted_year / 400 * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Appends a number of at most four digits with leading zeros.
fn digits(out: &mut String, value: u64, width: usize) {
    let digit = |divisor: u64| b'0' + u8::try_from(value / divisor % 10).unwrap_or(0);
    let text = [digit(1000), digit(100), digit(10), digit(1)];
    let text = text
        .get(4_usize.saturating_sub(width)..)
        .unwrap_or_default();
    out.push_str(std::str::from_utf8(text).unwrap_or_default());
}

/// Appends `2009-10-12T17:50:30.000Z`, the form of all dates in S3's XML.
pub fn write_iso8601(out: &mut String, unix_ms: u64) {
    let unix_ms = unix_ms.min(MS_MAX);
    let moment = civil(unix_ms / 1000);
    // Filled in place: a listing has a thousand of them.
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let fields = [
        (moment.year, 0..4),
        (moment.month, 5..7),
        (moment.day, 8..10),
        (moment.hour, 11..13),
        (moment.minute, 14..16),
        (moment.second, 17..19),
        (unix_ms % 1000, 20..23),
    ];
    for (mut value, place) in fields {
        for digit in text.get_mut(place).unwrap_or_default().iter_mut().rev() {
            *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    }
    out.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

/// `2009-10-12T17:50:30.000Z`.
pub fn iso8601(unix_ms: u64) -> String {
    let mut out = String::with_capacity(24);
    write_iso8601(&mut out, unix_ms);
    out
}

/// `Mon, 12 Oct 2009 17:50:00 GMT`, the form of all dates in HTTP headers (IMF-fixdate, RFC 9110,
/// section 5.6.7).
pub fn http_date(unix_s: u64) -> String {
    let moment = civil(unix_s);
    let name = |list: &'static [&'static str], index: u64| {
        usize::try_from(index)
            .ok()
            .and_then(|index| list.get(index))
            .copied()
            .unwrap_or("")
    };
    let mut out = String::with_capacity(29);
    out.push_str(name(&DAYS, moment.weekday));
    out.push_str(", ");
    digits(&mut out, moment.day, 2);
    out.push(' ');
    out.push_str(name(&MONTHS, moment.month.saturating_sub(1)));
    out.push(' ');
    digits(&mut out, moment.year, 4);
    for (value, before) in [
        (moment.hour, ' '),
        (moment.minute, ':'),
        (moment.second, ':'),
    ] {
        out.push(before);
        digits(&mut out, value, 2);
    }
    out.push_str(" GMT");
    out
}

/// `20130524T000000Z`, the form of `x-amz-date`. Its first eight characters are the date of the
/// credential scope.
pub fn amz_date(unix_s: u64) -> String {
    let moment = civil(unix_s);
    let mut out = String::with_capacity(16);
    digits(&mut out, moment.year, 4);
    digits(&mut out, moment.month, 2);
    digits(&mut out, moment.day, 2);
    out.push('T');
    digits(&mut out, moment.hour, 2);
    digits(&mut out, moment.minute, 2);
    digits(&mut out, moment.second, 2);
    out.push('Z');
    out
}

/// Reads `20130524T000000Z` strictly. `None` for anything else.
pub fn parse_amz_date(text: &str) -> Option<u64> {
    let mut cursor = Cursor(text);
    let (year, month, day) = (cursor.digits(4)?, cursor.digits(2)?, cursor.digits(2)?);
    cursor.literal("T")?;
    let clock = [cursor.digits(2)?, cursor.digits(2)?, cursor.digits(2)?];
    cursor.literal("Z")?;
    cursor.end()?;
    seconds(year, month, day, clock)
}

/// Reads `2009-10-12T17:50:30Z` with or without fractions of a second, which are dropped. UTC only.
pub fn parse_iso8601(text: &str) -> Option<u64> {
    let mut cursor = Cursor(text);
    let year = cursor.digits(4)?;
    cursor.literal("-")?;
    let month = cursor.digits(2)?;
    cursor.literal("-")?;
    let day = cursor.digits(2)?;
    cursor.literal("T")?;
    let clock = cursor.clock()?;
    if cursor.literal(".").is_some() {
        let rest = cursor.0.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == cursor.0.len() {
            return None;
        }
        cursor.0 = rest;
    }
    cursor.literal("Z")?;
    cursor.end()?;
    seconds(year, month, day, clock)
}

/// Reads an HTTP date in any of the three forms that RFC 9110 requires. The name of the day is not
/// compared with the date.
pub fn parse_http_date(text: &str) -> Option<u64> {
    imf_fixdate(text)
        .or_else(|| rfc850_date(text))
        .or_else(|| asctime_date(text))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(text: &str) -> Option<u64> {
    let mut cursor = Cursor(text);
    cursor.one_of(&DAYS)?;
    cursor.literal(", ")?;
    let day = cursor.digits(2)?;
    cursor.literal(" ")?;
    let month = cursor.one_of(&MONTHS)? + 1;
    cursor.literal(" ")?;
    let year = cursor.digits(4)?;
    cursor.literal(" ")?;
    let clock = cursor.clock()?;
    cursor.literal(" GMT")?;
    cursor.end()?;
    seconds(year, month, day, clock)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`. Years below 70 are of this century, because nothing here is
/// older than 1970.
fn rfc850_date(text: &str) -> Option<u64> {
    let mut cursor = Cursor(text);
    cursor.one_of(&DAYS_LONG)?;
    cursor.literal(", ")?;
    let day = cursor.digits(2)?;
    cursor.literal("-")?;
    let month = cursor.one_of(&MONTHS)? + 1;
    cursor.literal("-")?;
    let year = cursor.digits(2)?;
    let year = if year < 70 { 2000 + year } else { 1900 + year };
    cursor.literal(" ")?;
    let clock = cursor.clock()?;
    cursor.literal(" GMT")?;
    cursor.end()?;
    seconds(year, month, day, clock)
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime_date(text: &str) -> Option<u64> {
    let mut cursor = Cursor(text);
    cursor.one_of(&DAYS)?;
    cursor.literal(" ")?;
    let month = cursor.one_of(&MONTHS)? + 1;
    cursor.literal(" ")?;
    let day = if cursor.literal(" ").is_some() {
        cursor.digits(1)?
    } else {
        cursor.digits(2)?
    };
    cursor.literal(" ")?;
    let clock = cursor.clock()?;
    cursor.literal(" ")?;
    let year = cursor.digits(4)?;
    cursor.end()?;
    seconds(year, month, day, clock)
}

/// What is left to read of a date.
struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    fn digits(&mut self, count: usize) -> Option<u64> {
        let (head, rest) = self.0.split_at_checked(count)?;
        if !head.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.0 = rest;
        head.parse().ok()
    }

    fn literal(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn one_of(&mut self, names: &[&str]) -> Option<u64> {
        let index = names.iter().position(|name| self.0.starts_with(name))?;
        self.literal(names.get(index)?)?;
        u64::try_from(index).ok()
    }

    fn clock(&mut self) -> Option<[u64; 3]> {
        let hour = self.digits(2)?;
        self.literal(":")?;
        let minute = self.digits(2)?;
        self.literal(":")?;
        Some([hour, minute, self.digits(2)?])
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_standards_are_read_and_written() {
        assert_eq!(
            parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(
            parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(
            parse_http_date("Sun Nov  6 08:49:37 1994"),
            Some(784_111_777)
        );
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_amz_date("20130524T000000Z"), Some(1_369_353_600));
        assert_eq!(amz_date(1_369_353_600), "20130524T000000Z");
        assert_eq!(iso8601(1_255_369_830_007), "2009-10-12T17:50:30.007Z");
        assert_eq!(
            parse_iso8601("2009-10-12T17:50:30.007Z"),
            Some(1_255_369_830)
        );
        assert_eq!(parse_iso8601("2009-10-12T17:50:30Z"), Some(1_255_369_830));
    }

    #[test]
    fn impossible_dates_are_none() {
        for text in [
            "20130229T000000Z",
            "20131301T000000Z",
            "20130524T240000Z",
            "20130524T000000",
            "20130524T000000Z ",
            "19691231T235959Z",
            "2013-05-24T00:00:00Z",
            "",
            "20130524T0000é0Z",
        ] {
            assert_eq!(parse_amz_date(text), None, "{text}");
        }
        assert_eq!(parse_iso8601("2009-10-12T17:50:30.Z"), None);
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 CET"), None);
    }

    proptest! {
        #[test]
        fn dates_agree_with_the_time_crate(ms in 0..MS_MAX) {
            let moment = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap();
            let format = time::macros::format_description!(
                "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
            );
            prop_assert_eq!(iso8601(ms), moment.format(&format).unwrap());
            prop_assert_eq!(parse_iso8601(&iso8601(ms)), Some(ms / 1000));
            prop_assert_eq!(parse_http_date(&http_date(ms / 1000)), Some(ms / 1000));
            prop_assert_eq!(parse_amz_date(&amz_date(ms / 1000)), Some(ms / 1000));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in any::<String>()) {
            let _ = (parse_amz_date(&text), parse_http_date(&text), parse_iso8601(&text));
        }

        #[test]
        fn any_number_is_written_without_panic(ms in any::<u64>()) {
            prop_assert_eq!(iso8601(ms).len(), 24);
            prop_assert_eq!(http_date(ms).len(), 29);
        }
    }
}
