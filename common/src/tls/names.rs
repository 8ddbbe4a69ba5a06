//! The names and addresses by which this machine may be reached, for its certificate.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most addresses taken from the interfaces; routers with thousands would make a certificate of megabytes.
const ADDRESSES_MAX: usize = 32;

/// `localhost`, the loopback addresses, the host name, and the addresses of the interfaces without link-local
/// ones, sorted. Best effort: what the kernel does not tell is left out.
#[must_use]
pub fn host_names() -> Vec<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // "(none)" and the like are no names; a certificate with one could not be made.
    if rustls::pki_types::ServerName::try_from(host.as_str()).is_ok() {
        names.insert(host);
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let v4 = ipv4_addresses(&read("/proc/net/fib_trie"));
    let v6 = ipv6_addresses(&read("/proc/net/if_inet6"));
    let addresses: BTreeSet<IpAddr> = v4.into_iter().chain(v6).filter(is_reachable).collect();
    names.extend(addresses.iter().take(ADDRESSES_MAX).map(IpAddr::to_string));
    names.into_iter().collect()
}

fn is_reachable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

/// Local addresses in the kernel's routing trie: a line `|-- ADDRESS`, and below it `/32 host LOCAL`.
fn ipv4_addresses(fib_trie: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut found = Vec::new();
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.map(IpAddr::V4));
        }
    }
    found
}

/// One address per line: 32 hexadecimal digits, interface index, prefix length, scope, flags, name.
fn ipv6_addresses(if_inet6: &str) -> Vec<IpAddr> {
    let digits = if_inet6.lines().filter_map(|line| line.split_whitespace().next());
    digits
        .filter(|digits| digits.len() == 32)
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_read_from_the_routing_trie() {
        let fib_trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                        Local:\n     |-- 192.0.2.17\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(
            ipv4_addresses(fib_trie),
            ["192.0.2.17".parse::<IpAddr>().unwrap()]
        );
        assert!(ipv4_addresses("garbage\n/32 host LOCAL").is_empty());
    }

    #[test]
    fn ipv6_addresses_are_read_from_the_interface_list() {
        let list = "20010db8000000000000000000000017 02 40 00 80     eth0\nshort 01\n";
        assert_eq!(ipv6_addresses(list), ["2001:db8::17".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn this_machine_has_at_least_the_loopback_names() {
        let names = host_names();
        for name in ["localhost", "127.0.0.1", "::1"] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
    }
}
