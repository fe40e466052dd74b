//! The address of the network: `lan:` and what may follow it.

use percent_encoding::percent_decode_str;

use super::error::LanError;

/// What an address such as `lan:?peer=tcp/192.168.1.20:7447` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LanAddress {
    /// Endpoints of peers, and of routers, to connect to.
    pub(super) peers: Vec<String>,
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
                ("peer" | "router", endpoint) => address.peers.push(endpoint_of(endpoint)?),
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
            peers: vec!["tcp/10.0.0.2:7447".to_owned(), "tls/hub:7448".to_owned()],
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
