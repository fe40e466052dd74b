//! The arguments of a program that has a configuration, and the loading of its layers.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use aether_core::medium::Wire;

use super::Configuration;
use super::address::ListenAddress;
use super::environment::{Given, arguments, environment};
use super::machine::memory_bounds;
use super::mistake::{ConfigError, Mistake, Origin, Problem};
use super::quantity::Time;
use super::schema::{NoSection, Schema, Section};
use super::sources::Sources;
use crate::cgroup::CgroupLimits;
use crate::medium_args::{time, wire_parser};

/// The folder of the files, if it exists.
const DEFAULT_FOLDER: &str = "config";

/// The arguments of a program that has a configuration, to be flattened into its own. They are the uppermost layer.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Configuration")]
#[non_exhaustive]
pub struct ConfigArgs {
    /// The folder with default.toml and the files of the profiles [env: AETHER_CONFIG=] [default: config, if it exists]
    #[arg(long = "config", value_name = "FOLDER")]
    pub folder: Option<PathBuf>,

    /// The profile, whose file PROFILE.toml replaces settings of default.toml [env: AETHER_PROFILE=]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,

    /// Sets any setting, such as inbox.floor=0.2; `aether config show` lists them
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,

    /// Serve the metrics for Prometheus on this address, such as 127.0.0.1:9464 [default: off]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<ListenAddress>,

    /// The address: local: (inside this process), nats://host:port or, where it is built in, lan:. Several in quotes, separated
    /// by spaces, are paths: the first that reaches everybody is used [env: AETHER_MEDIUM=] [default: local:]
    #[arg(long, value_name = "URL", help_heading = "Medium")]
    pub medium: Option<String>,

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

impl ConfigArgs {
    /// Loads the configuration of a program with one section of its own: built-in defaults, files, environment,
    /// arguments.
    ///
    /// # Errors
    /// [`ConfigError`] with all mistakes, each with its place and what is allowed.
    pub fn load<S: Section>(&self) -> Result<Configuration, ConfigError> {
        self.loader().section::<S>().load()
    }

    /// Loads the configuration of a program without settings of its own.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_common(&self) -> Result<Configuration, ConfigError> {
        self.load::<NoSection>()
    }

    /// For a program with several sections, or with arguments of its own for settings.
    pub fn loader(&self) -> Loader {
        let loader = Loader { args: self.clone(), schema: Schema::new(), given: Vec::new() };
        loader
            .given("medium.url", "--medium", self.medium.as_ref())
            .given("medium.prefix", "--prefix", self.prefix.as_ref())
            .given("medium.wire", "--wire", self.wire.map(Wire::as_str))
            .given("medium.wait", "--wait", self.wait.map(Time))
            .given("medium.keys", "--keys", self.keys.as_ref().map(|path| path.display()))
            .given(
                "medium.signing_key",
                "--signing-key",
                self.signing_key.as_ref().map(|path| path.display()),
            )
            .given("medium.signers", "--signers", self.signers.as_ref().map(|path| path.display()))
            .given("metrics.listen", "--metrics", self.metrics)
    }
}

/// Loads a configuration: [`ConfigArgs::loader`].
#[derive(Debug)]
#[must_use = "nothing is read before load()"]
pub struct Loader {
    args: ConfigArgs,
    schema: Schema,
    given: Vec<Given>,
}

impl Loader {
    /// Adds the section of a program.
    pub fn section<S: Section>(mut self) -> Self {
        self.schema = self.schema.with::<S>();
        self
    }

    /// Sets a setting from an argument of the program, if that was given. `argument` is its name in messages.
    pub fn given(mut self, key: &str, argument: &str, value: Option<impl Display>) -> Self {
        self.given.extend(value.map(|value| Given {
            key: key.to_owned(),
            name: argument.to_owned(),
            text: value.to_string(),
        }));
        self
    }

    /// Reads and checks all layers, and sets the filter of the log.
    ///
    /// # Errors
    /// [`ConfigError`] with all mistakes, each with its place and what is allowed.
    pub fn load(self) -> Result<Configuration, ConfigError> {
        let Self { args, schema, given } = self;
        let by_name = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let named = args.folder.or_else(|| by_name("AETHER_CONFIG").map(PathBuf::from));
        let folder = match named {
            Some(folder) if folder.is_dir() => Some(folder),
            Some(path) => return Err(refused(Origin::File { path, line: 1 }, Problem::NoFolder)),
            None => Some(PathBuf::from(DEFAULT_FOLDER)).filter(|folder| folder.is_dir()),
        };
        let profile = args.profile.or_else(|| by_name("AETHER_PROFILE"));
        if let Some(profile) = &profile {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            let profile = profile.clone();
            if profile.is_empty() || profile.len() > 64 || !profile.bytes().all(is_plain) {
                let name = "--profile or AETHER_PROFILE".to_owned();
                return Err(refused(Origin::Argument { name }, Problem::ProfileName { profile }));
            }
            if folder.is_none() {
                let path = DEFAULT_FOLDER.into();
                let problem = Problem::NoProfile { profile, profiles: Vec::new() };
                return Err(refused(Origin::File { path, line: 1 }, problem));
            }
        }
        let above_files = vec![environment(std::env::vars_os()), arguments(&args.set, &given)];
        let below_files = memory_bounds(CgroupLimits::read().memory_bytes);
        let configuration =
            Configuration::read(Sources { schema, folder, profile, below_files, above_files })?;
        configuration.apply_log();
        Ok(configuration)
    }
}

fn refused(origin: Origin, problem: Problem) -> ConfigError {
    ConfigError { mistakes: vec![Mistake { origin, problem }] }
}
