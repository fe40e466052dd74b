//! Known security advisories about the crates of `Cargo.lock`, carried in the repository.
//!
//! `cargo deny` takes the RustSec database from GitHub. `cargo xtask release` gives it `advisories.json` instead. Then
//! the check needs no other host than crates.io, and its result does not depend on the day. `cargo xtask advisories`
//! replaces the file. It keeps the metadata and the title of each advisory; cargo-deny compares nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::steps::{check, shown};
use crate::workspace::Workspace;

/// The database that `refresh` reads by default, as cargo-deny names it.
pub(crate) const UPSTREAM: &str = "https://github.com/RustSec/advisory-db";

/// The carried file, from the root of the workspace.
const FILE: &str = "crates/xtask/advisories.json";

/// An older database draws a warning.
const OLD: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The carried part of the database.
#[derive(Debug)]
pub(crate) struct Advisories {
    /// The day of the last change of the database, such as `2026-08-21`.
    date: String,
    /// The same, in seconds since 1970.
    seconds: u64,
    /// Each crate with an advisory, whether it is in `Cargo.lock` or not.
    crates: BTreeSet<String>,
    /// Advisories by their path in the database.
    texts: BTreeMap<String, String>,
}

/// Writes the carried file from a database: a URL, or a folder with a clone.
pub(crate) fn refresh(workspace: &Workspace, from: &str) -> Result<()> {
    let clone = workspace.target().join("advisory-db");
    if clone.exists() {
        fs::remove_dir_all(&clone)?;
    }
    check(Command::new("git").args(["clone", "--quiet", "--depth", "1", from]).arg(&clone))?;
    let locked = locked(workspace)?;
    let advisories = Advisories::read(&clone, &locked)?;
    fs::write(workspace.root().join(FILE), advisories.to_json()?)?;
    fs::remove_dir_all(&clone)?;
    println!("{FILE}: {advisories}");
    Ok(())
}

impl Advisories {
    /// Reads the carried file.
    ///
    /// # Errors
    ///
    /// If a crate was added to `Cargo.lock` since, and its advisories are not in the file.
    pub(crate) fn carried(workspace: &Workspace) -> Result<Self> {
        let text = fs::read_to_string(workspace.root().join(FILE)).context(FILE)?;
        let carried = Self::from_json(&text).with_context(|| format!("{FILE} is damaged"))?;
        let missing = carried.missing(&locked(workspace)?);
        if !missing.is_empty() {
            bail!(
                "{FILE} lacks the advisories about {}, new in Cargo.lock: run cargo xtask advisories",
                missing.join(", ")
            );
        }
        Ok(carried)
    }

    /// A warning if the database is old.
    pub(crate) fn warning(&self) -> Option<String> {
        let age = SystemTime::UNIX_EPOCH.elapsed().ok()?.saturating_sub(Duration::from_secs(self.seconds));
        let days = age.as_secs() / (24 * 60 * 60);
        (age > OLD).then(|| format!("the advisories are {days} days old: run cargo xtask advisories"))
    }

    /// Makes `folder` a database in the form that cargo-deny clones: a git repository.
    pub(crate) fn unpack(&self, folder: &Path) -> Result<()> {
        for (path, text) in &self.texts {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(path, text)?;
        }
        git(folder, &["init", "--quiet", "--initial-branch", "main"])?;
        git(folder, &["add", "--all"])?;
        let author =
            ["-c", "user.name=xtask", "-c", "user.email=xtask@localhost", "-c", "commit.gpgsign=false"];
        git(folder, &[&author[..], &["commit", "--quiet", "--message", &self.date]].concat())?;
        Ok(())
    }

    /// Reads a clone of the database.
    fn read(clone: &Path, locked: &BTreeSet<String>) -> Result<Self> {
        let head = git(clone, &["log", "-1", "--format=%cs %ct"])?;
        let (date, seconds) = head.trim().split_once(' ').context("git log printed no date")?;
        let mut read = Self {
            date: date.to_owned(),
            seconds: seconds.parse()?,
            crates: BTreeSet::new(),
            texts: BTreeMap::new(),
        };
        for folder in entries(&clone.join("crates"))? {
            let name = name(&folder)?;
            for file in entries(&folder)? {
                let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                let short = shortened(&text).with_context(|| file.display().to_string())?;
                if is_withdrawn(&short) {
                    continue;
                }
                read.crates.insert(name.clone());
                if locked.contains(&name) {
                    read.texts.insert(format!("crates/{name}/{}", self::name(&file)?), short);
                }
            }
        }
        Ok(read)
    }

    /// The crates whose advisories exist and are not carried.
    fn missing(&self, locked: &BTreeSet<String>) -> Vec<&str> {
        let carried: BTreeSet<&str> = self.texts.keys().filter_map(|path| path.split('/').nth(1)).collect();
        let known = self.crates.iter().filter(|name| locked.contains(*name)).map(String::as_str);
        known.filter(|name| !carried.contains(name)).collect()
    }

    fn to_json(&self) -> Result<String> {
        let crates = self.crates.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let file = json!({
            "source": format!("{UPSTREAM}, CC0-1.0 unless an advisory names another licence"),
            "date": self.date,
            "seconds": self.seconds,
            "crates": crates,
            "advisories": self.texts,
        });
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }

    fn from_json(text: &str) -> Result<Self> {
        let file: Value = serde_json::from_str(text)?;
        let texts = file["advisories"].as_object().context("no advisories")?;
        let texts = texts.iter().map(|(path, text)| Some((path.clone(), text.as_str()?.to_owned())));
        Ok(Self {
            date: file["date"].as_str().context("no date")?.to_owned(),
            seconds: file["seconds"].as_u64().context("no seconds")?,
            crates: file["crates"].as_str().context("no crates")?.split(' ').map(str::to_owned).collect(),
            texts: texts.collect::<Option<_>>().context("an advisory has no text")?,
        })
    }
}

/// How many there are, and of which day.
impl std::fmt::Display for Advisories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} advisories about crates of Cargo.lock, state of {}", self.texts.len(), self.date)
    }
}

/// The names of the crates in `Cargo.lock`.
fn locked(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let lock = fs::read_to_string(workspace.root().join("Cargo.lock"))?;
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    Ok(names.map(str::to_owned).collect())
}

/// The metadata and the title of an advisory, without its description.
fn shortened(text: &str) -> Option<String> {
    let (metadata, description) = text.strip_prefix("```toml\n")?.split_once("\n```")?;
    let title = description.lines().find(|line| line.starts_with("# "))?;
    Some(format!("```toml\n{metadata}\n```\n\n{title}\n"))
}

fn is_withdrawn(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("withdrawn = "))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name.with_context(|| path.display().to_string())?.to_owned())
}

/// Runs git in `folder` and returns its output.
fn git(folder: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(args);
    let output = command.output().context("cannot start git")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shown(&command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advisories(seconds: u64) -> Advisories {
        Advisories {
            date: "2026-08-21".to_owned(),
            seconds,
            crates: ["carried", "elsewhere", "new"].map(str::to_owned).into(),
            texts: [("crates/carried/RUSTSEC-2026-0001.md".to_owned(), "text".to_owned())].into(),
        }
    }

    #[test]
    fn an_advisory_keeps_its_metadata_and_its_title() {
        let text = "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\n```\n\n# Title\n\nDescription.\n";
        let short = shortened(text).unwrap();
        assert_eq!(short, "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\n```\n\n# Title\n");
        assert_eq!(shortened("# Title"), None);
    }

    #[test]
    fn a_crate_with_advisories_that_are_not_carried_is_missing() {
        let locked = ["carried", "new", "harmless"].map(str::to_owned).into();
        assert_eq!(advisories(0).missing(&locked), ["new"]);
    }

    #[test]
    fn the_file_holds_everything() {
        let written = advisories(7).to_json().unwrap();
        let read = Advisories::from_json(&written).unwrap();
        assert_eq!(read.to_json().unwrap(), written);
        assert!(Advisories::from_json("{}").is_err());
    }

    #[test]
    fn an_old_database_draws_a_warning() {
        assert!(advisories(0).warning().unwrap().contains("days old"));
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert_eq!(advisories(now).warning(), None);
    }
}
