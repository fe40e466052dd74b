//! The arguments of a medium, `--medium` to `--signers`.

use std::path::PathBuf;
use std::time::Duration;

use aether_core::medium::Wire;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::quantity::Time;

/// The arguments of a medium, as far as they were given: the uppermost layer of the section `[medium]`.
#[derive(Debug, Clone, Default, Args)]
#[non_exhaustive]
pub struct GivenMedium {
    /// The address: local: (inside this process), nats://host:port or, where it is built in, lan:. Several in quotes, separated
    /// by spaces, are paths: the first that reaches everybody is used [env: AETHER_MEDIUM=] [default: local:]
    #[arg(id = "medium", long = "medium", value_name = "URL", help_heading = "Medium")]
    pub url: Option<String>,

    /// NATS only: the subject prefix of all channels. It separates systems on one server [env: AETHER_PREFIX=] [default:
    /// aether]
    #[arg(long, value_name = "NAME", help_heading = "Medium")]
    pub prefix: Option<String>,

    /// NATS only: the wire format [env: AETHER_WIRE=] [default: frames]
    #[arg(long, value_name = "FORMAT", help_heading = "Medium", value_parser = wire_parser())]
    pub wire: Option<Wire>,

    /// How long to retry an unreachable server, such as 30s or 5m; 0 to fail at once [env: AETHER_WAIT=] [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Medium", value_parser = time)]
    pub wait: Option<Duration>,

    /// NATS: the file with the secret of this program: credentials:FILE, nkey:FILE, token:FILE, password:USER:FILE, or off
    /// [env: AETHER__MEDIUM__LOGIN=] [default: off]
    #[arg(long, value_name = "KIND:FILE", help_heading = "Medium")]
    pub login: Option<String>,

    /// NATS and lan: the authorities (PEM) that are trusted instead of the system's, or off. Servers without TLS are
    /// refused [env: AETHER__MEDIUM__CA=] [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Medium")]
    pub ca: Option<PathBuf>,

    /// NATS and lan: the certificate of this program and its key (PEM), or off [env: AETHER__MEDIUM__CERTIFICATE=] [default:
    /// off]
    #[arg(long, value_name = "FILE,KEY", help_heading = "Medium")]
    pub certificate: Option<String>,

    /// NATS and lan: the file with the keys of sealed waves, from `aether keys new`, or off [env: AETHER_KEYS=]
    /// [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Medium")]
    pub keys: Option<PathBuf>,

    /// NATS: the file with the key that signs what this program sends, from `aether keys new --signing`, or off [env:
    /// AETHER_SIGNING_KEY=] [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Medium")]
    pub signing_key: Option<PathBuf>,

    /// NATS: the list of signers, or off. Messages that nobody on it signed are refused [env: AETHER_SIGNERS=]
    /// [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Medium")]
    pub signers: Option<PathBuf>,
}

/// Reads the name of a wire format.
fn wire_parser() -> impl TypedValueParser<Value = Wire> {
    PossibleValuesParser::new(["frames", "cloudevents"]).try_map(|text| text.parse::<Wire>())
}

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use a number with a unit, such as 500ms, 30s or 5m, or 0")]
struct TimeError;

fn time(text: &str) -> Result<Duration, TimeError> {
    text.parse().map(|Time(time)| time).map_err(|_| TimeError)
}
