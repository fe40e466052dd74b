//! The address of a client behind a proxy, as a trusted proxy tells it.
//!
//! The [server](crate::server) asks for each request. Only the header `X-Forwarded-For` is read, which all proxies can
//! write; `Forwarded` (RFC 7239) is not. Entries written by anybody else change nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use hyper::HeaderMap;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// A network whose members are proxies that tell the addresses of their clients: `192.0.2.0/24`, `2001:db8::/32`, or one
/// address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedProxy {
    network: IpAddr,
    bits: u32,
}

/// A text that names no network of proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustedProxyError {
    /// It cannot be read as an address, or the number of bits is not valid.
    #[error("{0:?} is neither an address nor a network: use 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
    Form(String),
    /// The address has bits beyond the network, so one of the two is mistyped.
    #[error(
        "{text:?} is not a network: its address has more than {bits} bits; write {network}, or the whole address"
    )]
    Host {
        /// The text.
        text: String,
        /// The length of the network.
        bits: u32,
        /// The network in which the address is.
        network: TrustedProxy,
    },
    /// Every client could write any address.
    #[error(
        "{0:?} has every address in it, so everybody could name any address: list the addresses of the proxies"
    )]
    Everybody(String),
}

/// The proxies that are believed. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[TrustedProxy]>);

impl TrustedProxy {
    fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.bits) == self.network
    }
}

impl FromStr for TrustedProxy {
    type Err = TrustedProxyError;

    fn from_str(text: &str) -> Result<Self, TrustedProxyError> {
        let form = || TrustedProxyError::Form(text.to_owned());
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let written: IpAddr = address.parse().map_err(|_| form())?;
        // An IPv4 address as IPv6 writes it, which has 96 bits before its own.
        let address = written.to_canonical();
        let before = length(written) - length(address);
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let bits: u32 = bits.parse().map_err(|_| form())?;
                bits.checked_sub(before).filter(|bits| *bits <= length(address)).ok_or_else(form)?
            }
            Some(_) => return Err(form()),
            None => length(address),
        };
        let network = Self { network: masked(address, bits), bits };
        match network.network == address {
            _ if bits == 0 => Err(TrustedProxyError::Everybody(text.to_owned())),
            true => Ok(network),
            false => Err(TrustedProxyError::Host { text: text.to_owned(), bits, network }),
        }
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

impl FromIterator<TrustedProxy> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = TrustedProxy>>(proxies: I) -> Self {
        Self(proxies.into_iter().collect())
    }
}

impl TrustedProxies {
    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|proxy| proxy.has(address))
    }

    /// The client of a request: the peer, unless the peer is a trusted proxy. Then it is the last address in the header
    /// that does not belong to a trusted proxy, because each proxy adds the one from which the request came to it.
    /// Earlier entries may have been written by anybody. Where the header has none, or something else than an address,
    /// it is the proxy that is known last. The port is 0 if the proxy does not pass it on.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let mut client = peer;
        if !self.has(peer.ip().to_canonical()) {
            return client;
        }
        for line in headers.get_all(FORWARDED_FOR).iter().rev() {
            let Ok(line) = line.to_str() else { return client };
            for written in line.rsplit(',') {
                let Some(before) = address(written.trim()) else { return client };
                client = before;
                if !self.has(client.ip()) {
                    return client;
                }
            }
        }
        client
    }
}

/// An address with or without a port, as proxies write it: `192.0.2.7`, `192.0.2.7:1234`, `2001:db8::1` or
/// `[2001:db8::1]:1234`.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let bare = bare.parse().map(|address: IpAddr| SocketAddr::new(address, 0));
    let address = bare.or_else(|_| text.parse::<SocketAddr>()).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

const fn length(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

/// The first bits of an address.
fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(u32::BITS - bits).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(u128::BITS - bits).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(list: &[&str]) -> TrustedProxies {
        list.iter().map(|text| text.parse::<TrustedProxy>().unwrap()).collect()
    }

    fn client(trusted: &[&str], peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 7);
        proxies(trusted).client(peer, &headers).ip().to_string()
    }

    #[test]
    fn what_a_stranger_writes_changes_nothing() {
        for trusted in [&[][..], &["198.51.100.0/24"], &["2001:db8::/32"]] {
            assert_eq!(client(trusted, "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        }
        // A client behind the proxy writes a line itself; the proxy adds the address that it sees.
        let trusted = &["127.0.0.1", "10.0.0.0/8"];
        assert_eq!(client(trusted, "127.0.0.1", &["8.8.8.8, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(trusted, "127.0.0.1", &["8.8.8.8", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(
            client(trusted, "127.0.0.1", &["8.8.8.8, 10.1.1.1, 203.0.113.9, 10.0.0.2"]),
            "203.0.113.9"
        );
        assert_eq!(client(trusted, "127.0.0.1", &["8.8.8.8, unknown, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let trusted = &["127.0.0.1", "::1", "10.0.0.0/8", "2001:db8:1::/48"];
        for (peer, line, expected) in [
            ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("::ffff:127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
            ("::1", "[2001:db8::5]:4711", "2001:db8::5"),
            ("2001:db8:1::7", " 2001:db8::5 ,2001:db8:1::8", "2001:db8::5"),
            ("10.255.255.255", "::ffff:203.0.113.9", "203.0.113.9"),
            ("127.0.0.1", "[2001:db8::5]", "2001:db8::5"),
            ("127.0.0.1", "10.0.0.9, 10.0.0.2", "10.0.0.9"),
            ("127.0.0.1", "", "127.0.0.1"),
            ("127.0.0.1", "nobody", "127.0.0.1"),
        ] {
            assert_eq!(client(trusted, peer, &[line]), expected, "{peer}: {line}");
        }
        assert_eq!(client(trusted, "127.0.0.1", &[]), "127.0.0.1");
    }

    #[test]
    fn a_mistyped_network_is_refused() {
        let read = |text: &str| text.parse::<TrustedProxy>();
        for text in ["192.0.2.0/24", "192.0.2.7/32", "2001:db8::/32", "2001:db8::1/128", "10.0.0.0/8"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("192.0.2.7").unwrap(), read("::ffff:192.0.2.7/128").unwrap());
        for text in [
            "",
            "proxy",
            "192.0.2.0/33",
            "192.0.2.0/+8",
            "192.0.2/24",
            "2001:db8::/129",
            "10.0.0.0/",
            "::ffff:10.0.0.0/95",
        ] {
            assert_eq!(read(text), Err(TrustedProxyError::Form(text.to_owned())), "{text}");
        }
        let error = read("10.1.2.3/8").unwrap_err().to_string();
        assert!(error.contains("write 10.0.0.0/8"), "{error}");
        for text in ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96"] {
            assert_eq!(read(text), Err(TrustedProxyError::Everybody(text.to_owned())), "{text}");
        }
    }
}
