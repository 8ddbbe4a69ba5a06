//! Looking at a log changes nothing, and finds what is wrong with it.

use super::*;
use crate::segment::{Survey, Verification};

fn survey(disk: &FaultDisk) -> Option<Survey> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Survey::of(&disk, Path::new(DIR), &options()).unwrap()
}

fn verify(disk: &FaultDisk) -> Verification {
    let before = disk.changes();
    let wrong = payload(3);
    let found = survey(disk).unwrap().verify(|frame| {
        if frame.payload == wrong {
            return Err("it is the third".to_owned());
        }
        Ok(())
    });
    assert_eq!(disk.changes(), before);
    found.unwrap()
}

#[test]
fn where_there_is_no_log_there_is_nothing_to_see() {
    assert!(survey(&FaultDisk::new(1)).is_none());
}

#[test]
fn a_log_in_use_is_shown_with_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let survey = || Survey::of(&disk, dir.path(), &options()).unwrap().unwrap();
    let (mut log, _) = SegmentLog::open(Arc::clone(&disk), dir.path(), options()).unwrap();
    append(&mut log, 20);
    log.sync().unwrap();
    let found = survey();
    assert!(found.is_in_use && found.segments.len() > 2);
    assert_eq!(found.segments[0].first_sequence, 1);
    assert!(
        found
            .segments
            .windows(2)
            .all(|pair| pair[0].end_sequence == pair[1].first_sequence)
    );
    let (last, sealed) = found.segments.split_last().unwrap();
    assert_eq!(last.end_sequence, 21);
    assert!(!last.is_sealed && sealed.iter().all(|segment| segment.is_sealed));
    drop(log);
    assert!(!survey().is_in_use);
}

#[test]
fn what_a_frame_holds_is_checked_by_who_knows_it() {
    let found = verify(&filled(20, options()));
    assert_eq!(
        (found.frames, found.frames_damaged, found.entries_wrong),
        (20, 0, 1)
    );
    assert_eq!(found.wrong[0].sequence, 3);
    assert!(!found.is_good() && found.repairs.is_empty());
    assert!(found.to_string().contains("frame 3: it is the third"), "{found}");
}

#[test]
fn any_flipped_byte_of_any_file_is_found() {
    let clean = filled(20, options());
    for path in segment_files(&clean) {
        let len = clean.contents(&path).unwrap().len();
        for at in 0..len {
            let disk = filled(20, options());
            disk.corrupt(&path, |bytes| bytes[at] ^= 0x10);
            let found = verify(&disk);
            let is_header = at < crate::segment::SEGMENT_HEADER_BYTES;
            assert!(
                found.frames_damaged > 0 || !found.repairs.is_empty() || is_header,
                "byte {at} of {}: {found}",
                path.display()
            );
        }
    }
}

#[test]
fn a_torn_tail_is_shown_as_what_will_be_cut() {
    let disk = filled(20, options());
    disk.corrupt(&last_segment(&disk), |bytes| bytes.truncate(bytes.len() - 1));
    let found = verify(&disk);
    assert_eq!(found.frames, 19);
    assert!(
        found.repairs.iter().any(|step| step.starts_with("cut ")),
        "{found}"
    );
    open(&disk, options());
    assert!(verify(&disk).repairs.is_empty());
}
