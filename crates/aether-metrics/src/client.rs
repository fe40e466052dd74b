//! The address of a client and its certificate, which every request brings along.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The address from which a request came; behind [trusted proxies](crate::TrustedProxies), the address of their client.
/// The server puts it into the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

/// The certificate that a client has shown, which an authority of the server has signed. The server puts it into the
/// extensions of each request, where it asks clients for certificates ([`Tls::load_mutual`](crate::Tls::load_mutual)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate(Arc<[u8]>);

impl ClientCertificate {
    pub(crate) fn new(der: &[u8]) -> Self {
        Self(der.into())
    }

    /// The certificate in DER. Its SHA-256 is what is usually called its fingerprint.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl ClientAddress {
    /// The source for bounds on what one client may use: the whole IPv4 address, or the 64-bit network prefix of an IPv6
    /// address, because one host can use any number of addresses in its network.
    #[must_use]
    pub fn source(self) -> IpAddr {
        network(self.0.ip())
    }
}

pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
