//! `deploy/container/Containerfile`, read as far as it can be checked without an image registry: what it builds,
//! copies, runs and exposes is what the workspace has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Running, aether, run};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// The instructions with their arguments, without comments.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("deploy/container/Containerfile")).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
        .collect()
}

fn of<'a>(instructions: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    instructions.iter().filter(|(other, _)| other == name).map(|(_, rest)| rest.as_str()).collect()
}

fn list(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("not the exec form: {json}: {error}"))
}

#[test]
fn the_image_has_the_program_without_rights_and_with_its_settings() {
    let all = instructions();
    let known =
        ["FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"];
    for (name, _) in &all {
        assert!(known.contains(&name.as_str()), "{name}");
    }
    // The compiler is one that the workspace supports.
    let (build, image) = (of(&all, "FROM")[0], of(&all, "FROM")[1]);
    assert!(
        build.contains(&format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION"))) && build.ends_with(" AS build"),
        "{build}"
    );
    // A program needs the C library of its build, or a newer one.
    assert_eq!(
        build.split(' ').next().unwrap().rsplit('-').next(),
        image.split([':', '-']).nth(1),
        "{build}, {image}"
    );
    let package = env!("CARGO_PKG_NAME");
    assert!(
        of(&all, "RUN")[0].contains(&format!("--package {package} "))
            && of(&all, "RUN")[0].contains("--locked")
    );
    let program = assert_cmd::cargo::cargo_bin!("aether").file_name().unwrap().to_str().unwrap();
    let copied: Vec<_> =
        of(&all, "COPY").into_iter().filter(|copy| copy.starts_with("--from=build")).collect();
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(of(&all, "RUN")[0].contains("--profile dist ") && workspace.contains("\n[profile.dist]\n"));
    assert_eq!(copied, [format!("--from=build /build/target/dist/{program} /usr/local/bin/{program}")]);
    assert_eq!(list(of(&all, "ENTRYPOINT")[0]), [format!("/usr/local/bin/{program}")]);
    assert_ne!(of(&all, "USER"), ["0"]);
    let user: u32 =
        of(&all, "USER")[0].split(':').next().unwrap().parse().expect("a number, which Kubernetes can check");
    assert!(user > 0);
    assert_eq!(of(&all, "STOPSIGNAL"), ["SIGTERM"]);
    // The settings are in the folder of the variable, and equal the repository's.
    let folder = of(&all, "ENV")[0].strip_prefix("AETHER_CONFIG=").unwrap();
    let settings = of(&all, "COPY").into_iter().find(|copy| copy.ends_with("/default.toml")).unwrap();
    let (from, to) = settings.split_once(' ').unwrap();
    assert!(root().join(from).is_file() && to == format!("{folder}/default.toml"));
    let valid = run(&["config", "check", "--config", root().join("config").to_str().unwrap()]);
    assert_eq!(valid.code, Some(0), "{valid:?}");
}

#[test]
fn the_default_command_listens_where_the_image_says() {
    let all = instructions();
    let (port, command) = (of(&all, "EXPOSE")[0], list(of(&all, "CMD")[0]));
    assert_eq!(command, ["gateway", "--listen", &format!("0.0.0.0:{port}")]);
    // The program takes these arguments, with a port that is free here, and with the token that the file names.
    let text = fs::read_to_string(root().join("deploy/container/Containerfile")).unwrap();
    assert!(text.contains("-e AETHER_WAVES_TOKEN"));
    let mut command = aether(&["gateway", "--listen", "0.0.0.0:0"]);
    command.env("AETHER_WAVES_TOKEN", "s3cret");
    let mut gateway = Running::of(command);
    assert!(gateway.line().starts_with("gateway: http://0.0.0.0:"));

    // Without one it is refused as wrong usage, which a supervisor does not try again.
    let refused = run(&["gateway", "--listen", "0.0.0.0:0"]);
    assert!(refused.code == Some(2) && refused.err.contains("AETHER_WAVES_TOKEN"), "{refused:?}");
    let up = run(&["up", "--listen", "0.0.0.0:0", "--orders", "1"]);
    assert!(up.code == Some(2) && up.err.contains("--insecure"), "{up:?}");
    let mut insecure = Running::start(&["gateway", "--listen", "0.0.0.0:0", "--insecure"]);
    assert!(insecure.line().starts_with("gateway: http://0.0.0.0:"));
}

/// With its linter; where that is missing, the test prints so.
#[test]
fn the_containerfile_passes_its_linter() {
    let file = root().join("deploy/container/Containerfile");
    match Command::new("hadolint").arg(file).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => eprintln!("not linted: hadolint is not installed"),
    }
}
