//! Which log records a search is about, as expressions of the engine: text of a user is never SQL. The same expressions
//! find stored records and pick those that a live tail wants.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, MapArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::functions::string::expr_fn::contains;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{Expr, SessionContext, col, lit};
use regex::{Regex, RegexBuilder};

use super::LogQuery;
use crate::error::QueryError;
use crate::schema::{TIMEZONE, Table, column};

/// Length of a text to search for, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;
/// Memory of a compiled regular expression, and of what it remembers while it searches.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Groups within groups.
const REGEX_NESTING_MAX: u32 = 100;
/// Attributes and labels that one search may ask for.
const PAIRS_MAX: usize = 16;

/// The conditions of a search, all of which must hold. The place where a page begins is not among them.
pub fn conditions(query: &LogQuery) -> Result<Vec<Expr>, QueryError> {
    let mut all = Vec::new();
    all.extend(query.from.map(|from| col(column::TIME).gt_eq(time(from))));
    all.extend(query.to.map(|to| col(column::TIME).lt(time(to))));
    all.extend(
        query
            .received_from
            .map(|from| col(column::RECEIVED_TIME).gt_eq(time(from))),
    );
    if let Some(machine) = &query.machine {
        all.push(matching(column::MACHINE_ID, machine)?);
    }
    if let Some(source) = &query.source {
        all.push(matching(column::SOURCE, source)?);
    }
    all.extend(
        query
            .severity_min
            .map(|least| col(column::SEVERITY).gt_eq(lit(least))),
    );
    let pairs = query.attributes.len() + query.labels.len();
    if pairs > PAIRS_MAX {
        return Err(QueryError::Invalid(format!(
            "the search asks for {pairs} attributes and labels, allowed are {PAIRS_MAX}"
        )));
    }
    for (name, wanted) in [
        (column::ATTRIBUTES, &query.attributes),
        (column::LABELS, &query.labels),
    ] {
        let test = |(key, value): &(String, String)| Test::Pair(key.clone(), value.clone()).of(name);
        all.extend(wanted.iter().map(test));
    }
    all.extend(body(query)?);
    Ok(all)
}

fn body(query: &LogQuery) -> Result<Vec<Expr>, QueryError> {
    let mut all = Vec::new();
    if let Some(text) = query.substring.as_deref().filter(|text| !text.is_empty()) {
        check_len("the text to search for", text)?;
        all.push(if query.case_insensitive {
            Test::Regex(compile(&regex::escape(text), true)?).of(column::BODY)
        } else {
            contains(col(column::BODY), lit(text))
        });
    }
    if let Some(pattern) = &query.regex {
        check_len("the regular expression", pattern)?;
        all.push(Test::Regex(compile(pattern, query.case_insensitive)?).of(column::BODY));
    }
    Ok(all)
}

fn compile(pattern: &str, case_insensitive: bool) -> Result<Regex, QueryError> {
    RegexBuilder::new(pattern)
        .case_insensitive(case_insensitive)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .nest_limit(REGEX_NESTING_MAX)
        .build()
        .map_err(|error| QueryError::BadPattern(error.to_string()))
}

pub(super) fn time(ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(ns), Some(TIMEZONE.into())))
}

/// Exactly this, or a pattern of `*` and `?`.
pub(super) fn matching(name: &str, pattern: &str) -> Result<Expr, QueryError> {
    check_len("a pattern", pattern)?;
    if !pattern.contains(['*', '?']) {
        return Ok(col(name).eq(lit(pattern)));
    }
    let like = escaped(pattern).replace('*', "%").replace('?', "_");
    Ok(col(name).like(lit(like)))
}

fn check_len(what: &str, text: &str) -> Result<(), QueryError> {
    if text.len() <= PATTERN_BYTES_MAX {
        return Ok(());
    }
    Err(QueryError::Invalid(format!(
        "{what} has {} bytes, allowed are {PATTERN_BYTES_MAX}",
        text.len()
    )))
}

/// Text in which LIKE finds nothing special.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// Records of batches that a search is about, without a query: for what is applied just now.
#[derive(Debug, Clone)]
pub struct LogMatcher(Option<Arc<dyn PhysicalExpr>>);

impl LogMatcher {
    /// For the conditions of a search; order, limit and cursor say nothing here.
    ///
    /// # Errors
    /// A pattern or number of conditions that is not allowed.
    pub fn new(query: &LogQuery) -> Result<Self, QueryError> {
        let Some(condition) = conjunction(conditions(query)?) else {
            return Ok(Self(None));
        };
        let failed = |error: DataFusionError| QueryError::Failed(error.strip_backtrace());
        let schema = DFSchema::try_from(Table::Logs.schema()).map_err(failed)?;
        let compiled = SessionContext::new().create_physical_expr(condition, &schema);
        compiled.map(|compiled| Self(Some(compiled))).map_err(failed)
    }

    /// Which rows of a batch with the columns of `logs` it is about.
    ///
    /// # Errors
    /// An error in this program.
    pub fn matches(&self, batch: &RecordBatch) -> Result<BooleanArray, QueryError> {
        let Some(condition) = &self.0 else {
            return Ok(BooleanArray::from(vec![true; batch.num_rows()]));
        };
        let evaluated = condition
            .evaluate(batch)
            .and_then(|value| value.into_array(batch.num_rows()));
        let array = evaluated.map_err(|error| QueryError::Failed(error.strip_backtrace()))?;
        let matches = array.as_boolean_opt().cloned();
        matches.ok_or_else(|| QueryError::Failed("a condition that is not true or false".to_owned()))
    }
}

/// A test of a row that the engine has no function for.
#[derive(Debug, Clone)]
enum Test {
    /// Of a body.
    Regex(Regex),
    /// Of a map: this key has this value.
    Pair(String, String),
}

impl Test {
    fn of(self, name: &str) -> Expr {
        let function = RowTest {
            test: self,
            signature: Signature::any(1, Volatility::Immutable),
        };
        ScalarUDF::from(function).call(vec![col(name)])
    }

    fn run(&self, values: &ArrayRef) -> EngineResult<BooleanArray> {
        match self {
            Self::Regex(regex) => {
                let matches = |text: Option<&str>| text.map(|text| regex.is_match(text));
                if let Some(texts) = values.as_string_view_opt() {
                    return Ok(texts.iter().map(matches).collect());
                }
                let texts = values.as_string_opt::<i32>();
                texts.map(|texts| texts.iter().map(matches).collect())
            }
            Self::Pair(key, value) => values.as_map_opt().map(|map| pairs(map, key, value)),
        }
        .ok_or_else(|| {
            let found = values.data_type();
            DataFusionError::Internal(format!("a row test of a column of type {found}"))
        })
    }
}

fn pairs(map: &MapArray, key: &str, value: &str) -> BooleanArray {
    let (keys, values) = (
        map.keys().as_string_opt::<i32>(),
        map.values().as_string_opt::<i32>(),
    );
    let (Some(keys), Some(values)) = (keys, values) else {
        return BooleanArray::from(vec![false; map.len()]);
    };
    let has = |range: &[i32]| {
        let entries = usize::try_from(range[0]).unwrap_or(0)..usize::try_from(range[1]).unwrap_or(0);
        let mut entries = entries;
        entries.any(|at| keys.value(at) == key && values.is_valid(at) && values.value(at) == value)
    };
    map.value_offsets()
        .windows(2)
        .map(|range| Some(has(range)))
        .collect()
}

#[derive(Debug, Clone)]
struct RowTest {
    test: Test,
    signature: Signature,
}

impl RowTest {
    fn key(&self) -> (&str, &str) {
        match &self.test {
            Test::Regex(regex) => ("re", regex.as_str()),
            Test::Pair(key, value) => (key, value),
        }
    }
}

impl PartialEq for RowTest {
    fn eq(&self, other: &Self) -> bool {
        // A regular expression may differ in what its text does not show (its case), so it equals nothing but itself.
        matches!((&self.test, &other.test), (Test::Pair(..), Test::Pair(..))) && self.key() == other.key()
            || std::ptr::eq(self, other)
    }
}

impl Eq for RowTest {}

impl Hash for RowTest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl ScalarUDFImpl for RowTest {
    fn name(&self) -> &'static str {
        match self.test {
            Test::Regex(_) => "matches_pattern",
            Test::Pair(..) => "has_pair",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let rows = args.number_rows;
        let value = args.args.into_iter().next();
        let value = value.ok_or_else(|| DataFusionError::Internal("a row test of nothing".to_owned()))?;
        let tested = self.test.run(&value.into_array(rows)?)?;
        Ok(ColumnarValue::Array(Arc::new(tested)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_would_take_much_memory_is_refused() {
        for hostile in ["(", "a{1000}{1000}{1000}", &"(".repeat(200), "(?=a)b", r"(a)\1"] {
            let query = LogQuery {
                regex: Some(hostile.to_owned()),
                ..LogQuery::default()
            };
            assert!(
                matches!(conditions(&query), Err(QueryError::BadPattern(_))),
                "{hostile}"
            );
        }
        // Exponential for engines that go back.
        let query = LogQuery {
            regex: Some("^(a+)+$".to_owned()),
            ..LogQuery::default()
        };
        assert!(conditions(&query).is_ok());
    }
}
