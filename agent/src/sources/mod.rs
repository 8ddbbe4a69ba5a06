//! Sources: where records come from. Each runs on a thread of its own and knows the ring, the checkpoints and
//! nothing of the stages behind them.
//!
//! | module | reads |
//! | --- | --- |
//! | [`mod@file`] | log files, followed through rotation |
//! | [`journald`] | the systemd journal |
//! | [`host_metrics`] | the machine's processors, memory, disks, network, temperatures |

pub mod file;
pub mod host_metrics;
pub mod journald;
