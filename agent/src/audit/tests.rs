use serde_json::json;

use super::*;

const TEXT: &[u8] = b"one\ntwo\nthree\nfour\nfive\n";

/// 0..8 and 14..19 checked, 8..14 lost, the rest not told of.
fn ledger() -> Ledger {
    let crc = |range: std::ops::Range<usize>| crc32c::crc32c(&TEXT[range]);
    Ledger::parse(
        &json!({"count": 2, "streams": [
            {"machine": "m", "source": "host", "stream_id": "00", "generation": 1, "kind": "host_metrics",
             "unit": "records", "start": 0, "size": 9, "gaps": []},
            {"machine": "m", "source": "/var/log/a.log", "stream_id": "01", "generation": 1, "kind": "file",
             "unit": "bytes", "start": 0, "size": 19,
             "gaps": [{"start": 8, "end": 14, "state": "lost", "reason": "rotated"}],
             "checks": [{"start": 0, "end": 8, "crc32c": crc(0..8)}, {"start": 14, "end": 19, "crc32c": crc(14..19)}]},
        ]})
        .to_string(),
    )
    .unwrap()
}

fn audited_by(content: &[u8], ledger: &Ledger) -> FileAudit {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    audit(file.path(), ledger).unwrap()
}

fn audited(content: &[u8]) -> (Vec<(u64, u64, Verdict)>, bool) {
    let audit = audited_by(content, &ledger());
    let parts = audit.parts.into_iter();
    (
        parts.map(|part| (part.start, part.end, part.verdict)).collect(),
        audit.explained,
    )
}

#[test]
fn a_file_that_is_as_it_was_read_is_explained() {
    let lost = || Verdict::Told("lost".into());
    assert_eq!(
        audited(TEXT),
        (
            vec![
                (0, 8, Verdict::Same),
                (8, 14, lost()),
                (14, 19, Verdict::Same),
                (19, 24, Verdict::Unread)
            ],
            true
        )
    );
    assert_eq!(audited(b""), (vec![], true));
}

#[test]
fn one_other_byte_is_found_and_so_is_a_file_that_is_too_short() {
    let mut other = TEXT.to_vec();
    other[15] ^= 1;
    let (parts, explained) = audited(&other);
    assert_eq!(parts[2], (14, 19, Verdict::Differs));
    assert!(!explained);
    let (parts, explained) = audited(&TEXT[..10]);
    assert_eq!(parts.last(), Some(&(14, 19, Verdict::Missing)));
    assert!(!explained);
}

#[test]
fn what_nobody_collected_is_in_no_stream() {
    let (parts, explained) = audited(b"something else\n");
    assert_eq!(parts, [(0, 15, Verdict::Told("in no stream".into()))]);
    assert!(!explained);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_copy_is_compared_by_its_content() {
    let members = [gzip(&TEXT[..5]), gzip(&TEXT[5..])].concat();
    for packed in [members, zstd::encode_all(TEXT, 1).unwrap()] {
        assert_eq!(audited(&packed), audited(TEXT));
        let audit = audited_by(&packed, &ledger());
        assert!(audit.compressed.is_some() && audit.size == TEXT.len() as u64);
    }
    let mut other = TEXT.to_vec();
    other[15] ^= 1;
    assert_eq!(audited(&gzip(&other)), audited(&other));
}

#[test]
fn of_a_damaged_copy_the_beginning_is_compared_and_the_rest_is_missing() {
    let first = gzip(&TEXT[..8]);
    let mut packed = [first.clone(), gzip(&TEXT[8..])].concat();
    packed.truncate(first.len() + 11);
    let audit = audited_by(&packed, &ledger());
    let damage = audit.damage.clone().unwrap();
    assert_eq!(
        (damage.file_offset, damage.problem.as_str()),
        (packed.len() as u64, "it ends in the middle")
    );
    assert!(!audit.explained);
    assert_eq!(audit.parts[0].verdict, Verdict::Same);
    let last = audit.parts.last().unwrap();
    assert_eq!((last.end, &last.verdict), (19, &Verdict::Missing));
    assert!(last.reason.as_ref().unwrap().contains("damaged"));
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(audit(dir.path(), &ledger()), Err(AuditError::NoFile(_))));
    let gone = dir.path().join("gone");
    assert!(matches!(
        audit(&gone, &ledger()),
        Err(AuditError::Unreadable { .. })
    ));
}

/// The streams of `sources`, each with the whole text, folded; those with gaps have lost 8..14.
fn folded(sources: &[(&str, bool)]) -> Ledger {
    let crc = |range: std::ops::Range<usize>| crc32c::crc32c(&TEXT[range]);
    let summaries: Vec<_> = sources
        .iter()
        .map(|(source, has_gap)| {
            let (checks, gaps) = if *has_gap {
                (
                    json!([{"start": 0, "end": 8, "crc32c": crc(0..8)}, {"start": 14, "end": 24, "crc32c": crc(14..24)}]),
                    json!([{"state": "lost", "reason": "rotated", "positions": 6}]),
                )
            } else {
                (json!([{"start": 0, "end": 24, "crc32c": crc(0..24)}]), json!([]))
            };
            let content = json!({"stream_id": "05", "size": 24, "exact": true, "checks": checks});
            json!({"day": "2026-11-14", "machine": "m", "source": source, "gaps": gaps, "contents": [content]})
        })
        .collect();
    let count = summaries.len();
    let all = json!({"count": 0, "streams": [], "summaries": summaries, "summaries_count": count});
    Ledger::parse(&all.to_string()).unwrap()
}

#[test]
fn a_file_whose_stream_was_folded_long_ago_is_still_compared() {
    for content in [TEXT.to_vec(), gzip(TEXT)] {
        let audit = audited_by(&content, &folded(&[("/var/log/a.log", false)]));
        assert!(audit.explained, "{audit:?}");
        assert_eq!(audit.stream.unwrap().day.as_deref(), Some("2026-11-14"));
        assert_eq!((audit.parts.len(), &audit.parts[0].verdict), (1, &Verdict::Same));
        let audit = audited_by(&content, &folded(&[("/var/log/a.log", true)]));
        let parts: Vec<_> = audit.parts.iter().map(|part| (part.start, part.end)).collect();
        assert_eq!(parts, [(0, 8), (8, 14), (14, 24)]);
        assert!(audit.explained && matches!(&audit.parts[1].verdict, Verdict::Told(_)));
    }
}

#[test]
fn a_changed_byte_of_a_folded_stream_is_found_where_its_name_tells_which_it_was() {
    let mut other = TEXT.to_vec();
    other[15] ^= 1;
    let audit = audited_by(&other, &folded(&[("/var/log/a.log", false)]));
    assert!(
        audit.stream.is_none() && !audit.explained,
        "any stream may be as long"
    );

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log-20261114.gz");
    std::fs::write(&path, gzip(&other)).unwrap();
    let source = dir.path().canonicalize().unwrap().join("a.log");
    let audit = super::audit(&path, &folded(&[(source.to_str().unwrap(), false)])).unwrap();
    assert_eq!(
        (audit.parts.len(), &audit.parts[0].verdict),
        (1, &Verdict::Differs)
    );
    assert!(!audit.explained);
}

#[test]
fn a_ledger_that_is_not_whole_is_refused() {
    let part = json!({"count": 0, "streams": [], "summaries": [], "summaries_count": 3}).to_string();
    assert!(matches!(
        Ledger::parse(&part),
        Err(LedgerError::Incomplete { count: 3, got: 0 })
    ));
}
