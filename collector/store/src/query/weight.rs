//! How large the rows of a query can become that are made of little: the engine counts the memory of its operators, not
//! that of its functions and constants. `s || s` in thirty subqueries doubles thirty times; a text of 60 KB stands in
//! every row of a batch.
//!
//! Each column of each step gets a *weight*, the bytes of a value: exactly for constants, nominally for columns of
//! tables ([`TEXT`]; what is really stored there is bounded when it comes in). Functions add, `replace` multiplies. A row
//! of more than [`ROW_BYTES_MAX`] is refused before anything is planned, constants being folded included.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Unnest};

/// Bytes of a row, at most: with batches of 8,192 rows an operator then makes 128 MiB at a time.
pub const ROW_BYTES_MAX: u64 = 16 << 10;
/// Bytes of all rows that unnesting makes of one.
const UNNESTED_BYTES_MAX: u64 = 256 << 10;
/// A number, a time.
const FIXED: u64 = 8;
/// Text of a table, nominally.
const TEXT: u64 = 256;
/// A map or list of a table, nominally.
const NESTED: u64 = 512;
/// What is gathered from many rows: its memory is counted by the engine, and it may be repeated once.
const GATHERED: u64 = 4 << 10;
/// Bytes that an element of a list takes beyond itself.
const ELEMENT: u64 = 8;

/// Refuses a plan that makes rows out of all proportion.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    columns(plan).map(|_| ())
}

/// The weights of a plan's columns.
fn columns(plan: &LogicalPlan) -> Result<Vec<u64>> {
    let mut below = Inputs::default();
    for input in plan.inputs() {
        below.0.push((input.schema().as_ref(), columns(input)?));
    }
    let weights = match plan {
        LogicalPlan::TableScan(scan) => {
            let fields = scan.projected_schema.fields().iter();
            fields.map(|field| nominal(field.data_type())).collect()
        }
        LogicalPlan::Projection(projection) => each(&projection.expr, &below)?,
        LogicalPlan::Aggregate(aggregate) => {
            let mut weights = each(&aggregate.group_expr, &below)?;
            weights.extend(each(&aggregate.aggr_expr, &below)?);
            weights
        }
        LogicalPlan::Window(window) => {
            let mut weights = below.all();
            weights.extend(each(&window.window_expr, &below)?);
            weights
        }
        LogicalPlan::Distinct(Distinct::On(on)) => each(&on.select_expr, &below)?,
        LogicalPlan::Values(values) => {
            let rows = values.values.iter().map(|row| each(row, &below));
            let rows = rows.collect::<Result<Vec<_>>>()?;
            most(&rows)
        }
        LogicalPlan::Union(_) => most(&below.0.iter().map(|input| input.1.clone()).collect::<Vec<_>>()),
        LogicalPlan::Unnest(unnest) => unnested(unnest, &below)?,
        other => {
            for expression in other.expressions() {
                weigh(&expression, &below)?;
            }
            below.all()
        }
    };
    fits(
        weights.iter().copied().fold(0, u64::saturating_add),
        ROW_BYTES_MAX,
    )?;
    let count = plan.schema().fields().len();
    if weights.len() == count {
        return Ok(weights);
    }
    // Joins that leave columns out, sets of groups: what the heaviest weighs, each may.
    let heaviest = weights.into_iter().max().unwrap_or(FIXED);
    Ok(vec![heaviest; count])
}

/// The inputs of a step: their columns and what these weigh.
#[derive(Default)]
struct Inputs<'a>(Vec<(&'a DFSchema, Vec<u64>)>);

impl Inputs<'_> {
    fn all(&self) -> Vec<u64> {
        self.0.iter().flat_map(|input| input.1.iter().copied()).collect()
    }

    fn column(&self, column: &Column) -> u64 {
        let found = self.0.iter().find_map(|(schema, weights)| {
            let index = schema.maybe_index_of_column(column)?;
            weights.get(index).copied()
        });
        // Of a query around this one.
        found.unwrap_or(GATHERED)
    }

    fn data_type(&self, expression: &Expr) -> Option<DataType> {
        self.0
            .iter()
            .find_map(|(schema, _)| expression.get_type(*schema).ok())
    }
}

fn each(expressions: &[Expr], inputs: &Inputs<'_>) -> Result<Vec<u64>> {
    expressions
        .iter()
        .map(|expression| weigh(expression, inputs))
        .collect()
}

fn most(rows: &[Vec<u64>]) -> Vec<u64> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let most = |column| rows.iter().filter_map(|row| row.get(column)).max();
    (0..count)
        .map(|column| most(column).copied().unwrap_or(0))
        .collect()
}

/// Every element of a list becomes a row, and all other columns are repeated for it.
fn unnested(unnest: &Unnest, inputs: &Inputs<'_>) -> Result<Vec<u64>> {
    let weights = inputs.all();
    let lists = unnest.list_type_columns.iter().map(|(index, _)| *index);
    let longest = lists.filter_map(|index| weights.get(index)).max();
    let elements = longest.map_or(1, |bytes| bytes / ELEMENT).max(1);
    let row = weights.iter().copied().fold(0, u64::saturating_add);
    fits(row.saturating_mul(elements), UNNESTED_BYTES_MAX)?;
    let depends = unnest.dependency_indices.iter();
    Ok(depends
        .map(|index| weights.get(*index).copied().unwrap_or(GATHERED))
        .collect())
}

/// What a value of an expression weighs. Its parts are checked, too: they are made before it.
fn weigh(expression: &Expr, inputs: &Inputs<'_>) -> Result<u64> {
    let mut parts = Vec::new();
    expression.apply_children(|part| {
        parts.push(weigh(part, inputs)?);
        Ok(TreeNodeRecursion::Continue)
    })?;
    let sum = parts.iter().copied().fold(0, u64::saturating_add);
    let weight = match expression {
        Expr::Literal(value, _) => literal(value),
        Expr::Column(column) => inputs.column(column),
        Expr::OuterReferenceColumn(field, _) => nominal(field.data_type()).max(GATHERED),
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => sum,
        Expr::ScalarFunction(function) => called(function, &parts, sum),
        Expr::ScalarSubquery(subquery) => columns(&subquery.subquery)?.first().copied().unwrap_or(FIXED),
        Expr::InSubquery(subquery) => columns(&subquery.subquery.subquery).map(|_| FIXED)?,
        Expr::Exists(exists) => columns(&exists.subquery.subquery).map(|_| FIXED)?,
        Expr::SetComparison(set) => columns(&set.subquery.subquery).map(|_| FIXED)?,
        Expr::AggregateFunction(_) | Expr::WindowFunction(_) => GATHERED,
        Expr::Case(_) => parts.iter().copied().max().unwrap_or(FIXED),
        Expr::LambdaVariable(_) => GATHERED,
        // Once for each element.
        Expr::HigherOrderFunction(_) => parts
            .iter()
            .copied()
            .fold(1_u64, |all, part| all.saturating_mul(part.max(1))),
        Expr::Cast(_) | Expr::TryCast(_) => sum.max(TEXT / 8),
        Expr::BinaryExpr(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::InList(_) => FIXED,
        _ => sum,
    };
    // Whatever it is made of, a number is a number.
    let is_made = !matches!(expression, Expr::Literal(..) | Expr::Column(_));
    let weight = if is_made && weight > FIXED {
        let of_type = inputs.data_type(expression);
        if of_type.is_some_and(|of_type| of_type.is_primitive() || of_type == DataType::Boolean) {
            FIXED
        } else {
            weight
        }
    } else {
        weight
    };
    fits(weight, ROW_BYTES_MAX)?;
    Ok(weight)
}

/// What a function makes of its arguments.
fn called(function: &ScalarFunction, parts: &[u64], sum: u64) -> u64 {
    let part = |index: usize| parts.get(index).copied().unwrap_or(0);
    match function.name() {
        // Each match becomes the replacement; what is not matched stays.
        "replace" => {
            let searched = match function.args.get(1) {
                Some(Expr::Literal(value, _)) => literal(value).max(1),
                _ => 1,
            };
            part(0).saturating_add((part(0) / searched).saturating_mul(part(2)))
        }
        // A pattern may match between any two characters.
        "regexp_replace" => (part(0) + 1).saturating_mul(part(2) + 1),
        // A separator between any two.
        "array_to_string" | "array_join" | "list_to_string" | "list_join" => {
            part(0).saturating_mul(1 + part(1))
        }
        "concat_ws" => sum.saturating_add(part(0).saturating_mul(parts.len() as u64)),
        // A list element for each character.
        "string_to_array" | "string_to_list" | "regexp_match" => sum.saturating_mul(ELEMENT / 2),
        "to_char" | "date_format" => sum.saturating_mul(16),
        "encode" | "translate" | "initcap" | "upper" | "lower" => sum.saturating_mul(3),
        _ => sum,
    }
}

fn literal(value: &ScalarValue) -> u64 {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(1, |text| text.len() as u64)
        }
        other if other.data_type().is_primitive() => FIXED,
        other => other.size() as u64,
    }
}

fn nominal(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Dictionary(_, values) => nominal(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TEXT,
        data_type if data_type.is_nested() => NESTED,
        data_type if data_type.is_primitive() => FIXED,
        _ => TEXT,
    }
}

fn fits(bytes: u64, most: u64) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    Err(DataFusionError::ResourcesExhausted(format!(
        "a row of it could become {bytes} bytes of text made by the query itself, allowed are {most}: select fewer \
         columns at a time, shorten constants, and do not build texts out of texts"
    )))
}
