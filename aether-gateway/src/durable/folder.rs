//! A folder with durable logs, as the settings name it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aether_log::store::Retention;
use aether_service::config::{DurableSettings, OrOff};

/// A folder whose durable logs the gateway shows: the folder of a log, or one with the folders of several logs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogFolder {
    /// The folder.
    pub path: PathBuf,
    /// The retention of its logs, if it is known: a log does not record it.
    pub retention: Option<Retention>,
}

/// A text that names no folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name the folder of a log, or one with the folders of several logs, such as /var/lib/aether")]
pub struct LogFolderError;

impl LogFolder {
    /// The logs in this folder.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), retention: None }
    }

    /// The folder in which the programs of a configuration have their logs, with the configured retention; `None` if
    /// they have none.
    #[must_use]
    pub fn of(durable: &DurableSettings) -> Option<Self> {
        let OrOff::On(path) = &durable.folder else { return None };
        if durable.stored.0.is_empty() && durable.synced.0.is_empty() {
            return None;
        }
        Some(Self { path: path.clone(), retention: Some(durable.retention()) })
    }

    /// The named folders, and the folder of the configuration, which counts once.
    pub(crate) fn all(named: &[Self], durable: &DurableSettings) -> Vec<Self> {
        let of_all = Self::of(durable);
        let is_other = |folder: &&Self| of_all.as_ref().is_none_or(|all| all.path != folder.path);
        named.iter().filter(is_other).cloned().chain(of_all.clone()).collect()
    }

    /// The name of a log: the name of its folder.
    pub(super) fn name_of(path: &Path) -> String {
        path.file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }
}

impl FromStr for LogFolder {
    type Err = LogFolderError;

    fn from_str(text: &str) -> Result<Self, LogFolderError> {
        if text.is_empty() { Err(LogFolderError) } else { Ok(Self::new(text)) }
    }
}

impl fmt::Display for LogFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use aether_service::config::{Count, List};

    use super::*;

    #[test]
    fn the_folder_of_the_configuration_counts_once_and_has_its_retention() {
        let mut durable = DurableSettings::default();
        let named: Vec<LogFolder> = ["/logs", "/other/shop"].map(LogFolder::new).into();
        assert_eq!(LogFolder::all(&named, &durable), named);
        durable.folder = OrOff::On("/logs".into());
        assert_eq!(LogFolder::all(&named, &durable), named, "without durable channels there are no logs");
        durable.stored = List(vec!["orders.>".parse().unwrap()]);
        durable.max_waves = OrOff::On(Count::new(5).unwrap());
        let all = LogFolder::all(&named, &durable);
        assert_eq!(
            all.iter().map(|folder| folder.path.to_str().unwrap()).collect::<Vec<_>>(),
            ["/other/shop", "/logs"]
        );
        assert_eq!(all[1].retention.unwrap().max_records, Some(5));
        assert_eq!(LogFolder::name_of(Path::new("/logs/shop")), "shop");
        assert!("".parse::<LogFolder>().is_err());
    }
}
