//! The address of the network: `lan:` and what may follow it.

use percent_encoding::percent_decode_str;

use super::error::LanError;

/// What an address such as `lan:?peer=tcp/192.168.1.20:7447` says.
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

impl LanAddress {
    /// Reads an address. The scheme has been looked at already.
    pub(super) fn read(url: &str) -> Result<Self, LanError> {
        let rest = url.split_once(':').map_or("", |(_, rest)| rest);
        let Some(query) = rest.strip_prefix('?') else {
            return if rest.is_empty() { Ok(Self::default()) } else { Err(unknown(rest)) };
        };
        let mut address = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| unknown(part))?;
            match (name, &*value) {
                ("peer", endpoint) => address.peers.push(endpoint_of(endpoint)?),
                ("router", endpoint) => address.routers.push(endpoint_of(endpoint)?),
                ("listen", endpoint) => address.listen.push(endpoint_of(endpoint)?),
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
    pub(super) fn read_for_process(url: &str) -> Result<Self, LanError> {
        let mut address = Self::read(url)?;
        if address.is_by_router() {
            let direct = address.peers.iter().map(|peer| ("peer", peer));
            let direct = direct.chain(address.listen.iter().map(|endpoint| ("listen", endpoint))).next();
            if let Some((name, endpoint)) = direct {
                return Err(LanError::ByRouter { part: format!("{name}={endpoint}") });
            }
            address.no_multicast = true;
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

/// An endpoint as Zenoh writes it: `tcp/host:port` or `tls/host:port`, with TCP where nothing is said.
fn endpoint_of(text: &str) -> Result<String, LanError> {
    let (protocol, place) = text.split_once('/').unwrap_or(("tcp", text));
    let has_port = place.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok() && !place.contains(['/', '#', '?', ' '])
    });
    if matches!(protocol, "tcp" | "tls") && has_port {
        Ok(format!("{protocol}/{place}"))
    } else {
        Err(LanError::Endpoint { endpoint: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_peers_and_what_to_listen_on() {
        let read = LanAddress::read(
            "lan:?peer=10.0.0.2:7447&router=tls/hub:7448&listen=tcp/[::]:7447&multicast=off",
        );
        let expected = LanAddress {
            peers: vec!["tcp/10.0.0.2:7447".to_owned()],
            routers: vec!["tls/hub:7448".to_owned()],
            listen: vec!["tcp/[::]:7447".to_owned()],
            no_multicast: true,
            ..LanAddress::default()
        };
        assert_eq!(read.unwrap(), expected);
        assert_eq!(LanAddress::read("LAN:").unwrap(), LanAddress::default());
        assert_eq!(LanAddress::read("lan:?interface=eth%30").unwrap().interface.as_deref(), Some("eth0"));
        assert!(LanAddress::read("lan:?insecure").unwrap().insecure);
    }

    #[test]
    fn a_process_behind_a_router_has_no_other_way() {
        let read = LanAddress::read_for_process("lan:?router=hub:7447&router=other:7447").unwrap();
        assert!(read.is_by_router() && read.no_multicast);
        assert_eq!(read.connect(), ["tcp/hub:7447", "tcp/other:7447"]);
        for part in ["peer=tcp/a:1", "listen=tcp/a:1"] {
            let refused = LanAddress::read_for_process(&format!("lan:?{part}&router=hub:7447"));
            assert!(matches!(refused, Err(LanError::ByRouter { part: named }) if named == part), "{part}");
        }
        assert!(!LanAddress::read_for_process("lan:?peer=a:1").unwrap().is_by_router());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["lan://host", "lan:host", "lan:?pear=a:1", "lan:?multicast=maybe", "lan:?interface="] {
            assert!(matches!(LanAddress::read(url), Err(LanError::Address { .. })), "{url}");
        }
        for url in
            ["lan:?peer=", "lan:?peer=a", "lan:?peer=udp/a:1", "lan:?peer=a:99999", "lan:?peer=tcp/a:1%23x=y"]
        {
            assert!(matches!(LanAddress::read(url), Err(LanError::Endpoint { .. })), "{url}");
        }
    }
}
