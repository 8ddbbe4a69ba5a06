//! The proleptic Gregorian calendar, as far as times of logs need it.

use super::{Context, FUTURE_SECONDS_MAX};

pub(super) const NANOSECONDS: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// The gap between two leap years is at most eight years (1896 to 1904), so that many are looked at for a 29 February.
const YEARS_BACK_MAX: i32 = 8;

/// A calendar date and time of day, not yet checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub year: i32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    /// 0-60; 60 is read as 59.
    pub second: u32,
    pub nanosecond: u32,
}

impl Civil {
    /// ns since 1970 of this time at an offset from UTC, or `None` where there is no such day or time, or where
    /// it does not fit (before 1678, after 2261).
    pub fn to_ns(self, offset_seconds: i32) -> Option<i64> {
        let seconds = self.to_seconds()? - i64::from(offset_seconds);
        let nanosecond = i64::from(self.nanosecond);
        // Below 1970 the product alone may not fit where the sum does.
        if seconds < 0 {
            return ((seconds + 1).checked_mul(NANOSECONDS)?).checked_add(nanosecond - NANOSECONDS);
        }
        seconds.checked_mul(NANOSECONDS)?.checked_add(nanosecond)
    }

    /// Seconds since 1970 as if this were UTC.
    fn to_seconds(self) -> Option<i64> {
        let day_exists = (1..=12).contains(&self.month)
            && self.day >= 1
            && (self.day <= 28 || self.day <= days_in_month(self.year, self.month));
        if !day_exists || self.hour > 23 || self.minute > 59 || self.second > 60 {
            return None;
        }
        let of_day = self.hour * 3600 + self.minute * 60 + self.second.min(59);
        Some(days_since_1970(self.year, self.month, self.day) * DAY_SECONDS + i64::from(of_day))
    }

    /// ns of this time in the latest year in which it is not too far after the observation. `year` is ignored.
    pub fn to_ns_without_year(self, context: Context) -> Option<i64> {
        let offset = i64::from(context.default_offset_seconds);
        let latest = context.observed_ns.div_euclid(NANOSECONDS) + FUTURE_SECONDS_MAX;
        let latest_year = year_of(latest.saturating_add(offset));
        (latest_year - YEARS_BACK_MAX..=latest_year)
            .rev()
            .filter_map(|year| Civil { year, ..self }.to_ns(context.default_offset_seconds))
            .find(|ns| ns.div_euclid(NANOSECONDS) <= latest)
    }
}

/// Days between 1970-01-01 and a date that exists. After Howard Hinnant's `days_from_civil`: years start in March, so
/// that the leap day is the last of its year.
pub(super) fn days_since_1970(year: i32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The year that holds a moment, given in seconds since 1970. Howard Hinnant's `civil_from_days`, of which
/// only the year is needed.
pub(super) fn year_of(seconds: i64) -> i32 {
    let days = seconds.div_euclid(DAY_SECONDS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Day 306 of a year that starts in March is 1 January.
    let year = era * 400 + year_of_era + i64::from(day_of_year >= 306);
    i32::try_from(year).unwrap_or(1970)
}

fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The number of a month, 1-12, by its English abbreviation.
pub(super) fn month_number(name: [u8; 3]) -> Option<u32> {
    let number = match &name {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    };
    Some(number)
}
