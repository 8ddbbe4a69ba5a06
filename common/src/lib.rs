//! What agent and collector share: the columnar model, its codec, the segment log, identity and security.
//!
//! | module | idea |
//! | --- | --- |
//! | [`block`] | columns of records of one stream over one range of positions |
//! | [`stream`] | what a stream is |
//! | [`clock`] | time, handed in |

pub mod auth;
pub mod block;
pub mod clock;
pub mod codec;
pub mod config;
pub mod crc;
pub mod disk;
pub mod duration;
pub mod error_code;
pub mod range_set;
pub mod recognition;
pub mod secret_file;
pub mod segment;
pub mod size;
pub mod stamped;
pub mod stream;
pub mod telemetry;
pub mod tls;
pub mod wildcard;
