//! What is wrong with a configuration: every mistake with its place, and what is allowed there.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a value of the configuration comes from. Later layers replace earlier ones, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The default in the code.
    BuiltIn,
    /// The default, bounded by the memory limit of the container or the service manager.
    MemoryLimit {
        /// The limit in bytes.
        bytes: u64,
    },
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        variable: String,
    },
    /// An argument of the program.
    Argument {
        /// As it is written on the command line.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::MemoryLimit { bytes } => write!(f, "an eighth of the memory limit of {} MiB", bytes >> 20),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Argument { name } => f.write_str(name),
        }
    }
}

/// What is wrong at one place of a configuration.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No setting has this name.
    #[error("there is no setting {key}{}", hint(.nearest.as_deref()))]
    Unknown {
        /// The name as given.
        key: String,
        /// The most similar name that exists.
        nearest: Option<String>,
    },
    /// The value has the wrong type, or is out of range.
    #[error("{key}: {reason}")]
    Value {
        /// The name of the setting.
        key: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// There is a value where a section belongs.
    #[error("{key} is a section: its settings are {}", .settings.join(", "))]
    Section {
        /// The name of the section.
        key: String,
        /// The names in it.
        settings: Vec<String>,
    },
    /// The text is not TOML.
    #[error("this is not TOML: {reason}")]
    Syntax {
        /// The expectation of the parser.
        reason: String,
    },
    /// A file cannot be read.
    #[error("the file cannot be read: {source}")]
    Unreadable {
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// A file is too large for a configuration.
    #[error("the file has {bytes} bytes: a configuration has at most {}", super::file::MAX_BYTES)]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// A file that was there when the program started is gone.
    #[error("the file is gone")]
    Gone,
    /// The folder does not exist although it was named.
    #[error("there is no such folder: name the folder with default.toml in it, or leave the name out")]
    NoFolder,
    /// The profile has no file.
    #[error("the profile {profile:?} has no file: the profiles here are {}", list(.profiles))]
    NoProfile {
        /// The profile as given.
        profile: String,
        /// Those that exist.
        profiles: Vec<String>,
    },
    /// The name of the profile cannot be the name of a file.
    #[error("{profile:?} is not the name of a profile: use 1 to 64 letters, digits, hyphens and underscores")]
    ProfileName {
        /// The profile as given.
        profile: String,
    },
    /// An argument that is not a pair.
    #[error("{given:?} is not a setting: use NAME=VALUE, such as inbox.floor=0.2")]
    NotPair {
        /// The argument as given.
        given: String,
    },
    /// A variable is not text.
    #[error("the value is not UTF-8")]
    NotText,
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || ": `aether config show` lists those that exist".to_owned(),
        |nearest| format!(": did you mean {nearest}?"),
    )
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A mistake in a configuration.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{origin}: {problem}")]
#[non_exhaustive]
pub struct Mistake {
    /// Where it is.
    pub origin: Origin,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// A configuration that is not valid, with all of its mistakes. Nothing of it is used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", describe(.mistakes))]
#[non_exhaustive]
pub struct ConfigError {
    /// At least one, in the order of the layers and lines.
    pub mistakes: Vec<Mistake>,
}

fn describe(mistakes: &[Mistake]) -> String {
    let all: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    match all.len() {
        1 => format!("the configuration has a mistake: {}", all[0]),
        count => format!("the configuration has {count} mistakes: {}", all.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_states_its_place_and_the_remedy() {
        let origin = Origin::File { path: "config/default.toml".into(), line: 7 };
        let nearest = Some("inbox.max_waves".to_owned());
        let mistake =
            Mistake { origin, problem: Problem::Unknown { key: "inbox.max_wave".to_owned(), nearest } };
        let line = "config/default.toml:7: there is no setting inbox.max_wave: did you mean inbox.max_waves?";
        assert_eq!(mistake.to_string(), line);
        let both = ConfigError { mistakes: vec![mistake.clone(), mistake] };
        assert_eq!(both.to_string(), format!("the configuration has 2 mistakes: {line}; {line}"));
        assert_eq!(crate::error_chain(&both), both.to_string(), "causes are not repeated");
    }
}
