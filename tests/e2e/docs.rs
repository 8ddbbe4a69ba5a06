//! The pages are true: what they name exists.

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Words between backticks that look like a path of this repository.
fn paths(text: &str) -> Vec<&str> {
    const ROOTS: [&str; 11] = [
        "proto/",
        "common/",
        "agent/",
        "collector/",
        "tests/",
        "bench/",
        "scripts/",
        "config/",
        "docs/",
        "deployment/",
        "simulator/",
    ];
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| ROOTS.iter().any(|root| word.starts_with(root)))
        .collect()
}

#[test]
fn every_path_on_the_architecture_page_exists() {
    let text = page("docs/ARCHITECTURE.md");
    let paths = paths(&text);
    assert!(paths.len() > 10, "the page has a map: {paths:?}");
    for path in paths {
        assert!(
            root().join(path).exists(),
            "docs/ARCHITECTURE.md names {path}, which is not there"
        );
    }
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let pages = [
        "README.md",
        "docs/ARCHITECTURE.md",
        "docs/tutorial.md",
        "docs/formats.md",
        "docs/protocol.md",
        "docs/decisions/README.md",
    ];
    for name in pages {
        let text = page(name);
        let folder = root().join(name);
        let folder = folder.parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(
                folder.join(target).exists(),
                "{name} links to {link}, which is not there"
            );
        }
    }
}

#[test]
fn every_library_has_its_line_of_reason() {
    let manifest = page("Cargo.toml");
    let reasons = page("docs/decisions/libraries.md");
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let names = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim());
    for name in names.filter(|name| !name.starts_with("edgelogger-") && !name.starts_with('#')) {
        assert!(
            reasons.contains(name),
            "docs/decisions/libraries.md has no line for {name}"
        );
    }
}
