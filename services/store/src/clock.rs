//! Points in time as the databases and the protocol have them: to the microsecond.

use time::OffsetDateTime;

/// The time now, cut to what both databases keep.
#[must_use]
pub fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}

/// Microseconds since 1970.
#[must_use]
pub fn to_micros(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MAX)
}

/// The time so many microseconds after 1970; the years -9999 to 9999 can be had, others come out as 1970.
#[must_use]
pub fn from_micros(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// As the protocol's messages have it.
#[must_use]
pub fn timestamp(time: OffsetDateTime) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.nanosecond()).unwrap_or_default();
    prost_types::Timestamp { seconds: time.unix_timestamp(), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_way_into_a_database_and_back() {
        let time = now();
        assert_eq!(from_micros(to_micros(time)), time);
        assert_eq!(time.nanosecond() % 1_000, 0);
        let early = from_micros(-1);
        assert_eq!((to_micros(early), timestamp(early).seconds, timestamp(early).nanos), (-1, -1, 999_999_000));
    }
}
