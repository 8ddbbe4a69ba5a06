//! Opening: the manifest, what it names, and what it does not name.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edgelogger_common::disk::{At, create_dir_all_durable};
use edgelogger_common::recognition::Recognizer;
use parking_lot::Mutex;

use super::aside::{check, problem};
use super::leaving::{Leaving, LeavingFiles};
use super::{EmbeddedStore, FILES_DIR, Flushing, InForce, Keeping, LOCK_NAME, Problems, Published, Writer};
use crate::aside::{Aside, AsideFile};
use crate::deletion::Journal;
use crate::entry::EntryTools;
use crate::error::StoreError;
use crate::flush::hex;
use crate::fold::{self, FoldIndex};
use crate::latest::Latest;
use crate::live_file::LiveFile;
use crate::manifest::{self, FileEntry, Found, Manifest};
use crate::options::StoreOptions;
use crate::query::Engine;
use crate::recent::Generation;
use crate::rows::RowTools;
use crate::schema::Table;
use crate::snapshot::Visible;

impl EmbeddedStore {
    /// Opens a store, or makes one: reads the manifest and removes files that it does not name. Where no manifest can be
    /// used the store stands still: nothing is applied, written or removed, and the status says why.
    ///
    /// # Errors
    /// The directory cannot be used, or is in use.
    pub fn open(options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let (disk, files_dir) = (&*options.disk, options.dir.join(FILES_DIR));
        create_dir_all_durable(disk, &files_dir)?;
        create_dir_all_durable(disk, &options.dir.join(fold::FOLDED_DIR))?;
        let lock_path = options.dir.join(LOCK_NAME);
        let lock = disk.lock(&lock_path).at("lock", &lock_path)?;
        let mut problems = Problems::default();
        let (found, stopped) = match manifest::read(disk, &options.dir) {
            Ok(found) => (found, None),
            Err(error @ (StoreError::Manifest { .. } | StoreError::ManifestVersion { .. })) => {
                let stopped = Arc::new(error);
                let said = StoreError::Stopped(Arc::clone(&stopped));
                problems.opening.push(said.to_string());
                (Found::default(), Some(stopped))
            }
            Err(error) => return Err(error),
        };
        if stopped.is_none() {
            put_orphans_away(&options, &files_dir, &found, &mut problems)?;
        }
        let Found {
            manifest,
            mut streams,
            previous_cursor,
            mut previous_files,
            ..
        } = found;
        let in_force: HashSet<&String> = manifest
            .files
            .iter()
            .map(|entry| &entry.name)
            .chain(manifest.aside.files.iter().map(|aside| &aside.entry.name))
            .chain(manifest.folded.names())
            .collect();
        previous_files.retain(|name| !in_force.contains(name));
        let index = FoldIndex::open(
            &*options.disk,
            &options.dir.join(fold::FOLDED_DIR),
            &manifest.folded,
            &mut problems.opening,
        );
        streams.folded(Arc::new(index));
        let cursor = starting_cursor(&options, &manifest, &mut problems);
        let log_gaps = Arc::new(manifest.log_gaps);
        let known_aside = manifest.aside.clone();
        let (live, aside) = find_files(&options, &files_dir, manifest.files, manifest.aside);
        // What is found out about files goes into the next manifest, which is then due.
        let changed_since = (aside != known_aside).then(|| options.clock.monotonic());
        let mut journal = Journal::open(disk, &options.dir, &mut problems.opening)?;
        let mut deletions = journal.take_progress(manifest.deletions);
        let names: Vec<&str> = live.iter().map(|file| file.entry.name.as_str()).collect();
        deletions.extend(journal.go_on_with(&names));
        let leaving = previous_files.iter().map(|name| {
            let dir = if name.ends_with(FOLD_SUFFIX) {
                options.dir.join(fold::FOLDED_DIR)
            } else {
                files_dir.clone()
            };
            Leaving::Path(dir.join(name))
        });
        let leaving = leaving.collect();
        let published = Published::default();
        published.cursor.store(cursor, Ordering::Release);
        published.streams.store(streams.len() as u64, Ordering::Relaxed);
        published
            .folded
            .store(manifest.folded.streams(), Ordering::Relaxed);
        let rows = RowTools {
            recognizer: Recognizer::new(options.recognizer),
            ..RowTools::default()
        };
        let tools = EntryTools {
            rows,
            limits: options.batch_limits,
            ..EntryTools::default()
        };
        Ok(Arc::new(Self {
            files_dir,
            writer: Mutex::new(Writer {
                cursor,
                streams: streams.clone(),
                log_gaps: Arc::clone(&log_gaps),
                tools,
                folded_at: None,
                changed_since,
                duplicates: 0,
            }),
            published,
            visible: Mutex::new(Visible {
                active: Generation::default(),
                frozen: None,
                files: Arc::new(live),
                aside: Arc::new(aside),
            }),
            flushing: Mutex::new(Flushing {
                next_file: manifest.next_file,
                frozen: None,
                in_force: InForce {
                    cursor,
                    streams,
                    log_gaps,
                    folded: manifest.folded,
                    deletions,
                },
                leaving: LeavingFiles::of_previous(leaving),
            }),
            deletions: Mutex::new(journal),
            maintaining: Mutex::default(),
            durable_cursor: AtomicU64::new(cursor),
            held_cursor: AtomicU64::new(previous_cursor.map_or(cursor, |previous| previous.min(cursor))),
            stopped,
            problems: Mutex::new(problems),
            engine: Engine::start(&options)?,
            arrivals: Arc::default(),
            latest: Arc::new(Latest::new(options.latest_series_max)),
            keeping: Mutex::new(Keeping {
                retention: options.retention,
                detail: options.detail,
            }),
            _lock: lock,
            options,
        }))
    }
}

const FOLD_SUFFIX: &str = ".fold";
/// What a file gets behind its name that the damaged manifest may have named.
const ORPHAN_SUFFIX: &str = "orphan";

/// Files that no manifest names: a crash came between them and their manifest. Their rows are in the log. Where a manifest
/// was damaged it may have named them: then they are kept under another name, should the log not have all of it any more.
fn put_orphans_away(
    options: &StoreOptions,
    files_dir: &Path,
    found: &Found,
    problems: &mut Problems,
) -> Result<(), StoreError> {
    let files = found.manifest.files.iter().map(|entry| &entry.name);
    // Who restores one of these must find it in its place.
    let aside = found.manifest.aside.files.iter().map(|aside| &aside.entry.name);
    let named: HashSet<&String> = files.chain(aside).chain(&found.previous_files).collect();
    let mut kept = 0;
    for name in options.disk.list_files(files_dir).at("list", files_dir)? {
        if named.contains(&name) || !is_ours(&name) {
            continue;
        }
        let path = files_dir.join(&name);
        if found.fallen_back.is_some() {
            let aside = files_dir.join(format!("{name}.{ORPHAN_SUFFIX}"));
            options.disk.rename(&path, &aside).at("rename", &path)?;
            kept += 1;
        } else {
            options.disk.remove_file(&path).at("remove", &path)?;
            tracing::info!(path = %path.display(), "removed a file of a flush that did not finish");
        }
    }
    remove_folded_orphans(options, found)?;
    if let Some(problem) = &found.fallen_back {
        problems.opening.push(format!(
            "{problem}. The manifest before it is in force, and the log is replayed from entry {}. The damaged one is kept \
             as manifest.damaged, and {kept} files that it may have named as files/*.{ORPHAN_SUFFIX}; remove them when \
             `edgelogger-collector ledger` shows no gap",
            found.manifest.cursor
        ));
    }
    // The number of a removed file may come again: its removal must not come after.
    Ok(options.disk.sync_dir(files_dir).at("sync directory", files_dir)?)
}

/// Files of folded streams that no manifest names. Where one was damaged its streams are in the manifest before it.
fn remove_folded_orphans(options: &StoreOptions, found: &Found) -> Result<(), StoreError> {
    let dir = options.dir.join(fold::FOLDED_DIR);
    let named: HashSet<&String> = found
        .manifest
        .folded
        .names()
        .chain(&found.previous_files)
        .collect();
    for name in options.disk.list_files(&dir).at("list", &dir)? {
        if !named.contains(&name) && name.ends_with(FOLD_SUFFIX) {
            let path = dir.join(&name);
            options.disk.remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(options.disk.sync_dir(&dir).at("sync directory", &dir)?)
}

fn is_ours(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "parquet")
        && Table::ALL
            .iter()
            .any(|table| name.starts_with(&format!("{}-", table.name())))
}

/// The manifest's cursor, unless it counts in another log.
fn starting_cursor(options: &StoreOptions, manifest: &Manifest, problems: &mut Problems) -> u64 {
    match (&manifest.log_id, options.log_id.map(hex)) {
        (Some(known), Some(found)) if *known != found => {
            problems.opening.push(format!(
                "the commit log is {found}, it was {known}: everything in it is looked at from its beginning, and \
                 what is stored already is not stored again"
            ));
            0
        }
        _ => manifest.cursor,
    }
}

/// The files that can be used, and those that can't: cut short or gone since, or aside before and not restored.
fn find_files(
    options: &StoreOptions,
    files_dir: &Path,
    entries: Vec<FileEntry>,
    mut aside: Aside,
) -> (Vec<Arc<LiveFile>>, Aside) {
    let file = |entry| Arc::new(LiveFile::new(entry, files_dir, Arc::clone(&options.disk)));
    let mut live = Vec::new();
    for known in std::mem::take(&mut aside.files) {
        let file = file(known.entry.clone());
        if options.disk.exists(file.path()).unwrap_or(false) && check(&file, &options.dir).is_none() {
            tracing::info!(path = %file.path().display(), "a file that was put aside is back");
            aside.is_accounted = false;
            live.push(file);
        } else {
            aside.files.push(known);
        }
    }
    for entry in entries {
        let file = file(entry);
        // Whether it is whole is found out by those who read it.
        let has_its_length = options.disk.file_len(file.path()).ok() == Some(file.entry.bytes);
        let reason = if has_its_length {
            None
        } else {
            check(&file, &options.dir)
        };
        let Some(reason) = reason else {
            live.push(file);
            continue;
        };
        let noted_ms = options.clock.wall_ns().div_euclid(1_000_000);
        let known = AsideFile {
            entry: file.entry.clone(),
            reason,
            noted_ms,
        };
        tracing::error!("{}", problem(&known));
        aside.add(known);
    }
    if aside.files.is_empty() {
        aside = Aside::default();
    }
    (live, aside)
}
