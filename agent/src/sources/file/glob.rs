//! Which paths are meant. A glob is taken apart into components, so that only directories are listed in which
//! something can match.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::error::FileSourceError;

/// Globs of one list. More is a list of paths made by a program, and each costs a walk.
const GLOBS_MAX: usize = 1024;

/// One component of an include glob.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// Exactly this name.
    Literal(OsString),
    /// Names that match.
    Match(GlobMatcher),
    /// `**`: any number of directories.
    AnyDepth,
}

/// One include glob.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// The components before the first wildcard.
    pub base: PathBuf,
    /// The others, at least one.
    pub parts: Vec<Part>,
}

/// What is included and what is excluded.
#[derive(Debug, Clone)]
pub(super) struct Globs {
    pub patterns: Vec<Pattern>,
    included: GlobSet,
    excluded_paths: GlobSet,
    excluded_names: GlobSet,
}

impl Globs {
    /// # Errors
    /// A glob that does not parse, or no include.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, FileSourceError> {
        if include.is_empty() {
            return Err(FileSourceError::NothingIncluded);
        }
        if include.len().max(exclude.len()) > GLOBS_MAX {
            return Err(FileSourceError::Setting {
                setting: "include",
                found: format!("a list of {}", include.len().max(exclude.len())),
                allowed: format!("at most {GLOBS_MAX} globs"),
            });
        }
        let include: Vec<String> = include
            .iter()
            .map(|glob| absolute(glob))
            .collect::<Result<_, _>>()?;
        let (paths, names): (Vec<&String>, Vec<&String>) =
            exclude.iter().partition(|glob| glob.contains('/'));
        let paths: Vec<String> = paths
            .into_iter()
            .map(|glob| absolute(glob))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            patterns: include
                .iter()
                .map(|glob| pattern(glob))
                .collect::<Result<_, _>>()?,
            included: set(&include)?,
            excluded_paths: set(&paths)?,
            excluded_names: set(&names)?,
        })
    }

    /// Does an include match, and no exclude?
    pub fn includes(&self, path: &Path) -> bool {
        self.included.is_match(path) && !self.excludes(path)
    }

    /// Does an exclude match?
    pub fn excludes(&self, path: &Path) -> bool {
        self.excluded_paths.is_match(path)
            || path
                .file_name()
                .is_some_and(|name| self.excluded_names.is_match(Path::new(name)))
    }
}

/// Paths are compared as they are walked, from the root.
fn absolute(glob: &str) -> Result<String, FileSourceError> {
    let problem = |problem: &str| FileSourceError::Glob {
        glob: glob.to_owned(),
        problem: problem.to_owned(),
    };
    if glob.is_empty() {
        return Err(problem("it is empty"));
    }
    let path = std::path::absolute(glob).map_err(|error| problem(&error.to_string()))?;
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(problem("`..` is not understood; write the path without it"));
    }
    path.into_os_string()
        .into_string()
        .map_err(|_| problem("the working directory's name is not UTF-8"))
}

fn compile(glob: &str) -> Result<Glob, FileSourceError> {
    GlobBuilder::new(glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| FileSourceError::Glob {
            glob: glob.to_owned(),
            problem: error.kind().to_string(),
        })
}

fn set(globs: &[impl AsRef<str>]) -> Result<GlobSet, FileSourceError> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(compile(glob.as_ref())?);
    }
    builder.build().map_err(|error| FileSourceError::Glob {
        glob: error.glob().unwrap_or_default().to_owned(),
        problem: error.kind().to_string(),
    })
}

fn has_wildcard(name: &str) -> bool {
    name.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

fn pattern(glob: &str) -> Result<Pattern, FileSourceError> {
    let names: Vec<&str> = glob.split('/').filter(|name| !name.is_empty()).collect();
    let first = names
        .iter()
        .position(|name| has_wildcard(name))
        .unwrap_or(names.len().saturating_sub(1));
    let parts = names[first..]
        .iter()
        .map(|name| part(glob, name))
        .collect::<Result<Vec<_>, _>>()?;
    if parts.is_empty() {
        return Err(FileSourceError::Glob {
            glob: glob.to_owned(),
            problem: "it names no file".to_owned(),
        });
    }
    let base = std::iter::once("/")
        .chain(names[..first].iter().copied())
        .collect();
    Ok(Pattern { base, parts })
}

fn part(glob: &str, name: &str) -> Result<Part, FileSourceError> {
    if name == "**" {
        return Ok(Part::AnyDepth);
    }
    if !has_wildcard(name) {
        return Ok(Part::Literal(OsString::from(name)));
    }
    // A brace that opens in one component and closes in another was cut apart here and does not parse alone.
    compile(name)
        .map(|glob| Part::Match(glob.compile_matcher()))
        .map_err(|_| FileSourceError::Glob {
            glob: glob.to_owned(),
            problem: format!("{name:?} is not complete in itself; braces and brackets can't contain a `/`"),
        })
}

impl Part {
    /// Does one name match?
    pub fn matches(&self, name: &OsStr) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Match(glob) => glob.is_match(Path::new(name)),
            Self::AnyDepth => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(include: &str, exclude: &[&str], path: &str, expected: bool) {
        let exclude: Vec<String> = exclude.iter().map(|glob| (*glob).to_owned()).collect();
        let globs = Globs::new(&[include.to_owned()], &exclude).unwrap();
        assert_eq!(
            globs.includes(Path::new(path)),
            expected,
            "{include} {exclude:?} {path}"
        );
    }

    #[test]
    fn a_star_stays_within_a_name_and_two_cross_directories() {
        check("/var/log/*.log", &[], "/var/log/a.log", true);
        check("/var/log/*.log", &[], "/var/log/a/b.log", false);
        check("/var/log/**/*.log", &[], "/var/log/a.log", true);
        check("/var/log/**/*.log", &[], "/var/log/a/b/c.log", true);
        check("/var/log/{a,b}.log", &[], "/var/log/b.log", true);
        check("/var/log/app.log", &[], "/var/log/app.log.1", false);
    }

    #[test]
    fn an_exclude_without_a_slash_is_about_names() {
        check("/var/log/**", &["*.gz"], "/var/log/a/b.gz", false);
        check("/var/log/**", &["/var/log/a/**"], "/var/log/a/b", false);
        check("/var/log/**", &["/var/log/a/**"], "/var/log/b", true);
    }

    #[test]
    fn a_glob_is_taken_apart_at_its_first_wildcard() {
        let globs = Globs::new(&["/var/log/pods/*/app/**/*.log".to_owned()], &[]).unwrap();
        assert_eq!(globs.patterns[0].base, Path::new("/var/log/pods"));
        assert_eq!(globs.patterns[0].parts.len(), 4);
        let globs = Globs::new(&["/var/log/syslog".to_owned()], &[]).unwrap();
        assert_eq!(globs.patterns[0].base, Path::new("/var/log"));
        assert!(matches!(&globs.patterns[0].parts[..], [Part::Literal(name)] if name == "syslog"));
    }

    #[test]
    fn what_can_not_be_understood_is_refused_with_the_glob_named() {
        for glob in ["", "/", "/a/[", "/a/{b/c,d}", "/a/../b"] {
            let error = Globs::new(&[glob.to_owned()], &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("{glob:?}")), "{error}");
        }
        assert!(Globs::new(&[], &[]).is_err());
    }
}
