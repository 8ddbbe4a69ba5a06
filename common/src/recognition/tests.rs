//! Realistic lines by table, and every part against a naive model; `jiff` is the oracle of the calendar.

use std::fmt::Write as _;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::calendar::{Civil, days_since_1970, year_of};
use super::{Recognized, Recognizer, RecognizerOptions, level};

/// 2024-03-01T12:00:00Z.
const OBSERVED: i64 = 1_709_294_400_000_000_000;

fn ns(rfc3339: &str) -> i64 {
    let timestamp: Timestamp = rfc3339.parse().unwrap();
    i64::try_from(timestamp.as_nanosecond()).unwrap()
}

fn recognize(line: &str) -> Recognized {
    Recognizer::default().recognize(line.as_bytes(), OBSERVED)
}

/// `time` is RFC 3339, or "" for none; `severity` 0 for none.
#[track_caller]
fn check(line: &str, time: &str, severity: u8) {
    let found = recognize(line);
    let shown = found
        .event_time
        .map(|ns| Timestamp::from_nanosecond(i128::from(ns)).unwrap().to_string());
    let expected = (!time.is_empty()).then(|| ns(time));
    assert_eq!(found.event_time, expected, "time of {line:?}: found {shown:?}");
    assert_eq!(found.severity.unwrap_or(0), severity, "severity of {line:?}");
}

#[test]
fn rfc_3339_and_its_relatives_are_read_at_the_start() {
    check("2024-01-02T03:04:05Z ERROR boom", "2024-01-02T03:04:05Z", 17);
    check(
        "2024-01-02T03:04:05.123456789Z INFO x",
        "2024-01-02T03:04:05.123456789Z",
        9,
    );
    check(
        "2024-01-02T03:04:05.1234567891234Z x",
        "2024-01-02T03:04:05.123456789Z",
        0,
    );
    check(
        "2024-01-02T03:04:05+02:00 host app: hi",
        "2024-01-02T01:04:05Z",
        0,
    );
    check("2024-01-02T03:04:05-0330 x", "2024-01-02T06:34:05Z", 0);
    check("2024-01-02T03:04:05+01 x", "2024-01-02T02:04:05Z", 0);
    check(
        "2024-01-02 03:04:05,678 WARN  [main] c.e.App - slow",
        "2024-01-02T03:04:05.678Z",
        13,
    );
    check(
        "2024-01-02 03:04:05.678 UTC [77] ERROR:  deadlock detected",
        "2024-01-02T03:04:05.678Z",
        17,
    );
    check(
        "2024-01-02 03:04:05 CET [77] LOG:  ready",
        "2024-01-02T03:04:05Z",
        0,
    );
    check("2024-01-02 03:04:05 +0100 ruby", "2024-01-02T02:04:05Z", 0);
    check(
        "[2024-01-02T03:04:05Z INFO  my_crate] started",
        "2024-01-02T03:04:05Z",
        9,
    );
    check(
        "[2024-01-02 03:04:05] local.CRITICAL: failed",
        "2024-01-02T03:04:05Z",
        0,
    );
    check("2024-01-02t03:04:05z debug lower case", "2024-01-02T03:04:05Z", 5);
    check("20240102T030405Z basic", "2024-01-02T03:04:05Z", 0);
    check(
        "  \t2024-01-02T03:04:05Z TRACE indented",
        "2024-01-02T03:04:05Z",
        1,
    );
}

#[test]
fn a_time_near_the_start_is_found() {
    check(
        "INFO 2024-01-02 03:04:05,678 started",
        "2024-01-02T03:04:05.678Z",
        9,
    );
    check("[WARN] [2024-01-02T03:04:05Z] odd", "2024-01-02T03:04:05Z", 13);
    check(
        "W, [2024-01-02T03:04:05.123456 #77]  WARN -- : odd",
        "2024-01-02T03:04:05.123456Z",
        13,
    );
    check("Start-Date: 2024-01-02  03:04:05", "2024-01-02T03:04:05Z", 0);
    check("Log started: 2024-01-02  03:04:05", "2024-01-02T03:04:05Z", 0);
    check(
        "update-alternatives 2024-01-02 03:04:05: run with --install",
        "2024-01-02T03:04:05Z",
        0,
    );
    let far = format!("{} 2024-01-02T03:04:05Z", "x".repeat(70));
    check(&far, "", 0);
}

#[test]
fn package_manager_and_web_server_logs_are_read() {
    check(
        "2024-01-02 03:04:05 status installed libc6:amd64 2.41-12",
        "2024-01-02T03:04:05Z",
        0,
    );
    check(
        "2024/01/02 03:04:05 [error] 77#77: *1 open() \"/x\" failed (2: No such file)",
        "2024-01-02T03:04:05Z",
        17,
    );
    check(
        "2024/01/02 03:04:05 [notice] 1#1: start worker",
        "2024-01-02T03:04:05Z",
        10,
    );
    check(
        "2009/11/10 23:00:00.123456 main.go:9: hello",
        "2009-11-10T23:00:00.123456Z",
        0,
    );
    check(
        "[Wed Oct 11 14:32:52.123456 2000] [core:error] [pid 35708] File does not exist",
        "2000-10-11T14:32:52.123456Z",
        17,
    );
    check("Wed Oct 11 14:32:52 2000 something", "2000-10-11T14:32:52Z", 0);
}

#[test]
fn access_logs_take_their_severity_from_the_status() {
    let line = |status: &str| {
        format!(
            r#"203.0.113.9 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=[c] HTTP/1.1" {status} 2326 "-" "Mozilla/5.0 (X11)""#
        )
    };
    check(&line("200"), "2000-10-10T20:55:36Z", 9);
    check(&line("304"), "2000-10-10T20:55:36Z", 9);
    check(&line("404"), "2000-10-10T20:55:36Z", 13);
    check(&line("503"), "2000-10-10T20:55:36Z", 17);
    check(&line("999"), "2000-10-10T20:55:36Z", 0);
    check(
        r#"www.example.org:443 2001:db8::1 - - [10/Oct/2000:13:55:36 +0000] "GET /\"quoted\" 503 HTTP/1.1" 200 5"#,
        "2000-10-10T13:55:36Z",
        9,
    );
    let long = format!(
        r#"1.2.3.4 - - [10/Oct/2000:13:55:36 +0000] "GET /{} HTTP/1.1" 500 1"#,
        "a".repeat(6000)
    );
    check(&long, "2000-10-10T13:55:36Z", 17);
    let too_long = format!(
        r#"1.2.3.4 - - [10/Oct/2000:13:55:36 +0000] "GET /{} HTTP/1.1" 500 1"#,
        "a".repeat(9000)
    );
    check(&too_long, "2000-10-10T13:55:36Z", 0);
}

#[test]
fn syslog_lines_are_read_with_and_without_priority() {
    check(
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
        "2023-10-11T22:14:15Z",
        18,
    );
    check(
        "<34>1 2003-10-11T22:14:15.003Z host su - ID47 - failed",
        "2003-10-11T22:14:15.003Z",
        18,
    );
    check("<165>1 - host app - - - no time", "", 10);
    check(
        "<191>2024-01-02T03:04:05.5+01:00 host app: relayed",
        "2024-01-02T02:04:05.5Z",
        5,
    );
    check("<13>no time at all", "", 10);
    check("<192>Oct 11 22:14:15 not a priority", "", 0);
    check(
        "Feb  9 22:14:15 host sshd[42]: error: PAM: failure",
        "2024-02-09T22:14:15Z",
        17,
    );
    check(
        "Feb 09 22:14:15.250 host CRON[42]: (root) CMD (run)",
        "2024-02-09T22:14:15.25Z",
        0,
    );
    check(
        "Feb  9 22:14:15 host kernel: [ 1.0] usb 1-1: no error here",
        "2024-02-09T22:14:15Z",
        0,
    );
    check(
        "Oct 11 2022 22:14:15 cisco %ASA-6-302013: Built",
        "2022-10-11T22:14:15Z",
        0,
    );
    check(
        "Feb  9 22:14:15 host containerd[9]: time=\"x\" level=warning msg=\"y\"",
        "2024-02-09T22:14:15Z",
        13,
    );
}

#[test]
fn a_time_without_a_year_is_the_latest_that_is_not_in_the_future() {
    #[track_caller]
    fn check_year(observed: &str, line: &str, time: &str) {
        let found = Recognizer::default().recognize(line.as_bytes(), ns(observed));
        assert_eq!(found.event_time, Some(ns(time)), "{line} observed {observed}");
    }
    check_year(
        "2024-01-01T00:00:10Z",
        "Dec 31 23:59:59 h a: b",
        "2023-12-31T23:59:59Z",
    );
    check_year(
        "2023-12-31T23:59:50Z",
        "Jan  1 00:00:05 h a: b",
        "2024-01-01T00:00:05Z",
    );
    check_year(
        "2024-06-01T00:00:00Z",
        "Jun  1 13:00:00 h a: b",
        "2024-06-01T13:00:00Z",
    );
    check_year(
        "2024-06-01T00:00:00Z",
        "Jun  3 00:00:00 h a: b",
        "2023-06-03T00:00:00Z",
    );
    check_year(
        "2023-06-01T00:00:00Z",
        "Feb 29 01:00:00 h a: b",
        "2020-02-29T01:00:00Z",
    );
    check_year(
        "1903-06-01T00:00:00Z",
        "Feb 29 01:00:00 h a: b",
        "1896-02-29T01:00:00Z",
    );
    check_year(
        "2024-01-01T00:00:10Z",
        "E1231 23:59:59.5 7 x.go:1] b",
        "2023-12-31T23:59:59.5Z",
    );
}

#[test]
fn glog_headers_are_read() {
    check(
        "I0102 03:04:05.678901    1234 server.go:56] ERROR is only text",
        "2024-01-02T03:04:05.678901Z",
        9,
    );
    check(
        "F0102 03:04:05.678901 1 x.cc:1] died",
        "2024-01-02T03:04:05.678901Z",
        21,
    );
    check("X0102 03:04:05.678901 1 x.cc:1] died", "", 0);
    check("I1302 03:04:05.678901 1 x.cc:1] no such month", "", 0);
}

#[test]
fn json_fields_are_read_wherever_they_stand() {
    check(
        r#"{"time":"2024-01-02T03:04:05Z","level":"info","msg":"x"}"#,
        "2024-01-02T03:04:05Z",
        9,
    );
    check(
        r#"{"level":30,"time":1704164645678,"pid":1}"#,
        "2024-01-02T03:04:05.678Z",
        9,
    );
    check(
        r#"{"ts":1704164645.678901,"lvl":"WARN"}"#,
        "2024-01-02T03:04:05.678901Z",
        13,
    );
    check(
        r#"{"t":1704164645678901,"severity":"ERROR"}"#,
        "2024-01-02T03:04:05.678901Z",
        17,
    );
    check(
        r#"{"timestamp":1704164645678901234,"severity":3}"#,
        "2024-01-02T03:04:05.678901234Z",
        17,
    );
    check(
        r#"{"@timestamp":"2024-01-02T03:04:05.678Z","log.level":"error"}"#,
        "2024-01-02T03:04:05.678Z",
        17,
    );
    check(
        r#"{"time":"1704164645","level":"50"}"#,
        "2024-01-02T03:04:05Z",
        17,
    );
    check(
        r#"{"time":"02/Jan/2024:03:04:05 +0000"}"#,
        "2024-01-02T03:04:05Z",
        0,
    );
    check(r#"{"time":"2024-01-02 03:04:05"}"#, "2024-01-02T03:04:05Z", 0);
    check(
        r#"{"a":{"time":"1999-01-01T00:00:00Z","b":[{"level":"fatal"},"}"]}, "msg" : "say \"level\":\"x\" \\" , "level" : "debug" , "time" : 1704164645 }"#,
        "2024-01-02T03:04:05Z",
        5,
    );
    check(
        r#"{"time":"later","ts":"2024-01-02T03:04:05Z"}"#,
        "2024-01-02T03:04:05Z",
        0,
    );
    check(r#"{"time":12.5,"level":"loud"}"#, "", 0);
    check(r#"{"level":"info","broken"#, "", 9);
    check(r#"{"level":null,"time":null}"#, "", 0);
    check("{}", "", 0);
    check("{", "", 0);
}

#[test]
fn json_behind_the_limit_is_not_read() {
    check(
        &format!(r#"{{"msg":"{}","level":"info"}}"#, "x".repeat(4000)),
        "",
        9,
    );
    check(
        &format!(r#"{{"msg":"{}","level":"info"}}"#, "x".repeat(5000)),
        "",
        0,
    );
    check(
        &format!(r#"{{"a":{}"level":"info"}}"#, "[".repeat(100_000)),
        "",
        0,
    );
    check(
        &format!(r#"{{{}"level":"info"}}"#, r#""k":1,"#.repeat(200)),
        "",
        0,
    );
}

#[test]
fn logfmt_pairs_are_read_in_any_order() {
    check(
        "ts=2024-01-02T03:04:05.5Z caller=main.go:9 level=info msg=ok",
        "2024-01-02T03:04:05.5Z",
        9,
    );
    check(
        "level=error ts=1704164645.5 msg=\"a \\\" level=info\"",
        "2024-01-02T03:04:05.5Z",
        17,
    );
    check(
        "time=\"2024-01-02T03:04:05+01:00\" level=warning msg=\"x y\"",
        "2024-01-02T02:04:05Z",
        13,
    );
    check("msg=\"unclosed level=info", "", 9);
    check("a=b c", "", 0);
}

#[test]
fn epoch_numbers_start_a_line_only_when_they_look_like_today() {
    check("1704164645 ERROR x", "2024-01-02T03:04:05Z", 17);
    check("1704164645.678 x", "2024-01-02T03:04:05.678Z", 0);
    check("1704164645678 x", "2024-01-02T03:04:05.678Z", 0);
    check("[1704164645] x", "2024-01-02T03:04:05Z", 0);
    check("1704164645678901 x", "2024-01-02T03:04:05.678901Z", 0);
    check("1704164645678901234 x", "2024-01-02T03:04:05.678901234Z", 0);
    check("170416464 nine digits", "", 0);
    check("1704164645abc", "", 0);
    check("17041646456789012345 too long", "", 0);
    check("[   12.345678] usb 1-1: new device", "", 0);
}

#[test]
fn level_words_count_where_a_logger_puts_them() {
    check("ERROR: cannot open", "", 17);
    check("error: cannot open", "", 17);
    check("app: error: cannot open", "", 17);
    check("there was no error: relax", "", 0);
    check("an error occurred", "", 0);
    check("see /var/log/ERROR and ERROR.log and WARN-1 and MY_ERROR", "", 0);
    check("thread 'main' PANIC at x", "", 21);
    check("[crit] disk", "", 18);
    check("<warn> disk", "", 13);
    check("(EE) (error) x", "", 17);
    check("10:15:00 | INFO | ready", "", 9);
    check("a=1 severity=\"notice\"", "", 10);
    check("2024-01-02T03:04:05Z [EMERG] x", "2024-01-02T03:04:05Z", 21);
    check("2024-01-02T03:04:05Z fatal x", "2024-01-02T03:04:05Z", 21);
    check(
        "2024-01-02T03:04:05Z the error is late",
        "2024-01-02T03:04:05Z",
        0,
    );
    check(&format!("{} ERROR", "x ".repeat(130)), "", 0);
}

#[test]
fn words_and_numbers_of_levels() {
    for (word, severity) in [
        ("TRACE", 1),
        ("debug", 5),
        ("Info", 9),
        ("INFORMATIONAL", 9),
        ("notice", 10),
        ("WARN", 13),
        ("Warning", 13),
        ("ERR", 17),
        ("error", 17),
        ("CRIT", 18),
        ("critical", 18),
        ("alert", 19),
        ("FATAL", 21),
        ("panic", 21),
        ("emerg", 21),
        ("Emergency", 21),
    ] {
        assert_eq!(level::of_value(word.as_bytes()), Some(severity), "{word}");
    }
    let numbers = ["0", "3", "6", "7", "10", "20", "30", "40", "50", "60"];
    let severities = [21, 17, 9, 5, 1, 5, 9, 13, 17, 21];
    for (number, severity) in numbers.into_iter().zip(severities) {
        assert_eq!(level::of_value(number.as_bytes()), Some(severity), "{number}");
    }
    for nothing in ["", "8", "70", "100", "in", "information!", "\u{1}nfo", "erro2"] {
        assert_eq!(level::of_value(nothing.as_bytes()), None, "{nothing}");
    }
}

#[test]
fn a_day_that_does_not_exist_is_no_time() {
    for date in [
        "2023-02-29",
        "2024-02-30",
        "2024-04-31",
        "2024-00-10",
        "2024-13-10",
        "2024-01-00",
        "1900-02-29",
    ] {
        check(&format!("{date}T00:00:00Z x"), "", 0);
    }
    check("2024-01-02T24:00:00Z x", "", 0);
    check("2024-01-02T23:60:00Z x", "", 0);
    check("2024-01-02T23:59:61Z x", "", 0);
    check("2000-02-29T00:00:00Z x", "2000-02-29T00:00:00Z", 0);
    check("1600-01-01T00:00:00Z x", "", 0);
    check("2262-04-12T00:00:00Z x", "", 0);
    check(
        "1677-09-21T00:12:43.145224193Z x",
        "1677-09-21T00:12:43.145224193Z",
        0,
    );
}

#[test]
fn a_leap_second_is_read_as_the_one_before() {
    check("2016-12-31T23:59:60Z x", "2016-12-31T23:59:59Z", 0);
    check("2016-12-31T23:59:60.5Z x", "2016-12-31T23:59:59.5Z", 0);
}

#[test]
fn a_time_without_a_zone_is_in_the_configured_one() {
    let recognizer = Recognizer::new(RecognizerOptions {
        default_offset_seconds: 2 * 3600,
    });
    let time = |line: &str| recognizer.recognize(line.as_bytes(), OBSERVED).event_time;
    assert_eq!(time("2024-01-02 03:04:05 x"), Some(ns("2024-01-02T01:04:05Z")));
    assert_eq!(time("2024-01-02 03:04:05Z x"), Some(ns("2024-01-02T03:04:05Z")));
    assert_eq!(time("Jan  2 03:04:05 h a: x"), Some(ns("2024-01-02T01:04:05Z")));
    assert_eq!(time("I0102 03:04:05 1 x] y"), Some(ns("2024-01-02T01:04:05Z")));
    assert_eq!(time("1704164645 x"), Some(ns("2024-01-02T03:04:05Z")));
}

#[test]
fn an_empty_line_and_bytes_that_are_no_text_say_nothing() {
    check("", "", 0);
    check("    ", "", 0);
    let binary = Recognizer::default().recognize(&[0xff, 0, b'2', b'0', 0xfe], OBSERVED);
    assert_eq!(binary, Recognized::default());
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    // All that 64 bits of ns hold, with a margin for offsets.
    (-9_223_200_000_i64..9_223_200_000, 0..1_000_000_000_i32)
        .prop_map(|(second, ns)| Timestamp::new(second, if second < 0 { -ns } else { ns }).unwrap())
}

fn any_offset() -> impl Strategy<Value = Offset> {
    (-1439..=1439_i32).prop_map(|minutes| Offset::from_seconds(minutes * 60).unwrap())
}

fn ns_of(timestamp: Timestamp) -> i64 {
    i64::try_from(timestamp.as_nanosecond()).unwrap()
}

fn civil_of(time: DateTime) -> Civil {
    Civil {
        year: i32::from(time.year()),
        month: u32::try_from(time.month()).unwrap(),
        day: u32::try_from(time.day()).unwrap(),
        hour: u32::try_from(time.hour()).unwrap(),
        minute: u32::try_from(time.minute()).unwrap(),
        second: u32::try_from(time.second()).unwrap(),
        nanosecond: u32::try_from(time.subsec_nanosecond()).unwrap(),
    }
}

fn written_offset(offset: Offset, separator: &str) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!(
        "{sign}{:02}{separator}{:02}",
        minutes.abs() / 60,
        minutes.abs() % 60
    )
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

fn month_name(time: DateTime) -> &'static str {
    MONTHS[usize::try_from(time.month()).unwrap() - 1]
}

proptest! {
    #[test]
    fn the_calendar_agrees_with_jiff(timestamp in any_time(), offset in any_offset()) {
        let civil = civil_of(offset.to_datetime(timestamp));
        prop_assert_eq!(civil.to_ns(offset.seconds()), Some(ns_of(timestamp)));
        prop_assert_eq!(year_of(timestamp.as_second()), i32::from(Offset::UTC.to_datetime(timestamp).year()));
    }

    #[test]
    fn a_date_is_accepted_exactly_when_jiff_accepts_it(
        year in 1680..2260_i16, month in 0..15_i8, day in 0..35_i8, hour in 0..26_i8, minute in 0..62_i8, second in 0..60_i8,
    ) {
        let line = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z x");
        let oracle = DateTime::new(year, month, day, hour, minute, second, 0)
            .ok()
            .map(|time| ns_of(time.to_zoned(TimeZone::UTC).unwrap().timestamp()));
        prop_assert_eq!(recognize(&line).event_time, oracle);
        if let Ok(date) = jiff::civil::Date::new(year, month, day) {
            let days = date.since(jiff::civil::date(1970, 1, 1)).unwrap().get_days();
            let (month, day) = (u32::try_from(month).unwrap(), u32::try_from(day).unwrap());
            prop_assert_eq!(days_since_1970(i32::from(year), month, day), i64::from(days));
        }
    }

    #[test]
    fn every_way_to_write_rfc_3339_reads_back(
        timestamp in any_time(), offset in any_offset(), separator in "[T t]", point in "[.,]", colon in "(:|)",
        fraction_digits in 0..=9_usize, space in "( |)",
    ) {
        let time = offset.to_datetime(timestamp);
        let fraction = format!("{:09}", time.subsec_nanosecond());
        let fraction = &fraction[..fraction_digits];
        let mut line = format!(
            "{:04}-{:02}-{:02}{separator}{:02}:{:02}:{:02}",
            time.year(), time.month(), time.day(), time.hour(), time.minute(), time.second(),
        );
        if !fraction.is_empty() {
            write!(line, "{point}{fraction}").unwrap();
        }
        let shown: i32 = format!("{fraction:0<9}").parse().unwrap();
        let expected = offset
            .to_timestamp(time.with().subsec_nanosecond(shown).build().unwrap())
            .ok()
            .map(ns_of);
        write!(line, "{space}{} message", written_offset(offset, &colon)).unwrap();
        prop_assert_eq!(recognize(&line).event_time, expected, "{}", line);
        prop_assert_eq!(recognize(&format!("[{line}")).event_time, expected);
        prop_assert_eq!(recognize(&format!(r#"{{"a":1,"time":"{}"}}"#, line.trim_end_matches(" message"))).event_time, expected);
    }

    #[test]
    fn access_log_times_agree_with_jiff(second in -9_223_200_000_i64..9_223_200_000, offset in any_offset()) {
        let timestamp = Timestamp::from_second(second).unwrap();
        let time = offset.to_datetime(timestamp);
        let line = format!(
            r#"10.0.0.1 - - [{:02}/{}/{:04}:{:02}:{:02}:{:02} {}] "GET / HTTP/1.1" 200 1"#,
            time.day(), month_name(time), time.year(), time.hour(), time.minute(), time.second(), written_offset(offset, ""),
        );
        prop_assert_eq!(recognize(&line), Recognized { event_time: Some(ns_of(timestamp)), severity: Some(9) });
    }

    #[test]
    fn times_without_a_year_agree_with_a_search_by_jiff(
        observed in -2_000_000_000..8_000_000_000_i64, month in 1..=12_i8, day in 1..=31_i8, second_of_day in 0..86_400_i32,
        offset in any_offset(), style in 0..3_u8,
    ) {
        let clock = jiff::civil::Time::midnight() + i64::from(second_of_day).seconds();
        let latest = observed + super::FUTURE_SECONDS_MAX;
        let year = offset.to_datetime(Timestamp::from_second(latest).unwrap()).year();
        let expected = (year - 8..=year).rev().find_map(|year| {
            let time = jiff::civil::Date::new(year, month, day).ok()?.to_datetime(clock);
            let timestamp = offset.to_timestamp(time).ok()?;
            (timestamp.as_second() <= latest).then(|| ns_of(timestamp))
        });
        let name = MONTHS[usize::try_from(month).unwrap() - 1];
        let line = match style {
            0 => format!("{name} {day:2} {} host app: x", clock.strftime("%H:%M:%S")),
            1 => format!("{name} {day:02} {} host app: x", clock.strftime("%H:%M:%S")),
            _ => format!("I{month:02}{day:02} {} 7 x.go:1] x", clock.strftime("%H:%M:%S")),
        };
        let recognizer = Recognizer::new(RecognizerOptions { default_offset_seconds: offset.seconds() });
        prop_assert_eq!(recognizer.recognize(line.as_bytes(), observed * 1_000_000_000).event_time, expected, "{}", line);
    }

    #[test]
    fn epoch_numbers_mean_the_same_in_every_unit(ns in 1_000_000_000_000_000_000..9_223_200_000_000_000_000_i64, digits in 0..=3_u32) {
        let unit = 10_i64.pow(9 - 3 * digits);
        let expected = Some(ns / unit * unit);
        prop_assert_eq!(recognize(&format!("{} x", ns / unit)).event_time, expected);
        prop_assert_eq!(recognize(&format!(r#"{{"ts":{}}}"#, ns / unit)).event_time, expected);
        prop_assert_eq!(recognize(&format!("ts={} a=b", ns / unit)).event_time, expected);
        let with_fraction = format!("{}.{:09} x", ns / 1_000_000_000, ns % 1_000_000_000);
        prop_assert_eq!(recognize(&with_fraction).event_time, Some(ns));
    }

    #[test]
    fn json_fields_agree_with_a_parser_that_builds_the_tree(
        fields in proptest::collection::vec(("(time|level|msg|log|a)", any_json()), 0..8),
    ) {
        // serde_json's map keeps the last of two equal keys, we the first that can be read: keys once each.
        let mut object = serde_json::Map::new();
        for (key, value) in fields {
            object.insert(key, value);
        }
        object.insert("ts".into(), "2024-01-02T03:04:05Z".into());
        object.insert("lvl".into(), "warn".into());
        let severity = object.get("level").and_then(naive_severity);
        let time = object.get("time").and_then(|value| match value {
            serde_json::Value::Number(number) => number.as_u64().filter(|&n| (100_000_000..9_000_000_000).contains(&n))
                .map(|n| i64::try_from(n).unwrap() * 1_000_000_000),
            _ => None,
        });
        let found = recognize(&serde_json::Value::Object(object).to_string());
        prop_assert_eq!(found.severity, severity.or(Some(13)));
        prop_assert_eq!(found.event_time, time.or(Some(ns("2024-01-02T03:04:05Z"))));
    }

    #[test]
    fn level_words_agree_with_a_naive_search(
        words in proptest::collection::vec("(INFO|WARN|error|host|x1|DEBUGGER|FATAL|[a-z]{1,80})", 0..60),
        rare in 0..12_usize,
    ) {
        // Words that count come late in most lines, so that every chunk is searched.
        let words: Vec<_> = words.into_iter().enumerate()
            .filter(|(index, word)| index % (rare + 1) == rare || word.chars().all(char::is_lowercase))
            .map(|(_, word)| word)
            .collect();
        let line = words.join(" ");
        let prefix = &line[..line.len().min(super::PREFIX_BYTES_MAX)];
        let expected = prefix.split(' ').find_map(|word| match word {
            "INFO" => Some(9),
            "WARN" => Some(13),
            "FATAL" => Some(21),
            "DEBUG" => Some(5),
            _ => None,
        });
        prop_assert_eq!(recognize(&line).severity, expected);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), observed in any::<i64>()) {
        let _ = Recognizer::default().recognize(&bytes, observed);
    }

    #[test]
    fn pieces_of_formats_in_any_order_never_panic(
        pieces in proptest::collection::vec(
            r#"(2024-01-02|T| |03:04:05|[.,]123|Z|\+01:00|\{|\}|"|time|level|:|=|\[|\]|<34>1 |Oct 11 |10/Oct/2000:|I0102|error|\\|1704164645|[0-9]{1,20})"#,
            0..30,
        ),
        observed in any::<i64>(),
        offset in any::<i32>(),
    ) {
        let recognizer = Recognizer::new(RecognizerOptions { default_offset_seconds: offset });
        let line = pieces.concat();
        for len in 0..=line.len() {
            let _ = recognizer.recognize(&line.as_bytes()[..len], observed);
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u32>().prop_map(Into::into),
        (0..80_u32).prop_map(Into::into),
        r#"[a-z"\\{}:,\[\]é]{0,8}"#.prop_map(Into::into),
        "(info|ERROR|Debug)".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::vec(("(time|level|x)", inner), 0..4)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn naive_severity(value: &serde_json::Value) -> Option<u8> {
    match value {
        serde_json::Value::String(word) => match word.as_str() {
            "info" => Some(9),
            "ERROR" => Some(17),
            "Debug" => Some(5),
            _ => None,
        },
        serde_json::Value::Number(number) => match number.as_u64()? {
            level @ 0..=7 => Some([21, 19, 18, 17, 13, 10, 9, 5][usize::try_from(level).unwrap()]),
            level @ 10..=69 => Some([1, 5, 9, 13, 17, 21][usize::try_from(level).unwrap() / 10 - 1]),
            _ => None,
        },
        _ => None,
    }
}
