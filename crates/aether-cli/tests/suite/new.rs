//! `aether new`: what it writes compiles and passes its own test at once. `examples/greeter` is the same program in this
//! workspace; the tests here show that it is the same, and the test in `long` compiles what was written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;

use crate::process::run;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new").join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The dependencies of a manifest: a name and what it turns on, in order.
fn dependencies(manifest: &str, table: &str) -> BTreeMap<String, Vec<String>> {
    let manifest: toml::Table = manifest.parse().unwrap();
    let features = |value: &toml::Value| match value.get("features").and_then(toml::Value::as_array) {
        Some(features) => features.iter().map(|feature| feature.as_str().unwrap().to_owned()).collect(),
        None => Vec::new(),
    };
    manifest[table].as_table().unwrap().iter().map(|(name, value)| (name.clone(), features(value))).collect()
}

#[test]
fn a_new_service_is_the_one_that_this_workspace_tests() {
    let (folder, checkout) = (folder("stock-of-greeters"), checkout());
    let into = folder.to_str().unwrap();
    let written =
        run(&["new", "stock-of-greeters", "--into", into, "--aether-path", checkout.to_str().unwrap()]);
    assert_eq!((written.code, written.err.as_str()), (Some(0), ""));
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let program = read(&checkout.join("crates/aether-cli/templates/service/main.rs"));
    assert_eq!(read(&folder.join("src/main.rs")), program.replace("greeter", "stock-of-greeters"));
    let (new, member) =
        (read(&folder.join("Cargo.toml")), read(&checkout.join("examples/greeter/Cargo.toml")));
    for table in ["dependencies", "dev-dependencies"] {
        assert_eq!(dependencies(&new, table), dependencies(&member, table), "{table}");
    }
}

#[test]
fn the_configuration_names_the_variables_of_the_program() {
    let folder = folder("configured");
    let into = folder.to_str().unwrap();
    assert_eq!(run(&["new", "configured", "--into", into]).code, Some(0));
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let manifest = read("Cargo.toml");
    assert_eq!(
        manifest.matches(&format!("git = \"{}\"", env!("CARGO_PKG_REPOSITORY"))).count(),
        4,
        "{manifest}"
    );
    // The program takes the same arguments as the samples.
    let help = run(&["beta", "--help"]).out;
    // The help is broken into lines.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let environment = read("service.env");
    let variables = environment.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let names: Vec<_> = variables.map(|line| line.split_once('=').unwrap().0).collect();
    assert_eq!(names, ["AETHER_MEDIUM", "AETHER_PREFIX", "AETHER_WAIT", "AETHER_LOG"]);
    for name in names.iter().filter(|name| **name != aether_service::logging::FILTER_VARIABLE) {
        assert!(help.contains(&format!("[env: {name}=")), "{name}: {help}");
    }
    for file in ["Cargo.toml", "src/main.rs", "service.env", "Containerfile", ".gitignore"] {
        assert!(!read(file).contains("{{"), "{file} is filled in");
    }
    assert!(read("Containerfile").contains("/build/target/release/configured "));
}

#[test]
fn nothing_is_overwritten_and_mistakes_are_named() {
    let folder = folder("kept");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("notes"), "mine").unwrap();
    let into = folder.to_str().unwrap();
    let refused = run(&["new", "kept", "--into", into]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("exists already") && refused.err.contains("--into"), "{}", refused.err);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let elsewhere = run(&["new", "kept", "--into", &format!("{into}2"), "--aether-path", into]);
    assert!(elsewhere.err.contains("is not a checkout of Aether"), "{}", elsewhere.err);
    let wrong = run(&["new", "My Service"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("lower-case letters"), "{}", wrong.err);
}

/// Takes minutes, because cargo compiles the dependencies again where their features differ: `cargo xtask test --long`.
mod long {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20 * 60);

    #[test]
    fn a_new_service_compiles_and_passes_its_test() {
        let folder = folder("greeter");
        let (into, checkout) = (folder.to_str().unwrap(), checkout());
        let written = run(&["new", "greeter", "--into", into, "--aether-path", checkout.to_str().unwrap()]);
        assert_eq!((written.code, written.err.as_str()), (Some(0), ""));
        assert!(
            written.out.contains("wrote the service greeter") && written.out.contains("cargo test"),
            "{}",
            written.out
        );
        // The versions of this workspace, and no network.
        fs::copy(checkout.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        // The profile and the folder of this workspace, so that cargo takes what is compiled already.
        let manifest = fs::read_to_string(checkout.join("Cargo.toml")).unwrap();
        let profile = manifest.find("[profile.dev]").unwrap()..manifest.find("[profile.release]").unwrap();
        let profile_file = folder.join("profile.toml");
        fs::write(&profile_file, &manifest[profile]).unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let cargo = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO"));
            command
                .args(args)
                .args(["--offline", "--config"])
                .arg(&profile_file)
                .arg("--target-dir")
                .arg(target);
            let output = command.current_dir(&folder).timeout(LIMIT).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        };
        let (passed, said) = cargo(&["test"]);
        assert!(passed && said.contains("a_guest_is_greeted_and_everybody_hears_of_it ... ok"), "{said}");
        assert!(!said.contains("warning: unused"), "{said}");
        // The program and its tests use the same build of every other crate.
        let (built, said) = cargo(&["build"]);
        let compiled: Vec<_> =
            said.lines().filter(|line| line.trim_start().starts_with("Compiling ")).collect();
        assert!(built && compiled.len() == 1 && compiled[0].contains(" greeter "), "{said}");
    }
}
