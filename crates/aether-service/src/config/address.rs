//! Addresses in settings: where a program listens, and where its telemetry goes.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use aether_core::medium::without_secrets;
use serde::{Deserialize, Serialize};

use super::quantity::QuantityError;

/// An IP address and a port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(pub SocketAddr);

/// The address of a collector of OpenTelemetry, without the paths of the signals: `http://host:4318`. What is shown of it has
/// no password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CollectorAddress(String);

impl CollectorAddress {
    /// The address as text, with its password.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ListenAddress {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const ALLOWED: &str = "an IP address and a port, such as 127.0.0.1:8080, 127.0.0.1:9464 or [::1]:9464, with port 0 for any free one";
        text.parse().map(Self).map_err(|_| QuantityError::new(text, ALLOWED))
    }
}

impl FromStr for CollectorAddress {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        const ALLOWED: &str =
            "http://host:port or https://host:port, such as http://127.0.0.1:4318, without a query";
        let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let is_address = rest.is_some_and(|rest| {
            let host = rest.split('/').next().unwrap_or_default();
            // The paths of the signals are appended, so a query would swallow them.
            !host.is_empty()
                && !rest.contains(['?', '#'])
                && rest.chars().all(|character| character.is_ascii_graphic())
        });
        if is_address {
            Ok(Self(text.to_owned()))
        } else {
            Err(QuantityError::new(without_secrets(text), ALLOWED))
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = QuantityError;
    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl TryFrom<String> for CollectorAddress {
    type Error = QuantityError;
    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

impl From<CollectorAddress> for String {
    fn from(address: CollectorAddress) -> Self {
        address.0
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CollectorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(&self.0))
    }
}

impl fmt::Debug for CollectorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectorAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_with_what_is_allowed() {
        for good in ["http://127.0.0.1:4318", "https://collector.example/otlp"] {
            assert_eq!(good.parse::<CollectorAddress>().unwrap().as_str(), good);
        }
        let secret: CollectorAddress = "http://user:s3cret@collector.example".parse().unwrap();
        assert_eq!(format!("{secret} {secret:?}").matches("http://***@collector.example").count(), 2);
        for bad in [
            "http://user:s3cret@host/otlp?key=abc",
            "http://host/#x",
            "",
            "127.0.0.1:4318",
            "http://",
            "http:///v1",
            "http://a b",
            "grpc://a:4317",
        ] {
            let error = bad.parse::<CollectorAddress>().unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(error.contains("http://host:port"), "{error}");
        }
        assert!("localhost".parse::<ListenAddress>().unwrap_err().to_string().contains("127.0.0.1:9464"));
        assert_eq!("[::1]:0".parse::<ListenAddress>().unwrap().to_string(), "[::1]:0");
    }
}
