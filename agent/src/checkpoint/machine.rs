//! Which machine this is, without telling anybody its machine-id.

use edgelogger_common::codec::sha256;

/// Where Linux keeps a random id of the installation.
const MACHINE_ID_PATH: &str = "/etc/machine-id";

/// A hash of the machine-id: the id itself must not leave the machine, says machine-id(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMark(pub(super) [u8; 16]);

impl MachineMark {
    /// As it is told to a collector.
    #[must_use]
    pub fn to_proto(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.0)
    }

    /// Of this machine; `None` where it has no machine-id (a container), which binds nothing.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        Self::of(&std::fs::read_to_string(MACHINE_ID_PATH).ok()?)
    }

    /// Of a machine with this id.
    #[must_use]
    pub fn of(machine_id: &str) -> Option<Self> {
        let id = machine_id.trim();
        if id.is_empty() || id == "uninitialized" {
            return None;
        }
        let hash = sha256(format!("edgelogger{id}").as_bytes());
        hash.first_chunk().copied().map(Self)
    }
}
