//! Walks the directories in which something can match, and says what it found there.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};

use super::glob::{Globs, Part};

/// Directories below each other that `**` goes down.
const DEPTH_MAX: usize = 64;
/// Directories of one walk. Each is watched, and the system's limit of watches is shared by all programs.
pub(super) const DIRECTORIES_MAX: usize = 65_536;

/// What a walk meets, in the order in which it meets it.
pub(super) trait Visitor {
    /// A directory in which something could appear. Called before it is listed, so that a watch set up here misses
    /// nothing.
    fn directory(&mut self, path: &Path);
    /// A directory that could not be listed.
    fn unreadable(&mut self, path: &Path, error: &io::Error);
}

/// Every path that is included, once each, sorted.
pub(super) fn walk(globs: &Globs, visitor: &mut dyn Visitor) -> Vec<PathBuf> {
    let mut walk = Walk {
        visitor,
        seen: BTreeSet::new(),
        found: Vec::new(),
    };
    for pattern in &globs.patterns {
        walk.enter(&pattern.base, &pattern.parts, DEPTH_MAX);
    }
    let mut found = walk.found;
    found.retain(|path| !globs.excludes(path));
    found.sort_unstable();
    found.dedup();
    found
}

struct Walk<'a> {
    visitor: &'a mut dyn Visitor,
    seen: BTreeSet<PathBuf>,
    found: Vec<PathBuf>,
}

impl Walk<'_> {
    fn enter(&mut self, dir: &Path, parts: &[Part], depth_left: usize) {
        if depth_left == 0 || self.seen.len() >= DIRECTORIES_MAX {
            return;
        }
        if !dir.is_dir() {
            self.wait_for(dir);
            return;
        }
        if self.seen.insert(dir.to_owned()) {
            self.visitor.directory(dir);
        }
        match parts {
            [] => {}
            [Part::Literal(name)] => {
                let path = dir.join(name);
                if path.symlink_metadata().is_ok() {
                    self.found.push(path);
                }
            }
            [Part::Literal(name), rest @ ..] => self.enter(&dir.join(name), rest, depth_left - 1),
            [Part::AnyDepth] => self.any_depth(dir, parts, None, depth_left),
            [Part::AnyDepth, rest @ ..] => self.any_depth(dir, parts, Some(rest), depth_left),
            [part] => self.list(dir, |walk, entry| {
                if part.matches(&entry.file_name()) {
                    walk.found.push(entry.path());
                }
            }),
            [part, rest @ ..] => self.list(dir, |walk, entry| {
                if part.matches(&entry.file_name()) && leads_to_directory(entry) {
                    walk.enter(&entry.path(), rest, depth_left - 1);
                }
            }),
        }
    }

    /// `**`: what follows it matches here, or in a directory below. Links to directories are not followed, as in a
    /// shell: they may lead back up.
    fn any_depth(&mut self, dir: &Path, parts: &[Part], rest: Option<&[Part]>, depth_left: usize) {
        match rest {
            Some(rest) => {
                self.enter(dir, rest, depth_left - 1);
                self.list(dir, |walk, entry| {
                    if is_directory(entry) {
                        walk.enter(&entry.path(), parts, depth_left - 1);
                    }
                });
            }
            None => self.list(dir, |walk, entry| {
                if is_directory(entry) {
                    walk.enter(&entry.path(), parts, depth_left - 1);
                } else {
                    walk.found.push(entry.path());
                }
            }),
        }
    }

    fn list(&mut self, dir: &Path, mut visit: impl FnMut(&mut Self, &DirEntry)) {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => return self.visitor.unreadable(dir, &error),
        };
        for entry in entries {
            match entry {
                Ok(entry) => visit(self, &entry),
                Err(error) => return self.visitor.unreadable(dir, &error),
            }
        }
    }

    /// A directory that is not there yet: the nearest one above it that is tells when it appears.
    fn wait_for(&mut self, dir: &Path) {
        if let Some(above) = dir.ancestors().skip(1).find(|above| above.is_dir())
            && self.seen.insert(above.to_owned())
        {
            self.visitor.directory(above);
        }
    }
}

fn is_directory(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn leads_to_directory(entry: &DirEntry) -> bool {
    entry
        .file_type()
        .is_ok_and(|kind| kind.is_dir() || kind.is_symlink() && entry.path().is_dir())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[derive(Default)]
    struct Dirs(Vec<PathBuf>);

    impl Visitor for Dirs {
        fn directory(&mut self, path: &Path) {
            self.0.push(path.to_owned());
        }
        fn unreadable(&mut self, path: &Path, error: &io::Error) {
            panic!("{}: {error}", path.display());
        }
    }

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in ["a.log", "b.txt", "one/a.log", "one/deep/a.log", "two/a.log"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    fn check(root: &Path, include: &str, files: &[&str], dirs: &[&str]) {
        let globs = Globs::new(&[format!("{}/{include}", root.display())], &[]).unwrap();
        let mut visited = Dirs::default();
        let found = walk(&globs, &mut visited);
        let expected: Vec<PathBuf> = files.iter().map(|file| root.join(file)).collect();
        assert_eq!(found, expected, "{include}");
        visited.0.sort();
        let expected: Vec<PathBuf> = dirs
            .iter()
            .map(|dir| {
                if dir.is_empty() {
                    root.to_owned()
                } else {
                    root.join(dir)
                }
            })
            .collect();
        assert_eq!(visited.0, expected, "{include}");
    }

    #[test]
    fn only_directories_in_which_something_can_match_are_visited() {
        let root = tree();
        let root = root.path();
        check(root, "*.log", &["a.log"], &[""]);
        check(root, "*/a.log", &["one/a.log", "two/a.log"], &["", "one", "two"]);
        check(root, "one/*.log", &["one/a.log"], &["one"]);
        check(
            root,
            "**/*.log",
            &["a.log", "one/a.log", "one/deep/a.log", "two/a.log"],
            &["", "one", "one/deep", "two"],
        );
        check(
            root,
            "one/**",
            &["one/a.log", "one/deep/a.log"],
            &["one", "one/deep"],
        );
        check(root, "b.txt", &["b.txt"], &[""]);
    }

    #[test]
    fn a_directory_that_is_missing_is_waited_for_above() {
        let root = tree();
        check(root.path(), "later/still/*.log", &[], &[""]);
    }

    #[test]
    fn links_to_directories_are_followed_by_names_but_not_by_any_depth() {
        let root = tree();
        let root = root.path();
        std::os::unix::fs::symlink(root, root.join("one/up")).unwrap();
        check(
            root,
            "one/*/b.txt",
            &["one/up/b.txt"],
            &["one", "one/deep", "one/up"],
        );
        check(root, "one/**/b.txt", &[], &["one", "one/deep"]);
    }
}
