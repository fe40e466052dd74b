//! The arguments of a medium, `--medium` to `--signers`, and how a program without a configuration of its own reads the section
//! `[medium]`: the commands of `aether` do so, and programs that flatten [`MediumArgs`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_core::medium::Wire;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::args::{ConfigArgs, Loader, refused};
use super::file::Layer;
use super::mistake::{ConfigError, Origin, Problem};
use super::quantity::Time;
use super::schema::{NoSection, Schema};
use super::sources::Sources;
use crate::medium_args::MediumArgs;

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

    /// NATS and lan: the authorities (PEM) that are trusted instead of those of the system, or off. Servers without TLS are
    /// refused [env: AETHER__MEDIUM__CA=] [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Medium")]
    pub ca: Option<PathBuf>,

    /// NATS and lan: the certificate of this program and its key (PEM), or off [env: AETHER__MEDIUM__CERTIFICATE=] [default:
    /// off]
    #[arg(long, value_name = "FILE,KEY", help_heading = "Medium")]
    pub certificate: Option<String>,

    /// NATS and lan: the file with the keys of sealed waves, from `aether keys new`, or off [env: AETHER_KEYS=] [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Medium")]
    pub keys: Option<PathBuf>,

    /// NATS: the file with the key that signs what this program sends, from `aether keys new --signing`, or off [env: AETHER_SIGNING_KEY=] [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Medium")]
    pub signing_key: Option<PathBuf>,

    /// NATS: the list of signers, or off. What nobody on it signed is refused [env: AETHER_SIGNERS=] [default: off]
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

impl GivenMedium {
    pub(super) fn add_to(&self, loader: Loader) -> Loader {
        let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        loader
            .given("medium.url", "--medium", self.url.as_ref())
            .given("medium.prefix", "--prefix", self.prefix.as_ref())
            .given("medium.wire", "--wire", self.wire.map(Wire::as_str))
            .given("medium.wait", "--wait", self.wait.map(Time))
            .given("medium.login", "--login", self.login.as_ref())
            .given("medium.ca", "--ca", shown(&self.ca))
            .given("medium.certificate", "--certificate", self.certificate.as_ref())
            .given("medium.keys", "--keys", shown(&self.keys))
            .given("medium.signing_key", "--signing-key", shown(&self.signing_key))
            .given("medium.signers", "--signers", shown(&self.signers))
    }
}

/// The arguments behind [`MediumArgs`].
#[derive(Debug, Clone, Args)]
struct MediumLayers {
    /// The folder with default.toml, whose section [medium] names the medium, the login and the certificates [env:
    /// AETHER_CONFIG=] [default: config, if it exists]
    #[arg(id = "config", long = "config", value_name = "FOLDER", help_heading = "Medium")]
    folder: Option<PathBuf>,

    /// The profile, whose file PROFILE.toml replaces settings of default.toml [env: AETHER_PROFILE=]
    #[arg(long, value_name = "PROFILE", help_heading = "Medium")]
    profile: Option<String>,

    #[command(flatten)]
    medium: GivenMedium,
}

impl MediumLayers {
    fn read(self) -> Result<MediumArgs, ConfigError> {
        let Self { folder, profile, medium } = self;
        let args = ConfigArgs { folder, profile, medium, ..ConfigArgs::default() };
        Ok(args.loader().section::<NoSection>().sources()?.read(&[])?.settings().medium.args())
    }
}

impl Args for MediumArgs {
    fn augment_args(command: Command) -> Command {
        MediumLayers::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        MediumLayers::augment_args_for_update(command)
    }
}

/// Reads the files and the environment below the arguments.
impl FromArgMatches for MediumArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let layers = MediumLayers::from_arg_matches(matches)?;
        layers.read().map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl MediumArgs {
    /// The section `[medium]` of the file `default.toml` in a folder, without the environment: for a program that connects to
    /// several media.
    ///
    /// # Errors
    /// [`ConfigError`] with all mistakes, each with its place and what is allowed.
    pub fn of_folder(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.to_owned();
        if !folder.is_dir() {
            return Err(refused(Origin::File { path, line: 1 }, Problem::NoFolder));
        }
        let (below_files, above_files) = (Layer::default(), Vec::new());
        let schema = Schema::new().with::<NoSection>();
        let sources = Sources { schema, folder: Some(path), profile: None, below_files, above_files };
        Ok(sources.read(&[])?.settings().medium.args())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        medium: MediumArgs,
    }

    fn parse(args: &[&str]) -> Result<MediumArgs, clap::Error> {
        Program::try_parse_from([&["program"], args].concat()).map(|program| program.medium)
    }

    #[test]
    fn arguments_are_read_and_a_wrong_wire_names_the_right_ones() {
        let args =
            parse(&["--medium", "nats://a:4222", "--prefix", "shop", "--wire", "cloudevents"]).unwrap();
        assert_eq!((args.medium.as_str(), args.prefix.as_str()), ("nats://a:4222", "shop"));
        assert_eq!(args.wire, Wire::CloudEvents);
        assert!(!args.is_local());

        let error = parse(&["--wire", "smoke"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("frames") && text.contains("cloudevents"), "{text}");
    }

    #[test]
    fn a_time_to_wait_is_thirty_seconds_unless_it_is_given() {
        let wait = |args: &[&str]| parse(args).map(|args| args.wait);
        assert_eq!(wait(&[]).unwrap().as_secs(), 30);
        assert_eq!(wait(&["--wait", "0"]).unwrap(), Duration::ZERO);
        assert_eq!(wait(&["--wait", "1m30s"]).unwrap().as_secs(), 90);
        assert!(wait(&["--wait", "soon"]).unwrap_err().to_string().contains("such as 500ms"));
    }

    #[test]
    fn arguments_replace_the_files_of_a_folder_and_mistakes_are_named_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("default.toml");
        let medium = "[medium]\nurl = \"nats://a:4222\"\nlogin = \"nkey:a\"\nca = \"ca.pem\"\n";
        fs::write(&file, medium).unwrap();
        let config = ["--config", folder.path().to_str().unwrap()];
        let args = parse(&[&config[..], &["--login", "password:shop:b", "--certificate", "c, d"]].concat());
        let args = args.unwrap();
        assert_eq!((args.medium.as_str(), args.ca), ("nats://a:4222", Some("ca.pem".into())));
        assert_eq!(args.login.unwrap().to_string(), "password:shop:b");
        assert_eq!(args.certificate.unwrap().to_string(), "c,d");
        assert_eq!(parse(&[&config[..], &["--login", "off"]].concat()).unwrap().login, None);
        assert_eq!(MediumArgs::of_folder(folder.path()).unwrap().login.unwrap().to_string(), "nkey:a");

        let error = parse(&[&config[..], &["--login", "b"]].concat()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--login") && error.to_string().contains("password:USER:PATH"));
        fs::write(&file, "[medium]\n\nlogn = \"nkey:a\"\n").unwrap();
        let error = parse(&config).unwrap_err().to_string();
        assert!(error.contains("default.toml:3") && error.contains("login"), "{error}");
        assert!(MediumArgs::of_folder(&folder.path().join("none")).is_err());
    }
}
