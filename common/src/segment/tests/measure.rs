//! Figures of this machine, for whoever changes the log:
//! `cargo test -p edgelogger-common --lib segment::tests::measure -- --ignored --nocapture`

use super::*;
use std::time::Instant;

fn timed(what: &str, bytes: u64, count: u64, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let seconds = start.elapsed().as_secs_f64();
    let (mib, each) = (bytes as f64 / 1_048_576.0 / seconds, seconds * 1e6 / count as f64);
    println!("{what:45} {mib:9.0} MiB/s {each:9.2} us each");
}

#[test]
#[ignore = "a measurement"]
fn speed_of_appending_syncing_reading_and_recovering() {
    // A directory of the disk that is measured; temporary directories may be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    for (frame_bytes, count) in [(200_usize, 500_000_u64), (20_000, 20_000), (400_000, 1_000)] {
        let path = dir.path().join(frame_bytes.to_string());
        let bytes = frame_bytes as u64 * count;
        let frame = vec![0x5a; frame_bytes];
        let (mut log, _) = SegmentLog::open(Arc::clone(&disk), &path, SegmentOptions::default()).unwrap();
        timed(
            &format!("append {frame_bytes} B, one sync at the end"),
            bytes,
            count,
            || {
                for _ in 0..count {
                    log.append(&[&frame]).unwrap();
                }
                log.sync().unwrap();
            },
        );
        let synced = 300;
        timed(
            &format!("append {frame_bytes} B, sync each"),
            frame_bytes as u64 * synced,
            synced,
            || {
                for _ in 0..synced {
                    log.append(&[&frame]).unwrap();
                    log.sync().unwrap();
                }
            },
        );
        timed(
            &format!("read {frame_bytes} B frames (cached)"),
            bytes,
            count,
            || {
                let mut reader = log.reader(1).unwrap();
                let mut seen = 0;
                while let Some(item) = reader.next().unwrap() {
                    seen += u64::from(matches!(item, ReadItem::Frame(_)));
                }
                assert_eq!(seen, count + synced);
            },
        );
        let held = log.bytes();
        drop(log);
        timed(
            &format!("open {} MiB of {frame_bytes} B frames", held >> 20),
            held,
            1,
            || {
                SegmentLog::open(Arc::clone(&disk), &path, SegmentOptions::default()).unwrap();
            },
        );
    }
}
