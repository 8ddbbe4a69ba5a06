//! The scorecard's rows with about a tenth of their quick counts; `scripts/soak` does the rest.

use edgelogger_tests::soak::ROWS;
use edgelogger_tests::soak::runner::{Amount, Runner};

/// `EDGELOGGER_SEED=N` repeats a failing run.
fn survives(number: u32) {
    let row = *ROWS
        .iter()
        .find(|row| row.number == number)
        .expect("a row of the scorecard");
    let seed = std::env::var("EDGELOGGER_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    println!("EDGELOGGER_SEED={seed}");
    let mut runner = Runner {
        seed,
        amount: Amount::Test,
        say: &mut |text| println!("{text}"),
    };
    let result = runner.run(&[row]).remove(0);
    if let Some(why) = &result.skipped {
        eprintln!("skipped: {why}");
        return;
    }
    assert!(result.has_passed(), "row {number}: {}", row.fault);
}

macro_rules! rows {
    ($($name:ident: $number:literal,)*) => {
        $(#[test]
        fn $name() {
            survives($number);
        })*

        #[test]
        fn every_row_with_a_count_has_its_test_here() {
            let here = [$($number),*];
            for row in ROWS {
                assert_eq!(here.contains(&row.number), row.test > 0, "row {}", row.number);
            }
        }
    };
}

rows! {
    an_agent_that_is_killed_loses_and_repeats_nothing: 1,
    a_collector_that_is_killed_loses_and_repeats_nothing: 2,
    both_killed_lose_and_repeat_nothing: 4,
    a_power_cut_takes_nothing_that_was_acknowledged: 5,
    a_torn_write_takes_only_what_it_touched: 6,
    a_flipped_bit_takes_only_what_it_touched: 7,
    a_full_disk_loses_and_repeats_nothing: 8,
    a_disk_that_turns_read_only_loses_and_repeats_nothing: 9,
    a_sync_that_fails_loses_and_repeats_nothing: 10,
    a_slow_disk_loses_and_repeats_nothing: 11,
    a_clock_that_jumps_loses_and_repeats_nothing: 12,
    files_that_are_renamed_lose_and_repeat_nothing: 13,
    files_that_are_copied_and_truncated_lose_and_repeat_nothing: 14,
    files_that_are_deleted_and_made_again_lose_and_repeat_nothing: 15,
    links_that_are_switched_lose_and_repeat_nothing: 16,
    files_that_are_compressed_lose_and_repeat_nothing: 17,
    files_that_begin_alike_are_told_apart: 18,
    a_partition_loses_and_repeats_nothing: 19,
    a_stopped_peer_loses_and_repeats_nothing: 20,
    a_slow_link_loses_and_repeats_nothing: 21,
    a_reset_at_any_byte_loses_and_repeats_nothing: 22,
    odd_bytes_are_stored_as_they_are_and_shown_harmlessly: 35,
    a_program_that_runs_out_of_something_loses_and_repeats_nothing: 37,
}
