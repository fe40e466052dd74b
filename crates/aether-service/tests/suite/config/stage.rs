//! A folder with the files of a configuration, and the section of a program.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_service::config::{ConfigArgs, ConfigError, Configuration, OrOff, Reloads, Section, Time};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::watch::Receiver;

/// For what takes milliseconds on an idle machine and may take seconds on a busy one. Nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Greeter {
    pub(crate) greeting: String,
    pub(crate) guests: u32,
    pub(crate) pause: OrOff<Time>,
    pub(crate) token: String,
}

impl Default for Greeter {
    fn default() -> Self {
        Self { greeting: "hello".to_owned(), guests: 5, pause: OrOff::Off, token: String::new() }
    }
}

impl Section for Greeter {
    const NAME: &'static str = "greeter";
    const SECRETS: &'static [&'static str] = &["token"];
    const LIVE: &'static [&'static str] = &["greeting"];
}

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// As editors do.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let new = self.file(".new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file(name)).unwrap();
    }

    pub(crate) fn args(&self, profile: Option<&str>, set: &[&str]) -> ConfigArgs {
        let mut args = ConfigArgs::default();
        args.folder = Some(self.path().to_owned());
        args.profile = profile.map(str::to_owned);
        args.set = set.iter().map(|pair| (*pair).to_owned()).collect();
        args
    }

    pub(crate) fn load(&self) -> Result<Configuration, ConfigError> {
        self.args(None, &[]).load::<Greeter>()
    }
}

/// The next version that was applied or refused.
pub(crate) async fn next(reloads: &mut Receiver<Reloads>) -> Reloads {
    tokio::time::timeout(PATIENCE, reloads.changed()).await.expect("the change is noticed").unwrap();
    reloads.borrow_and_update().clone()
}
