//! `explain`.

use edgelogger_common::error_code::{self, ErrorCode};

use super::arguments::ExplainArguments;
use super::{Failure, WRONG_USE};
use crate::status::harmless;

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) fn explain(arguments: &ExplainArguments) -> Result<u8, Failure> {
    let ErrorCode { code, title, help } = find(&arguments.code)?;
    println!("{code}: {title}\n{help}");
    Ok(0)
}

fn find(code: &str) -> Result<&'static ErrorCode, Failure> {
    error_code::explain(code).ok_or_else(|| {
        let message = format!(
            "{} is not an error code of EdgeLogger; they look like E0225",
            harmless(code)
        );
        Failure::new(WRONG_USE, &message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_and_nothing_else() {
        for known in error_code::ALL {
            assert_eq!(find(&known.code.to_lowercase()).unwrap(), *known);
        }
        let failure = find("E\u{1b}[0m").unwrap_err();
        assert_eq!(failure.code, WRONG_USE);
        assert!(failure.message.contains("they look like E0225") && !failure.message.contains('\u{1b}'));
    }
}
