//! Queries that can be stopped. A stopped query ends where it next yields to the runtime. The engine's scans yield from
//! time to time; a join makes millions of rows out of what it has in memory and never would. Each join, and whatever else
//! makes many rows of few, is therefore wrapped in an operator that counts batches and yields.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// Wraps what makes rows.
#[derive(Debug)]
pub struct Yielding;

impl PhysicalOptimizerRule for Yielding {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|step| {
            if step.name().ends_with("JoinExec") || step.name() == "UnnestExec" {
                Ok(Transformed::yes(
                    Arc::new(CooperativeExec::new(step)) as Arc<dyn ExecutionPlan>
                ))
            } else {
                Ok(Transformed::no(step))
            }
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "yielding"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
