use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn set(ranges: &[Range<u64>]) -> RangeSet {
    let mut set = RangeSet::new();
    for range in ranges {
        set.insert(range.clone()).unwrap();
    }
    set
}

/// The naive model, cut into ranges.
fn ranges_of(positions: impl IntoIterator<Item = u64>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for position in positions {
        match ranges.last_mut() {
            Some(last) if last.end == position => last.end += 1,
            _ => ranges.push(position..position + 1),
        }
    }
    ranges
}

fn any_range() -> impl Strategy<Value = Range<u64>> {
    (0_u64..120, 0_u64..25).prop_map(|(start, len)| start..start + len)
}

proptest! {
    #[test]
    fn it_behaves_as_a_set_of_single_positions(
        inserts in prop::collection::vec((any_range(), prop::option::weighted(0.1, 0_u64..120)), 0..40),
        asked in any_range(),
    ) {
        let mut set = RangeSet::new();
        let mut model = BTreeSet::new();
        for (range, removed_below) in inserts {
            let new = ranges_of(range.clone().filter(|position| !model.contains(position)));
            let inserted = set.insert(range.clone()).unwrap();
            prop_assert_eq!(inserted.iter().collect::<Vec<_>>(), new.clone());
            prop_assert_eq!(inserted.is_all_known(), new.is_empty());
            prop_assert_eq!(inserted.is_all_new(), range.clone().all(|position| !model.contains(&position)));
            model.extend(range);
            if let Some(position) = removed_below {
                set.remove_below(position);
                model = model.split_off(&position);
            }
        }
        prop_assert_eq!(set.iter().collect::<Vec<_>>(), ranges_of(model.iter().copied()));
        prop_assert_eq!(set.len(), ranges_of(model.iter().copied()).len());
        prop_assert_eq!(set.is_empty(), model.is_empty());
        prop_assert_eq!(set.position_count(), model.len() as u64);
        prop_assert_eq!(set.end(), model.last().map(|last| last + 1));
        prop_assert_eq!(set.covers(asked.clone()), asked.clone().all(|position| model.contains(&position)));
        prop_assert_eq!(set.contains(asked.start), model.contains(&asked.start));
        let missing = ranges_of(asked.clone().filter(|position| !model.contains(position)));
        prop_assert_eq!(set.missing_in(asked.clone()).collect::<Vec<_>>(), missing);
        let end = (asked.start..).find(|position| !model.contains(position));
        prop_assert_eq!(Some(set.contiguous_from(asked.start)), end);
    }

    #[test]
    fn what_is_encoded_decodes_and_every_truncation_is_an_error(
        inserts in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20),
    ) {
        let mut set = RangeSet::new();
        for (one, other) in inserts {
            set.insert(one.min(other)..one.max(other).min(one.min(other).saturating_add(1 << 50))).unwrap();
        }
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        prop_assert_eq!(&RangeSet::decode(&bytes).unwrap(), &set);
        for len in 0..bytes.len() {
            prop_assert!(RangeSet::decode(&bytes[..len]).is_err());
        }
        let json = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(&serde_json::from_str::<RangeSet>(&json).unwrap(), &set);
    }

    #[test]
    fn bytes_that_decode_are_the_one_encoding_of_what_they_decode_to(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(set) = RangeSet::decode(&bytes) {
            let mut again = Vec::new();
            set.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn a_range_that_grows_at_its_end_stays_one_and_allocates_once() {
    let mut set = RangeSet::new();
    for position in 0..10_000 {
        assert!(set.insert(position..position + 1).unwrap().is_all_new());
    }
    assert_eq!(set.iter().collect::<Vec<_>>(), std::slice::from_ref(&(0..10_000)));
    assert!(set.ranges.capacity() <= 4);
}

#[test]
fn the_1025th_range_is_refused_and_changes_nothing_but_closing_a_gap_always_works() {
    let mut set = set(&(0..1024)
        .map(|index| index * 10..index * 10 + 5)
        .collect::<Vec<_>>());
    let before = set.clone();
    assert_eq!(set.insert(20_000..20_001), Err(TooManyRanges));
    assert_eq!(set.insert(6..7), Err(TooManyRanges));
    assert_eq!(set, before);
    assert!(set.insert(20_000..20_000).unwrap().is_all_known());
    set.insert(5..10).unwrap();
    assert_eq!(set.len(), 1023);
    set.insert(20_000..20_001).unwrap();
    assert_eq!(set.insert(0..30_000).unwrap().iter().count(), 1024);
    assert_eq!(set.len(), 1);
}

#[test]
fn the_edges_of_the_position_space_work() {
    let mut set = set(&[0..1, u64::MAX - 1..u64::MAX]);
    assert!(set.contains(0) && set.contains(u64::MAX - 1) && !set.contains(u64::MAX));
    assert_eq!(
        set.missing_in(0..u64::MAX).collect::<Vec<_>>(),
        std::slice::from_ref(&(1..u64::MAX - 1))
    );
    let mut bytes = Vec::new();
    set.encode(&mut bytes);
    assert_eq!(RangeSet::decode(&bytes).unwrap(), set);
    set.insert(0..u64::MAX).unwrap();
    assert_eq!(set.contiguous_from(0), u64::MAX);
    set.remove_below(u64::MAX);
    assert!(set.is_empty());
}

#[test]
fn the_encoding_is_the_documented_one() {
    let check = |ranges: &[Range<u64>], expected: &[u8]| {
        let mut bytes = Vec::new();
        set(ranges).encode(&mut bytes);
        assert_eq!(bytes, expected);
    };
    check(&[], &[0]);
    check(std::slice::from_ref(&(0..1)), &[1, 0, 0]);
    check(std::slice::from_ref(&(5..305)), &[1, 5, 0xab, 2]);
    check(&[0..10, 11..12, 20..30], &[3, 0, 9, 0, 0, 7, 9]);
}

#[test]
fn malformed_bytes_say_what_is_wrong() {
    let check = |bytes: &[u8], error| assert_eq!(RangeSet::decode(bytes), Err(error));
    check(&[], RangeSetDecodeError::CutShort);
    check(&[1, 0], RangeSetDecodeError::CutShort);
    check(&[0, 0], RangeSetDecodeError::TrailingBytes { bytes: 1 });
    check(&[0x81, 0x08], RangeSetDecodeError::TooManyRanges { count: 1025 });
    check(&[0x80, 0x00], RangeSetDecodeError::BadNumber);
    check(&[0xff; 11], RangeSetDecodeError::BadNumber);
    check(
        &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0],
        RangeSetDecodeError::BadNumber,
    );
    assert!(
        serde_json::from_str::<RangeSet>("[[5, 3]]")
            .unwrap_err()
            .to_string()
            .contains("ends before")
    );
    assert_eq!(
        serde_json::from_str::<RangeSet>("[[5, 7], [0, 5]]").unwrap(),
        set(std::slice::from_ref(&(0..7)))
    );
}
