//! The host that a request names: an address, or a name that its owner can let lead anywhere.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether the `Host` of a request is an IP address or `localhost`, with or without a port. A page whose owner lets its
/// name lead to this machine after it was loaded (DNS rebinding) sends the name.
#[must_use]
pub fn is_address(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok()
        || name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .is_some_and(|name| name.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_from_a_name() {
        for host in
            ["127.0.0.1", "127.0.0.1:9464", "localhost", "LocalHost:80", "[::1]", "[::1]:9464", "10.0.0.1:1"]
        {
            assert!(is_address(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "::1",
            "",
        ] {
            assert!(!is_address(host), "{host}");
        }
    }
}
