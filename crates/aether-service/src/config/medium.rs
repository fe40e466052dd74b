//! The settings of the medium: the section `[medium]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use aether::check_address;
use aether_core::ConnectError;
use aether_core::medium::Wire;
use aether_core::medium::without_secrets;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::quantity::{OrOff, Time};
use crate::login::{CertificateFiles, LoginFile};
use crate::medium_args::MediumArgs;

/// Where the waves travel. `Debug` does not show secrets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MediumSettings {
    /// The address.
    #[serde(deserialize_with = "address")]
    pub url: String,
    /// NATS: the subject prefix.
    pub prefix: String,
    /// NATS: the wire format.
    #[serde(with = "wire")]
    pub wire: Wire,
    /// NATS: how long to retry an unreachable server.
    pub wait: Time,
    /// NATS: the file with the secret of this program.
    pub login: OrOff<LoginFile>,
    /// NATS: the name whose inbox receives answers.
    pub inbox: OrOff<String>,
    /// NATS and lan: the authorities that are trusted instead of the system's.
    pub ca: OrOff<PathBuf>,
    /// NATS and lan: the certificate of this program and its key.
    pub certificate: OrOff<CertificateFiles>,
    /// NATS and lan: the file with the keys of sealed waves.
    pub keys: OrOff<PathBuf>,
    /// NATS: the file with the key that signs what this program sends.
    pub signing_key: OrOff<PathBuf>,
    /// NATS: the list of signers.
    pub signers: OrOff<PathBuf>,
}

impl fmt::Debug for MediumSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, prefix, wire, wait, login, inbox, ca, certificate, keys, signing_key, signers } =
            self;
        f.debug_struct("MediumSettings")
            .field("url", &without_secrets(url))
            .field("prefix", prefix)
            .field("wire", wire)
            .field("wait", wait)
            .field("login", login)
            .field("inbox", inbox)
            .field("ca", ca)
            .field("certificate", certificate)
            .field("keys", keys)
            .field("signing_key", signing_key)
            .field("signers", signers)
            .finish()
    }
}

mod wire {
    use aether_core::medium::Wire;
    use serde::{Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(super) fn serialize<S: Serializer>(wire: &Wire, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(wire.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wire, D::Error> {
        super::super::quantity::from_text(deserializer, "frames or cloudevents")
    }
}

/// An address that some medium could have: a program may have media of its own.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let url = String::deserialize(deserializer)?;
    match check_address(&url) {
        Err(ConnectError::Scheme { scheme, .. }) if is_scheme(&scheme) => Ok(url),
        Ok(()) | Err(ConnectError::Feature { .. }) => Ok(url),
        Err(error) => Err(D::Error::custom(error)),
    }
}

/// Whether a text is the scheme of an address (RFC 3986).
fn is_scheme(text: &str) -> bool {
    let is_first = text.starts_with(|first: char| first.is_ascii_alphabetic());
    is_first && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn given<T: Clone>(setting: &OrOff<T>) -> Option<T> {
    match setting {
        OrOff::On(value) => Some(value.clone()),
        OrOff::Off => None,
    }
}

impl Default for MediumSettings {
    fn default() -> Self {
        let MediumArgs { medium, prefix, wire, .. } = MediumArgs::default();
        Self {
            url: medium,
            prefix,
            wire,
            wait: Time(Duration::from_secs(30)),
            login: OrOff::Off,
            inbox: OrOff::Off,
            ca: OrOff::Off,
            certificate: OrOff::Off,
            keys: OrOff::Off,
            signing_key: OrOff::Off,
            signers: OrOff::Off,
        }
    }
}

impl MediumSettings {
    /// The same as arguments, with which a program connects.
    #[must_use]
    pub fn args(&self) -> MediumArgs {
        MediumArgs {
            medium: self.url.clone(),
            prefix: self.prefix.clone(),
            wire: self.wire,
            wait: self.wait.0,
            login: given(&self.login),
            inbox: given(&self.inbox),
            ca: given(&self.ca),
            certificate: given(&self.certificate),
            keys: given(&self.keys),
            signing_key: given(&self.signing_key),
            signers: given(&self.signers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_and_no_token_of_an_address_is_in_what_debug_shows() {
        let mut settings = MediumSettings::default();
        "nats://shop:s3cret@a,nats://s3cret@b:4222".clone_into(&mut settings.url);
        for shown in [format!("{settings:?}"), format!("{:?}", settings.args())] {
            assert!(!shown.contains("s3cret") && shown.contains("nats://***@a,nats://***@b:4222"), "{shown}");
        }
    }
}
