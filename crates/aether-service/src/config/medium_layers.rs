//! How a program without a configuration of its own reads the section `[medium]`: the commands of `aether` do so, and
//! programs that flatten [`MediumArgs`].

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::args::{ConfigArgs, refused};
use super::file::Layer;
use super::given_medium::GivenMedium;
use super::mistake::{ConfigError, Origin, Problem};
use super::schema::{NoSection, Schema};
use super::sources::Sources;
use crate::medium_args::MediumArgs;

/// The arguments behind [`MediumArgs`].
#[derive(Debug, Clone, Args)]
struct MediumLayers {
    /// The folder with default.toml, whose section medium names the medium, the login and the certificates [env:
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
    /// The section `[medium]` of the file `default.toml` in a folder, without the environment: for a program that
    /// connects to several media.
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
    use std::time::Duration;

    use aether_core::medium::Wire;
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
