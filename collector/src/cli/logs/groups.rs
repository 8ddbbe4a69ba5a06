//! `-A`, `-B`, `-C`: matches with the lines around them, as grep shows them. What belongs together on a page the collector
//! says (`group`); here pages are joined: no line comes twice, and `--` stands only where something was left out.

use serde_json::Value;

use super::shown::{Address, Shown, address_of};

/// Records of one answer.
const PAGE_RECORDS: usize = 20_000;
/// Matches of one answer.
const PAGE_MATCHES: usize = 1_000;

/// Lines around each match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Around {
    pub before: u64,
    pub after: u64,
}

impl Around {
    /// Matches to ask for at once.
    pub(super) fn page_matches(self) -> usize {
        let each = usize::try_from(self.before + self.after + 1).unwrap_or(usize::MAX);
        (PAGE_RECORDS / each).clamp(1, PAGE_MATCHES)
    }
}

/// What was printed so far.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    shown: Shown,
    last: Option<Last>,
    /// The group of the page that is being printed, and how many were printed with a gap before them.
    group: Option<u64>,
    number: u64,
    /// Something may have been left out before what comes.
    is_apart: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Last {
    address: Address,
    /// Where the record behind it begins, if nothing lies between.
    next: Option<Address>,
}

/// What to do with a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It was printed.
    Skip,
    /// It follows what was printed last.
    Print,
    /// It does not.
    PrintApart,
}

impl Joiner {
    /// A page, or a group of one, begins: numbers of groups mean others now.
    pub(super) fn begin(&mut self) {
        self.group = None;
    }

    pub(super) fn step(&mut self, row: &Value) -> Step {
        let group = row["group"].as_u64();
        if self.group.is_none() || self.group != group {
            self.group = group;
            self.is_apart = self.last.is_some();
        }
        let address = address_of(row);
        if let Some(address) = address
            && !self.shown.insert(address)
        {
            // What comes behind it in this group follows it.
            if self.last.as_ref().is_some_and(|last| last.address == address) {
                self.is_apart = false;
            }
            return Step::Skip;
        }
        let follows = self
            .last
            .as_ref()
            .is_some_and(|last| last.next.is_some() && last.next == address);
        let is_apart = std::mem::take(&mut self.is_apart) && !follows;
        self.number += u64::from(is_apart);
        self.last = address.map(|address| Last {
            address,
            next: next_of(address, row),
        });
        if is_apart { Step::PrintApart } else { Step::Print }
    }

    /// The number of the group that was printed last.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

fn next_of((stream, position): Address, row: &Value) -> Option<Address> {
    Some((stream, position.checked_add(row["source_len"].as_i64()?)?))
}

/// The groups of a page, in its order.
pub(super) fn groups(rows: Vec<Value>) -> Vec<Vec<Value>> {
    let mut groups: Vec<Vec<Value>> = Vec::new();
    for row in rows {
        match groups
            .last_mut()
            .filter(|group| group[0]["group"] == row["group"])
        {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(stream: u64, position: i64, group: u64) -> Value {
        json!({ "stream_id": format!("{stream:032x}"), "position": position, "source_len": 10, "group": group })
    }

    /// Pages as (stream, position, group); what is printed: positions, and `--`.
    #[track_caller]
    fn check(pages: &[&[(u64, i64, u64)]], expected: &str) {
        let (mut joiner, mut printed) = (Joiner::default(), Vec::new());
        for page in pages {
            joiner.begin();
            for (stream, position, group) in *page {
                match joiner.step(&row(*stream, *position, *group)) {
                    Step::Skip => {}
                    Step::Print => printed.push(position.to_string()),
                    Step::PrintApart => printed.extend(["--".to_owned(), position.to_string()]),
                }
            }
        }
        assert_eq!(printed.join(" "), expected);
    }

    #[test]
    fn groups_are_told_apart_and_pages_are_joined() {
        check(&[&[(1, 0, 0), (1, 10, 0), (1, 40, 1)]], "0 10 -- 40");
        check(&[&[(1, 0, 0)], &[(1, 50, 0)]], "0 -- 50");
        check(
            &[&[(1, 0, 0), (1, 10, 0)], &[(1, 0, 0), (1, 10, 0), (1, 20, 0)]],
            "0 10 20",
        );
        check(&[&[(1, 0, 0)], &[(1, 10, 0)]], "0 10");
        check(&[&[(1, 0, 0)], &[(2, 10, 0)]], "0 -- 10");
        // The page before ended elsewhere meanwhile.
        check(
            &[&[(1, 0, 0), (2, 0, 1)], &[(1, 0, 0), (1, 10, 0)]],
            "0 -- 0 -- 10",
        );
    }

    #[test]
    fn a_page_is_cut_into_its_groups() {
        let rows = vec![row(1, 0, 0), row(1, 10, 0), row(1, 90, 1)];
        let sizes: Vec<usize> = groups(rows).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1]);
    }

    #[test]
    fn with_many_lines_around_fewer_matches_are_asked_for_at_once() {
        let matches = |before, after| Around { before, after }.page_matches();
        assert_eq!(
            (matches(0, 0), matches(3, 3), matches(1_000, 1_000)),
            (1_000, 1_000, 9)
        );
    }
}
