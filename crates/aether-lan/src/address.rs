//! The address of the network: `lan:` and what may follow it.

use percent_encoding::percent_decode_str;

use super::error::LanError;

/// Where a process listens that has certificates, unless its address has another.
const ANY_PORT_OVER_QUIC: &str = "quic/[::]:0";

/// The settings in an address such as `lan:?peer=tcp/192.168.1.20:7447`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LanAddress {
    /// Endpoints of peers to connect to.
    pub(super) peers: Vec<String>,
    /// Endpoints of routers. A process reaches everybody through the first that answers; a router connects to all.
    pub(super) routers: Vec<String>,
    /// The endpoints on which others may connect. Empty: any free TCP port of all interfaces.
    pub(super) listen: Vec<String>,
    /// The interfaces on which others are looked for; `None` leaves the choice to Zenoh.
    pub(super) interface: Option<String>,
    pub(super) no_multicast: bool,
    pub(super) insecure: bool,
}

/// How processes connect with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    /// With certificates. Nothing is connected without. Not TLS over TCP: in Zenoh 1.10 one thread reads from such a
    /// connection while another writes to it, which breaks it and is not sound (eclipse-zenoh/zenoh#2557). QUIC keeps
    /// both directions apart.
    Quic,
}

impl Protocol {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }
}

impl LanAddress {
    /// Reads an address. The scheme has been looked at already. Endpoints have the protocol unless they name another.
    pub(super) fn read(url: &str, protocol: Protocol) -> Result<Self, LanError> {
        let rest = url.split_once(':').map_or("", |(_, rest)| rest);
        let Some(query) = rest.strip_prefix('?') else {
            return if rest.is_empty() { Ok(Self::default()) } else { Err(unknown(rest)) };
        };
        let mut address = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| unknown(part))?;
            match (name, &*value) {
                ("peer", endpoint) => address.peers.push(endpoint_of(endpoint, protocol)?),
                ("router", endpoint) => address.routers.push(endpoint_of(endpoint, protocol)?),
                ("listen", endpoint) => address.listen.push(endpoint_of(endpoint, protocol)?),
                ("interface", name) if !name.is_empty() => address.interface = Some(name.to_owned()),
                ("multicast", "off") => address.no_multicast = true,
                ("multicast", "on") => address.no_multicast = false,
                ("insecure", "" | "yes" | "true") => address.insecure = true,
                _ => return Err(unknown(part)),
            }
        }
        Ok(address)
    }

    /// Reads the address of a process.
    pub(super) fn read_for_process(url: &str, protocol: Protocol) -> Result<Self, LanError> {
        let mut address = Self::read(url, protocol)?;
        if address.is_by_router() {
            let direct = address.peers.iter().map(|peer| ("peer", peer));
            let direct = direct.chain(address.listen.iter().map(|endpoint| ("listen", endpoint))).next();
            if let Some((name, endpoint)) = direct {
                return Err(LanError::ByRouter { part: format!("{name}={endpoint}") });
            }
            address.no_multicast = true;
        } else if protocol == Protocol::Quic && address.listen.is_empty() {
            address.listen.push(ANY_PORT_OVER_QUIC.to_owned());
        }
        Ok(address)
    }

    /// Whether a process with this address reaches everybody through a router.
    pub(super) const fn is_by_router(&self) -> bool {
        !self.routers.is_empty()
    }

    /// Where it connects.
    pub(super) fn connect(&self) -> Vec<String> {
        self.peers.iter().chain(&self.routers).cloned().collect()
    }
}

fn unknown(part: &str) -> LanError {
    LanError::Address { part: part.to_owned() }
}

/// An endpoint as Zenoh writes it: `tcp/host:port` or `quic/host:port`.
fn endpoint_of(text: &str, default: Protocol) -> Result<String, LanError> {
    let (protocol, place) = text.split_once('/').unwrap_or((default.name(), text));
    let has_port = place.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok() && !place.contains(['/', '#', '?', ' '])
    });
    match (protocol, default) {
        ("tcp", Protocol::Quic) if has_port => Err(LanError::Plain { endpoint: text.to_owned() }),
        ("tcp" | "quic", _) if has_port => Ok(format!("{protocol}/{place}")),
        _ => Err(LanError::Endpoint { endpoint: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Protocol = Protocol::Tcp;

    #[test]
    fn an_address_names_peers_and_what_to_listen_on() {
        let read = LanAddress::read(
            "lan:?peer=10.0.0.2:7447&router=quic/hub:7448&listen=tcp/[::]:7447&multicast=off",
            TCP,
        );
        let expected = LanAddress {
            peers: vec!["tcp/10.0.0.2:7447".to_owned()],
            routers: vec!["quic/hub:7448".to_owned()],
            listen: vec!["tcp/[::]:7447".to_owned()],
            no_multicast: true,
            ..LanAddress::default()
        };
        assert_eq!(read.unwrap(), expected);
        assert_eq!(LanAddress::read("LAN:", TCP).unwrap(), LanAddress::default());
        assert_eq!(
            LanAddress::read("lan:?interface=eth%30", TCP).unwrap().interface.as_deref(),
            Some("eth0")
        );
        assert!(LanAddress::read("lan:?insecure", TCP).unwrap().insecure);
    }

    #[test]
    fn a_process_behind_a_router_has_no_other_way() {
        let read = LanAddress::read_for_process("lan:?router=hub:7447&router=other:7447", TCP).unwrap();
        assert!(read.is_by_router() && read.no_multicast);
        assert_eq!(read.connect(), ["tcp/hub:7447", "tcp/other:7447"]);
        for part in ["peer=tcp/a:1", "listen=tcp/a:1"] {
            let refused = LanAddress::read_for_process(&format!("lan:?{part}&router=hub:7447"), TCP);
            assert!(matches!(refused, Err(LanError::ByRouter { part: named }) if named == part), "{part}");
        }
        assert!(!LanAddress::read_for_process("lan:?peer=a:1", TCP).unwrap().is_by_router());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["lan://host", "lan:host", "lan:?pear=a:1", "lan:?multicast=maybe", "lan:?interface="] {
            assert!(matches!(LanAddress::read(url, TCP), Err(LanError::Address { .. })), "{url}");
        }
        for url in [
            "lan:?peer=",
            "lan:?peer=a",
            "lan:?peer=udp/a:1",
            "lan:?peer=tls/a:1",
            "lan:?peer=a:99999",
            "lan:?peer=tcp/a:1%23x=y",
        ] {
            assert!(matches!(LanAddress::read(url, TCP), Err(LanError::Endpoint { .. })), "{url}");
        }
    }

    #[test]
    fn with_certificates_endpoints_are_of_quic_and_of_nothing_else() {
        let read = |url: &str| LanAddress::read_for_process(url, Protocol::Quic);
        let address = read("lan:?peer=hub:7447").unwrap();
        assert_eq!((&*address.peers[0], &*address.listen[0]), ("quic/hub:7447", "quic/[::]:0"));
        assert_eq!(read("lan:?listen=0.0.0.0:7447").unwrap().listen, ["quic/0.0.0.0:7447"]);
        assert!(read("lan:?router=hub:7447").unwrap().listen.is_empty());
        for part in ["peer", "listen", "router"] {
            let refused = read(&format!("lan:?{part}=tcp/hub:7447"));
            assert!(
                matches!(refused, Err(LanError::Plain { endpoint }) if endpoint == "tcp/hub:7447"),
                "{part}"
            );
        }
    }
}
