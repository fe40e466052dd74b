//! The arguments of a program that has a configuration, and the loading of its layers.

use std::fmt::Display;
use std::path::PathBuf;

use aether_core::medium::Wire;

use super::Configuration;
use super::address::ListenAddress;
use super::environment::{Given, arguments, environment};
use super::given_medium::GivenMedium;
use super::machine::memory_bounds;
use super::mistake::{ConfigError, Mistake, Origin, Problem};
use super::quantity::Time;
use super::schema::{NoSection, Schema, Section};
use super::sources::Sources;
use crate::cgroup::CgroupLimits;

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

    /// How the program connects.
    #[command(flatten)]
    pub medium: GivenMedium,
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
        self.medium.add_to(loader).given("metrics.listen", "--metrics", self.metrics)
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
        let configuration = Configuration::read(self.sources()?)?;
        configuration.apply_log();
        Ok(configuration)
    }

    /// The layers, which are not read yet.
    pub(super) fn sources(self) -> Result<Sources, ConfigError> {
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
        Ok(Sources { schema, folder, profile, below_files, above_files })
    }
}

pub(super) fn refused(origin: Origin, problem: Problem) -> ConfigError {
    ConfigError { mistakes: vec![Mistake { origin, problem }] }
}

impl GivenMedium {
    fn add_to(&self, loader: Loader) -> Loader {
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
