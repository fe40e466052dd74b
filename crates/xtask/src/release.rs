//! `cargo xtask release --dry-run`: checks what a registry gets, and writes it below `target/release-check`.
//!
//! Publishing itself is left to a person, because a version on a registry cannot be taken back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::advisories::{self, Advisories};
use crate::sbom;
use crate::steps::{Steps, check};
use crate::tool;
use crate::workspace::{Workspace, is_published};

/// The version that is installed where there is none.
const DENY: &str = "0.20.2";

/// How far to go.
#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    /// Check a version that has no section in CHANGELOG.md yet, also with uncommitted changes.
    #[arg(long)]
    dry_run: bool,
    /// Do not compile the packages.
    #[arg(long)]
    no_build: bool,
}

/// Runs all checks. Without `--dry-run` it ends with an error that names the commands of a person.
pub(crate) fn run(workspace: &Workspace, args: &ReleaseArgs) -> Result<()> {
    let mut steps = Steps::default();
    let output = workspace.target().join("release-check");
    if output.exists() {
        fs::remove_dir_all(&output)?;
    }
    fs::create_dir_all(&output)?;

    let version = steps.run("versions", || one_version(workspace.packages()?))?;
    steps.run("changelog", || {
        let text = fs::read_to_string(workspace.root().join("CHANGELOG.md"))?;
        changelog(&text, &version, args.dry_run)
    })?;
    let warning = steps.run("licences, sources, advisories", || deny(workspace, &output))?;
    let published = workspace.published()?;
    steps.run("bills of materials", || {
        for name in &published {
            println!("{}", sbom::write(workspace, name, &output)?.display());
        }
        Ok(())
    })?;
    let flags = [("--no-verify", args.no_build), ("--allow-dirty", args.dry_run)];
    let flags: Vec<_> = flags.iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| *flag).collect();
    steps.run("packages", || package(workspace, &flags))?;
    print!("{}", steps.table());
    println!(
        "{} packages of version {version}: {}",
        published.len(),
        workspace.target().join("package").display()
    );
    if let Some(warning) = warning {
        println!("warning: {warning}");
    }
    if args.dry_run {
        return Ok(());
    }
    let packages: String = published.iter().map(|name| format!(" -p {name}")).collect();
    bail!(
        "version {version} is ready, and a person publishes it:\n  git tag --sign v{version}\n  cargo publish \
         --locked{packages}"
    )
}

/// Packages each crate that is published, in the order of dependencies. Without `--no-verify` each package is compiled,
/// which builds the dependencies again and takes longer than all tests together.
pub(crate) fn package(workspace: &Workspace, flags: &[&str]) -> Result<()> {
    let mut command = workspace.cargo(["package", "--locked", "--quiet"]);
    command.args(flags);
    for name in workspace.published()? {
        command.args(["--package", &name]);
    }
    check(&mut command)
}

/// The version that all packages have, and that published ones require of each other exactly.
fn one_version(packages: &[Value]) -> Result<String> {
    let version = packages.first().and_then(|package| package["version"].as_str());
    let version = version.context("the workspace has no packages")?;
    let published: BTreeSet<&str> = packages
        .iter()
        .filter(|package| is_published(package))
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if package["version"] != version {
            wrong.push(format!("{name} has version {}: write version.workspace = true", package["version"]));
        }
        // cargo leaves out development dependencies that have no version.
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        let ours = dependencies.iter().filter(|needed| needed["path"].is_string() && needed["kind"] != "dev");
        for needed in ours.filter(|_| published.contains(name)) {
            let needs = needed["name"].as_str().unwrap_or_default();
            if !published.contains(needs) {
                wrong.push(format!("{name} is published and needs {needs}, which is not"));
            } else if needed["req"] != format!("={version}") {
                wrong.push(format!(
                    "{name} requires {needs} {}: write version = \"={version}\"",
                    needed["req"]
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("versions disagree:\n  {}", wrong.join("\n  "));
    }
    Ok(version.to_owned())
}

/// Fails if the changelog has no section of the version; in a dry run unreleased changes will do.
fn changelog(text: &str, version: &str, is_dry_run: bool) -> Result<()> {
    let has = |title: &str| text.lines().any(|line| line.starts_with(&format!("## [{title}]")));
    if has(version) || (is_dry_run && has("Unreleased")) {
        return Ok(());
    }
    bail!(
        "CHANGELOG.md has no section of version {version}: rename \"## [Unreleased]\" to \"## [{version}] - \
         YYYY-MM-DD\", and begin an empty \"## [Unreleased]\" above it"
    )
}

/// Runs cargo-deny with `deny.toml` and the carried advisories. Returns a warning if these are old.
fn deny(workspace: &Workspace, output: &Path) -> Result<Option<String>> {
    let advisories = Advisories::carried(workspace)?;
    println!("{advisories}");
    let database = output.join("advisories");
    fs::create_dir_all(&database)?;
    advisories.unpack(&database)?;
    // cargo-deny keeps its clone in a folder of the user by default, where the database of the internet may be.
    let rules = fs::read_to_string(workspace.root().join("deny.toml"))?;
    let config = output.join("deny.toml");
    fs::write(&config, with_clones(&rules, &output.join("clones"))?)?;
    let mut command = workspace.cargo(["deny", "--config"]);
    command.arg(&config).args(["check", "--hide-inclusion-graph"]);
    command.env("PATH", tool::path_with_subcommand(workspace, "deny", DENY)?);
    // cargo-deny takes no other address than one of the internet; git replaces it.
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_VALUE_0", advisories::UPSTREAM);
    command.env("GIT_CONFIG_KEY_0", format!("url.file://{}.insteadOf", database.display()));
    check(&mut command)?;
    Ok(advisories.warning())
}

/// The rules of `deny.toml` with a folder for the clone of the database.
fn with_clones(rules: &str, clones: &Path) -> Result<String> {
    let (before, after) = rules.split_once("[advisories]\n").context("deny.toml has no [advisories]")?;
    Ok(format!("{before}[advisories]\ndb-path = '{}'\n{after}", clones.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, version: &str, dependencies: Value) -> Value {
        json!({ "name": name, "version": version, "publish": null, "dependencies": dependencies })
    }

    fn needs(name: &str, req: &str) -> Value {
        json!({ "name": name, "req": req, "kind": null, "path": "/work" })
    }

    #[test]
    fn packages_of_one_version_agree() {
        let development = json!({ "name": "tasks", "req": "*", "kind": "dev", "path": "/work" });
        let packages = [
            package("core", "0.1.0", json!([{ "name": "serde", "req": "^1.0", "kind": null }, development])),
            package("service", "0.1.0", json!([needs("core", "=0.1.0")])),
            json!({ "name": "tasks", "version": "0.1.0", "publish": [], "dependencies": [needs("core", "*")] }),
        ];
        assert_eq!(one_version(&packages).unwrap(), "0.1.0");
    }

    #[test]
    fn each_version_that_disagrees_is_named() {
        let packages = [
            package("core", "0.1.0", json!([needs("tasks", "=0.1.0")])),
            package("log", "0.2.0", json!([])),
            package("service", "0.1.0", json!([needs("core", "*")])),
            json!({ "name": "tasks", "version": "0.1.0", "publish": [], "dependencies": [] }),
        ];
        let error = one_version(&packages).unwrap_err().to_string();
        for part in ["core is published and needs tasks", "log has version", "service requires core"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_release_needs_a_section_of_the_changelog() {
        let text = "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-11-25\n";
        assert!(changelog(text, "0.1.0", false).is_ok());
        assert!(changelog(text, "0.2.0", true).is_ok());
        let error = changelog(text, "0.2.0", false).unwrap_err().to_string();
        assert!(error.contains("## [0.2.0] - "), "{error}");
    }

    #[test]
    fn the_clone_of_the_database_is_not_the_one_of_the_user() {
        let rules = with_clones("[advisories]\nyanked = \"deny\"\n", Path::new("/clones")).unwrap();
        assert_eq!(rules, "[advisories]\ndb-path = '/clones'\nyanked = \"deny\"\n");
        assert!(with_clones("", Path::new("/clones")).is_err());
    }
}
