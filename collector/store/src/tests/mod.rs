//! Tests of the whole store. `common` makes log entries and asks for rows; each other file is one promise.

mod around;
mod aside;
mod common;
mod concurrent;
mod crash;
mod deleting;
mod deleting_model;
mod expiring;
mod folding;
mod inspecting;
mod measure;
mod merging;
mod metrics;
mod model;
mod paging;
mod rows;
mod sql;
mod streams;
