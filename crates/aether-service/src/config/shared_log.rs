//! The log that programs share, and why a program cannot have the log of its configuration.

use serde::{Deserialize, Serialize};

use super::quantity::QuantityError;

/// A log that programs share: `jetstream:orders`, at the server of `medium.url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SharedLog {
    /// The name of the stream.
    pub stream: String,
}

impl TryFrom<String> for SharedLog {
    type Error = QuantityError;
    fn try_from(text: String) -> Result<Self, QuantityError> {
        const ALLOWED: &str =
            "jetstream:NAME, such as jetstream:orders: a name has 1 to 64 letters, digits, '-' and '_'";
        match text.strip_prefix("jetstream:").filter(|name| is_name(name)) {
            Some(stream) => Ok(Self { stream: stream.to_owned() }),
            None => Err(QuantityError::new(text, ALLOWED)),
        }
    }
}

impl From<SharedLog> for String {
    fn from(log: SharedLog) -> Self {
        format!("jetstream:{}", log.stream)
    }
}

/// Whether a text can name a stream or a consumer.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Why a program cannot have the durable log that its configuration names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedLogError {
    /// This kind of log has no such setting.
    #[error("durable.{log} does not go with durable.{setting}: {allowed}")]
    With {
        /// The kind of log: `folder`, or `log` for JetStream.
        log: &'static str,
        /// The setting, without its section.
        setting: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// No path of the medium is a NATS server.
    #[error("durable.log needs a NATS server: set medium.url to nats:// or tls://")]
    NoServer,
    /// The program cannot seal a folder.
    #[error(
        "medium.keys seal the log in durable.folder, which needs the feature nats or lan of aether-service: build with one, or set durable.sealed = false"
    )]
    Keys,
    /// The program cannot use JetStream.
    #[error(
        "durable.log needs the feature jetstream of aether-service, which this program was built without"
    )]
    Feature,
}

/// Refuses the first of these settings that is set.
pub(super) fn refuse<const N: usize>(
    log: &'static str,
    others: [(&'static str, bool, &'static str); N],
) -> Result<(), SharedLogError> {
    match others.into_iter().find(|(_, is_set, _)| *is_set) {
        Some((setting, _, allowed)) => Err(SharedLogError::With { log, setting, allowed }),
        None => Ok(()),
    }
}
