//! Is an entry the one where we stopped?
//!
//! A cursor is `s=…;i=…;b=…;m=…;t=…;x=…`: sequence file and number, boot, monotonic and wall time, and a hash of the
//! content. The same entry may lie in two files (rotated while it was written), so `s` and `i` may differ; boot,
//! both times and the hash do not.

/// Do two cursors name the same entry?
#[must_use]
pub(super) fn same_entry(left: &str, right: &str) -> bool {
    if left == right {
        return true;
    }
    let (left, right) = (content(left), content(right));
    left.is_some() && left == right
}

/// Boot, monotonic time, wall time, hash.
fn content(cursor: &str) -> Option<[&str; 4]> {
    let part = |name: &str| {
        cursor
            .split(';')
            .find_map(|part| part.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
    };
    Some([part("b")?, part("m")?, part("t")?, part("x")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_entry_in_another_file_is_the_same() {
        let one = "s=aa;i=1;b=bb;m=2;t=3;x=4";
        assert!(same_entry(one, one));
        assert!(same_entry(one, "s=cc;i=9;b=bb;m=2;t=3;x=4"));
    }

    #[test]
    fn another_entry_is_another() {
        let one = "s=aa;i=1;b=bb;m=2;t=3;x=4";
        for other in ["s=aa;i=2;b=bb;m=2;t=3;x=5", "", "x", "s=aa;i=1"] {
            assert!(!same_entry(one, other), "{other}");
        }
        assert!(!same_entry("x", "y"));
    }
}
