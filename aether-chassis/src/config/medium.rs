//! The settings of the medium: the section `[medium]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use aether_core::ConnectError;
#[cfg(feature = "nats")]
use aether_core::NatsOptions;
#[cfg(feature = "lan")]
use aether_core::medium::LanOptions;
use aether_core::medium::{Wire, check_address, without_secrets};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::login::{CertificateFiles, LoginFile};
use super::quantity::{OrOff, Time};
use crate::MediumArgs;

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
    /// NATS and lan: the authorities that are trusted instead of those of the system.
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

fn path(setting: &OrOff<PathBuf>) -> Option<PathBuf> {
    match setting {
        OrOff::On(path) => Some(path.clone()),
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
            keys: path(&self.keys),
            signing_key: path(&self.signing_key),
            signers: path(&self.signers),
        }
    }

    /// The options of the NATS medium: how this program logs in and what it trusts, with the default outbox. The server
    /// shows the client name for the connection.
    #[cfg(feature = "nats")]
    pub fn nats(&self, client_name: &str) -> NatsOptions {
        let mut options = self.args().nats(client_name);
        if let OrOff::On(login) = &self.login {
            options = options.login(login.clone().into());
        }
        if let OrOff::On(name) = &self.inbox {
            options = options.inbox(name);
        }
        if let OrOff::On(path) = &self.ca {
            options = options.authorities(path);
        }
        if let OrOff::On(CertificateFiles { certificate, key }) = &self.certificate {
            options = options.certificate(certificate, key);
        }
        options
    }

    /// The options of the medium of a local network, with the default outbox. Its peers see the name. `ca` and `certificate`
    /// are for `quic/` endpoints, which need both.
    #[cfg(feature = "lan")]
    pub fn lan(&self, name: &str) -> LanOptions {
        let options = self.args().lan(name);
        match (&self.ca, &self.certificate) {
            (OrOff::On(ca), OrOff::On(CertificateFiles { certificate, key })) => {
                options.certificates(ca, certificate, key)
            }
            _ => options,
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

    #[cfg(feature = "lan")]
    #[test]
    fn the_options_of_a_local_network_have_the_name_the_keys_and_certificates_that_are_complete() {
        let mut settings = MediumSettings { keys: OrOff::On("keys".into()), ..MediumSettings::default() };
        let shown = |settings: &MediumSettings| format!("{:?}", settings.lan("shop"));
        let without = shown(&settings);
        assert!(without.contains("name: Some(\"shop\")") && without.contains("\"keys\""), "{without}");
        assert!(without.contains("certificates: None"), "{without}");
        settings.ca = OrOff::On("ca.pem".into());
        assert_eq!(shown(&settings), without, "authorities alone make no TLS");
        let (certificate, key) = ("own.pem".into(), "own.key".into());
        settings.certificate = OrOff::On(CertificateFiles { certificate, key });
        let with = shown(&settings);
        assert!(["ca.pem", "own.pem", "own.key"].iter().all(|file| with.contains(file)), "{with}");
    }
}
