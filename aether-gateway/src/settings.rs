//! The settings of the gateway in a configuration: the section `[service.gateway]`.

use std::net::SocketAddr;

use aether_chassis::config::{Count, OrOff, Section};
use serde::{Deserialize, Serialize};

use crate::GatewayOptions;

/// The settings of the gateway. `config/default.toml` describes each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GatewaySettings {
    /// The HTTP address; off for the default address, or a free port if that is taken.
    pub listen: OrOff<SocketAddr>,
    /// Whether patterns in the traffic are detected.
    pub physics: bool,
    /// The maximum number of channels with their own line.
    pub max_channels: Count<1, 1_000_000>,
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
            OrOff::On(address) => options.listen(address),
            OrOff::Off => options,
        }
    }
}
