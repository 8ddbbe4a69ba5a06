//! A network of its own for one program, with a cable that can be pulled.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

use super::row::{Outcome, Stop, skip};
use super::tools::{need_root, run};
use crate::stack::Launch;

/// Networks so far in this process: no two have the same addresses.
static COUNT: AtomicU8 = AtomicU8::new(0);

/// A network namespace that reaches this machine through a pair of virtual Ethernet devices. It goes away with this.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    outside: String,
    inside: String,
    /// This machine's address, as seen from inside.
    pub address: Ipv4Addr,
}

/// An end of the cable.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// This machine's.
    Outside,
    /// The namespace's.
    Inside,
}

impl Namespace {
    /// With a cable that works.
    ///
    /// # Errors
    /// Skipped where that can't be done here.
    pub fn new() -> Result<Self, Stop> {
        need_root()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let [_, _, high, low] = process.to_be_bytes();
        let network = [10, 128 | (high & 0x7F), low, number.wrapping_mul(4)];
        let host = |last: u8| Ipv4Addr::new(network[0], network[1], network[2], network[3] | last);
        let namespace = Self {
            name: format!("edgelogger-{process}-{number}"),
            outside: format!("el{process}o{number}"),
            inside: format!("el{process}i{number}"),
            address: host(1),
        };
        namespace.connect(host(2)).or_else(|stop| match stop {
            Stop::Failed(why) => skip(format!("no network namespace: {why}")),
            skipped @ Stop::Skipped(_) => Err(skipped),
        })?;
        Ok(namespace)
    }

    fn connect(&self, inside: Ipv4Addr) -> Outcome {
        let Self {
            name,
            outside,
            inside: device,
            address,
        } = self;
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {outside} type veth peer name {device} netns {name}"
        ))?;
        ip(&format!("addr add {address}/30 dev {outside}"))?;
        ip(&format!("link set {outside} up"))?;
        ip(&format!("-n {name} addr add {inside}/30 dev {device}"))?;
        ip(&format!("-n {name} link set {device} up"))?;
        ip(&format!("-n {name} link set lo up"))
    }

    /// How a program is started inside.
    #[must_use]
    pub fn launch(&self) -> Launch {
        Launch {
            prefix: ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec(),
            environment: Vec::new(),
        }
    }

    /// Takes an end of the cable down: packets go nowhere, and nobody is told.
    ///
    /// # Errors
    /// When the device can't be set.
    pub fn pull(&self, end: End) -> Outcome {
        self.set(end, "down")
    }

    /// Puts it back.
    ///
    /// # Errors
    /// When the device can't be set.
    pub fn plug(&self, end: End) -> Outcome {
        self.set(end, "up")
    }

    fn set(&self, end: End, state: &str) -> Outcome {
        match end {
            End::Outside => ip(&format!("link set {} {state}", self.outside)),
            End::Inside => ip(&format!("-n {} link set {} {state}", self.name, self.inside)),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The other end goes with it, once no program is inside.
        let _ = ip(&format!("link del {}", self.outside));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> Outcome {
    let command: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
    run(&command)
}
