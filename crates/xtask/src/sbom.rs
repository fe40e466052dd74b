//! Software bills of materials: what a published package is built from, in CycloneDX 1.5.
//!
//! `cargo tree` resolves the features of one package; `cargo metadata` resolves them for the whole workspace only. Each bill
//! lists normal and build dependencies with all features, on all platforms: all that any build can contain.
//! cargo-cyclonedx would be one more tool to compile, and writes into the source folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::running::output;
use crate::workspace::Workspace;

/// A crate with its version.
type Id = (String, String);

/// One crate, as printed by `cargo tree`.
#[derive(Debug, Default)]
struct Crate {
    licence: String,
    repository: String,
    needs: BTreeSet<Id>,
}

/// Writes the bill of `package` to `folder`.
pub(crate) fn write(workspace: &Workspace, package: &str, folder: &Path) -> Result<PathBuf> {
    let mut tree = workspace.cargo(["tree", "--locked", "--all-features", "--target", "all"]);
    tree.args([
        "--edges",
        "normal,build",
        "--prefix",
        "depth",
        "--format",
        "|{p}|{l}|{r}",
        "--package",
        package,
    ]);
    let tree = output(&mut tree)?;
    let lock = fs::read_to_string(workspace.root().join("Cargo.lock"))?;
    let bill = bill(&tree, &checksums(&lock), workspace.has_binary(package))?;
    let path = folder.join(format!("{package}.cdx.json"));
    fs::write(&path, serde_json::to_string_pretty(&bill)? + "\n")?;
    Ok(path)
}

/// The bill of the first crate of `tree`.
fn bill(tree: &str, checksums: &BTreeMap<Id, String>, is_program: bool) -> Result<Value> {
    let (root, mut crates) = graph(tree).context("cargo tree printed an unknown form")?;
    let dependencies: Vec<Value> = crates
        .iter()
        .map(|(id, found)| json!({ "ref": url(id), "dependsOn": found.needs.iter().map(url).collect::<Vec<_>>() }))
        .collect();
    let described = crates.remove(&root).unwrap_or_default();
    let kind = if is_program { "application" } else { "library" };
    let components: Vec<Value> =
        crates.iter().map(|(id, found)| component(id, found, "library", checksums)).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(&root, &described, kind, checksums) },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn component(id: &Id, found: &Crate, kind: &str, checksums: &BTreeMap<Id, String>) -> Value {
    let mut component =
        json!({ "type": kind, "bom-ref": url(id), "purl": url(id), "name": id.0, "version": id.1 });
    if !found.licence.is_empty() {
        // The slash is the old form of OR.
        component["licenses"] = json!([{ "expression": found.licence.replace('/', " OR ") }]);
    }
    if !found.repository.is_empty() {
        component["externalReferences"] = json!([{ "type": "vcs", "url": found.repository }]);
    }
    if let Some(checksum) = checksums.get(id) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// The package URL.
fn url((name, version): &Id) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// The root and all crates of a tree whose lines begin with their depth. cargo prints the dependencies of a crate once.
fn graph(tree: &str) -> Option<(Id, BTreeMap<Id, Crate>)> {
    let mut crates: BTreeMap<Id, Crate> = BTreeMap::new();
    let mut above: Vec<Id> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let mut parts = line.split('|');
        let depth: usize = parts.next()?.parse().ok()?;
        let mut words = parts.next()?.split(' ');
        let id = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
        above.truncate(depth);
        if let Some(parent) = above.last() {
            crates.get_mut(parent)?.needs.insert(id.clone());
        }
        let found = crates.entry(id.clone()).or_default();
        parts.next()?.clone_into(&mut found.licence);
        // cargo marks repeated crates at the end of the line.
        parts.next()?.trim_end_matches(" (*)").clone_into(&mut found.repository);
        above.push(id);
    }
    Some((above.first()?.clone(), crates))
}

/// The checksums of `Cargo.lock`.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let packages = lock.split("[[package]]").skip(1);
    let entry = |package: &str| {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
            Some(line.trim_end_matches('"').to_owned())
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    };
    packages.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0|bus v0.1.0 (/work/bus)|MIT|https://example.org/bus
1|serde v1.0.0|MIT/Apache-2.0|https://example.org/serde
2|derive v1.0.0 (proc-macro)|MIT|
1|derive v1.0.0 (proc-macro)|MIT| (*)
1|zstd-sys v2.0.0+zstd.1.5|MIT|https://example.org/zstd
";

    #[test]
    fn a_bill_lists_each_crate_once_with_its_dependencies() {
        let lock = "[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nchecksum = \"ab12\"\n";
        let bill = bill(TREE, &checksums(lock), true).unwrap();
        assert_eq!(bill["metadata"]["component"]["type"], "application");
        assert_eq!(bill["components"].as_array().unwrap().len(), 3);
        let serde = &bill["components"][1];
        assert_eq!(serde["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(serde["hashes"][0]["content"], "ab12");
        assert_eq!(bill["components"][2]["purl"], "pkg:cargo/zstd-sys@2.0.0%2Bzstd.1.5");
        assert_eq!(
            bill["dependencies"][0],
            json!({ "ref": "pkg:cargo/bus@0.1.0", "dependsOn": [
                "pkg:cargo/derive@1.0.0", "pkg:cargo/serde@1.0.0", "pkg:cargo/zstd-sys@2.0.0%2Bzstd.1.5",
            ]})
        );
        assert_eq!(bill["dependencies"][2]["dependsOn"], json!(["pkg:cargo/derive@1.0.0"]));
    }

    #[test]
    fn another_form_is_an_error() {
        assert!(super::bill("bus v0.1.0", &BTreeMap::new(), false).is_err());
    }
}
