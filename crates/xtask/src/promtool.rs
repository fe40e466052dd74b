//! Finds promtool for the metrics tests: given by the caller, installed, or extracted from Debian's package.
//!
//! No version is pinned: any promtool checks the text format, and the versions in a distribution's archive move.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::shown;
use crate::workspace::Workspace;

/// The environment variable with the path of promtool, for us and for the tests.
pub(crate) const ENV: &str = "AETHER_PROMTOOL";

/// A promtool with a known version.
#[derive(Debug)]
pub(crate) struct Promtool {
    pub(crate) path: PathBuf,
    version: String,
}

impl fmt::Display for Promtool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.version)
    }
}

/// Searches the variable, `PATH` and the tools, in this order, and extracts it from Debian's package `prometheus` if
/// none is found.
pub(crate) fn find_or_install(workspace: &Workspace) -> Result<Promtool> {
    let tool = workspace.tools().join("promtool").join("promtool");
    let mut tried = Vec::new();
    let (named, path) = (env::var_os(ENV), env::var_os("PATH"));
    if let Some(found) = find(named.as_deref(), path.as_deref(), &tool, version_of, &mut tried) {
        return Ok(found);
    }
    match install(&tool) {
        Ok(found) => Ok(found),
        Err(error) => {
            tried.push(format!("Debian's package prometheus: {error:#}"));
            bail!(
                "no promtool for the tests. Tried:\n  - {}\nTo fix it, do one of these:\n  \
                 - set {ENV} to the path of a promtool\n  \
                 - install Prometheus, so that its promtool is on PATH",
                tried.join("\n  - ")
            )
        }
    }
}

/// The first usable promtool. Adds the reasons for refusing the others to `tried`.
fn find(
    named: Option<&OsStr>,
    path: Option<&OsStr>,
    tool: &Path,
    version_of: impl Fn(&Path) -> Result<String>,
    tried: &mut Vec<String>,
) -> Option<Promtool> {
    let on_path = path.into_iter().flat_map(env::split_paths).map(|folder| folder.join("promtool"));
    let on_path = on_path.into_iter().find(|program| program.is_file());
    let places = [(ENV, named.map(PathBuf::from)), ("PATH", on_path), ("tools", Some(tool.to_owned()))];
    for (place, program) in places {
        let Some(program) = program else {
            tried.push(format!("{place}: none"));
            continue;
        };
        // Tests run in the folder of their package, so the path must be absolute.
        let found = version_of(&program)
            .and_then(|version| Ok(Promtool { path: std::path::absolute(&program)?, version }));
        match found {
            Ok(found) => return Some(found),
            Err(error) => tried.push(format!("{place}: {error:#}")),
        }
    }
    None
}

/// The first words of `promtool --version`: `promtool, version 2.42.0+ds (branch: …)`.
fn version_of(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    // Old versions print it on stderr.
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let version = printed.strip_prefix("promtool, version ").and_then(|rest| rest.split_whitespace().next());
    let version =
        version.with_context(|| format!("{} --version printed {:?}", program.display(), printed.trim()))?;
    Ok(version.to_owned())
}

/// Downloads the package with apt-get, which checks its signature, and extracts the program. It installs nothing,
/// and needs root only if the package lists are missing.
fn install(tool: &Path) -> Result<Promtool> {
    let folder = tool.parent().context("the tool has no folder")?;
    // A private folder until the rename, so that a concurrent run never sees a partial program.
    let work = folder.join(format!("download-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    println!("downloading promtool with Debian's package prometheus");
    let result = unpack(&work).and_then(|program| {
        let version = version_of(&program)?;
        fs::rename(&program, tool)?;
        // The test of the dashboard needs it, too.
        fs::rename(program.with_file_name("prometheus"), tool.with_file_name("prometheus"))?;
        Ok(Promtool { path: tool.to_owned(), version })
    });
    // Leftovers are harmless, and `cargo clean` removes them.
    let _ = fs::remove_dir_all(&work);
    result
}

/// Fetches the package into `work`, and returns the program in it.
fn unpack(work: &Path) -> Result<PathBuf> {
    let run = |command: &mut Command| {
        let output = command
            .current_dir(work)
            .output()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        if !output.status.success() {
            bail!("`{}`: {}", shown(command), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    };
    let download = || run(Command::new("apt-get").args(["--quiet", "download", "prometheus"]));
    if download().is_err() {
        // A new machine has no package lists. Fetching them needs root.
        run(Command::new("apt-get").args(["--quiet", "update"]))?;
        download()?;
    }
    let package = fs::read_dir(work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some("deb".as_ref()))
        .context("apt-get has downloaded no package")?;
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg("unpacked"))?;
    Ok(work.join("unpacked/usr/bin/promtool"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_over_path_and_path_over_the_tools() {
        let folder = env::temp_dir().join(format!("aether-xtask-promtool-{}", std::process::id()));
        let program = folder.join("on-path/promtool");
        fs::create_dir_all(folder.join("on-path")).unwrap();
        fs::write(&program, "").unwrap();
        let found = |named: Option<&str>, path: &str| {
            let path = folder.join(path);
            let version = |program: &Path| match program.starts_with("/broken") {
                true => bail!("broken"),
                false => Ok("2.42.0".to_owned()),
            };
            let named = named.map(OsStr::new);
            find(named, Some(path.as_os_str()), Path::new("/tool"), version, &mut Vec::new()).unwrap().path
        };
        assert_eq!(found(Some("/named"), "on-path"), Path::new("/named"));
        assert_eq!(found(Some("/broken"), "on-path"), program);
        assert_eq!(found(None, "on-path"), program);
        assert_eq!(found(None, "empty"), Path::new("/tool"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_was_tried_is_told() {
        let mut tried = Vec::new();
        assert!(
            find(Some("/no/such".as_ref()), None, Path::new("/no/tool"), version_of, &mut tried).is_none()
        );
        assert_eq!(tried.len(), 3, "{tried:?}");
        assert!(tried[0].contains("/no/such") && tried[2].contains("/no/tool"), "{tried:?}");
    }
}
