//! The workspace as reported by cargo: folders, crates and examples.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What is not on by default and has tests: the kit with everything, the command with everything, and the medium of a local
/// network.
pub(crate) const FEATURES: &str = "aether-bus-testing/proptest,aether-bus-testing/nats-server,aether-bus-cli/full,\
                                   aether-bus-gateway/real-servers,aether-bus-service-alpha/lan,aether-bus-service-beta/lan";

/// The output of `cargo metadata`, and the way to call cargo in the workspace.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    metadata: Value,
}

impl Workspace {
    /// The workspace of this program.
    pub(crate) fn load() -> Result<Self> {
        // cargo sets this variable at run time; the compiled-in path is for a binary started by hand.
        let here =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Self::at(Path::new(&here))
    }

    /// Runs `cargo metadata` in a folder.
    pub(crate) fn at(folder: &Path) -> Result<Self> {
        let output = Command::new(cargo_path())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(folder)
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("cargo metadata has no {key}"))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, metadata })
    }

    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The build folder.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The folder of installed tools: outside of the sources, and removed by `cargo clean`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// A cargo command with the workspace as its working directory.
    pub(crate) fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(cargo_path());
        command.args(args).current_dir(&self.root);
        command
    }

    /// The packages of the workspace, as cargo describes them.
    pub(crate) fn packages(&self) -> Result<&[Value]> {
        let packages = self.metadata["packages"].as_array();
        Ok(packages.context("cargo metadata has no packages")?)
    }

    /// The crates of the workspace: their names and folders.
    pub(crate) fn crates(&self) -> Result<Vec<(String, PathBuf)>> {
        let named = self.packages()?.iter().map(|package| {
            let manifest = package["manifest_path"].as_str().map(Path::new).and_then(Path::parent);
            Some((package["name"].as_str()?.to_owned(), manifest?.to_owned()))
        });
        named.collect::<Option<_>>().context("cargo metadata has a package without name or folder")
    }

    /// The names of the crates that are published.
    pub(crate) fn published(&self) -> Result<Vec<String>> {
        named(&self.metadata, is_published)
    }

    /// Whether `package` has a program.
    pub(crate) fn has_binary(&self, package: &str) -> bool {
        !targets(&self.metadata, package, "bin").is_empty()
    }

    /// The package with this program.
    pub(crate) fn package_of(&self, program: &str) -> Option<String> {
        let mut crates = self.crates().ok()?.into_iter();
        let has = |package: &str| targets(&self.metadata, package, "bin").iter().any(|name| name == program);
        crates.find(|(package, _)| has(package)).map(|(package, _)| package)
    }

    /// The names of the examples of `package`, in order.
    pub(crate) fn examples(&self, package: &str) -> Vec<String> {
        targets(&self.metadata, package, "example")
    }
}

fn cargo_path() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn named(metadata: &Value, is_wanted: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let names = packages.iter().filter(|package| is_wanted(package)).map(|package| package["name"].as_str());
    names.map(|name| name.map(str::to_owned)).collect::<Option<_>>().context("a package has no name")
}

/// `publish = false` is an empty list of registries.
pub(crate) fn is_published(package: &Value) -> bool {
    package["publish"].as_array().is_none_or(|registries| !registries.is_empty())
}

/// The names of the targets of a kind, in order.
fn targets(metadata: &Value, package: &str, wanted: &str) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found: Vec<String> = list(&metadata["packages"])
        .iter()
        .filter(|found| found["name"] == package)
        .flat_map(|found| list(&found["targets"]))
        .filter(|target| list(&target["kind"]).iter().any(|kind| kind == wanted))
        .filter_map(|target| Some(target["name"].as_str()?.to_owned()))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_crates_are_told_from_the_others() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "library", "publish": null, "targets": [{ "kind": ["lib"] }, { "kind": ["test"] }] },
            { "name": "command", "publish": null, "targets": [{ "kind": ["bin"] }] },
            { "name": "tasks", "publish": [], "targets": [{ "kind": ["lib"] }] },
        ]});
        assert_eq!(named(&metadata, is_published).unwrap(), ["library", "command"]);
    }

    #[test]
    fn examples_of_the_package_are_listed_in_order() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "a", "targets": [
                { "name": "02_b", "kind": ["example"] },
                { "name": "01_a", "kind": ["example"] },
                { "name": "a", "kind": ["lib"] },
            ]},
            { "name": "b", "targets": [{ "name": "other", "kind": ["example"] }] },
        ]});
        assert_eq!(targets(&metadata, "a", "example"), ["01_a", "02_b"]);
        assert_eq!(targets(&metadata, "none", "example"), [""; 0]);
    }
}
