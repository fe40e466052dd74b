//! The settings of the gateway in a configuration: the section `[service.gateway]`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use aether_chassis::config::{Count, OrOff, Section};
use serde::{Deserialize, Serialize};

use crate::GatewayOptions;

/// The settings of the gateway. `config/default.toml` describes each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GatewaySettings {
    /// The HTTP address; off for the default address, or a free port if that is taken.
    pub listen: OrOff<ListenAddress>,
    /// Whether patterns in the traffic are detected.
    pub physics: bool,
    /// The maximum number of channels with their own line.
    pub max_channels: Count<1, 1_000_000>,
}

/// An IP address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(pub SocketAddr);

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080, with port 0 for any free one")]
pub struct AddressError;

impl FromStr for ListenAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.parse().map(Self).map_err(|_| AddressError)
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Section for GatewaySettings {
    const NAME: &'static str = "gateway";
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self { listen: OrOff::Off, physics: true, max_channels: Count::new(500).unwrap_or(Count::LEAST) }
    }
}

impl GatewaySettings {
    /// The options of the gateway.
    #[must_use]
    pub fn options(&self) -> GatewayOptions {
        let options =
            GatewayOptions::default().physics(self.physics).max_channels(self.max_channels.as_usize());
        match self.listen {
            OrOff::On(ListenAddress(address)) => options.listen(address),
            OrOff::Off => options,
        }
    }
}
