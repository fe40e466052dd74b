//! `aether new`: writes a service of one file with its test, its configuration and a Containerfile.
//!
//! The files are in `templates/service`; `examples/greeter` compiles and tests the program with the workspace. Nothing
//! is downloaded, and nothing that exists is overwritten.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the crates come from, unless `--aether-path` is given.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
const MAX_NAME: usize = 64;

/// The files of a service: their place in its folder, and their template.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../templates/service/Cargo.toml.in")),
    ("src/main.rs", include_str!("../templates/service/main.rs")),
    ("service.env", include_str!("../templates/service/service.env.in")),
    ("Containerfile", include_str!("../templates/service/Containerfile.in")),
    (".gitignore", include_str!("../templates/service/gitignore.in")),
];

/// Names that cargo refuses for a program, or that would hide a crate that the service uses.
const TAKEN: [&str; 11] = [
    "test",
    "core",
    "std",
    "alloc",
    "aether",
    "aether-service",
    "aether-metrics",
    "aether-testing",
    "clap",
    "serde",
    "tokio",
];

/// Write a new service: one file with its test, its configuration and a Containerfile
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether new greeter && cd greeter && cargo test
  aether new greeter --into services/greeter")]
pub(crate) struct NewArgs {
    /// The name of the service, its program and its channels: lower-case letters, digits and hyphens
    #[arg(value_parser = name)]
    name: String,
    /// The folder to write; it must not exist [default: the name]
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// Use the crates of this checkout of Aether, instead of its repository
    #[arg(long, value_name = "FOLDER")]
    aether_path: Option<PathBuf>,
}

/// Why no service was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    #[error("{} exists already: choose another name, or another folder with --into", folder.display())]
    Exists { folder: PathBuf },
    #[error("{} is not a checkout of Aether: it has no folder {missing}", path.display())]
    NoCheckout { path: PathBuf, missing: &'static str },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// A name that cannot name a service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    #[error(
        "use 1 to {MAX_NAME} lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
    )]
    Characters,
    #[error("the name is taken by a crate that the service uses")]
    Taken,
}

fn name(text: &str) -> Result<String, NameError> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.len() > MAX_NAME
        || !text.starts_with(|first: char| first.is_ascii_lowercase())
        || text.ends_with('-')
        || !text.bytes().all(is_allowed)
    {
        return Err(NameError::Characters);
    }
    if TAKEN.contains(&text) { Err(NameError::Taken) } else { Ok(text.to_owned()) }
}

/// Writes the service, and returns what to do next.
pub(crate) fn new(args: NewArgs) -> Result<String, NewError> {
    let NewArgs { name, into, aether_path } = args;
    let folder = into.unwrap_or_else(|| PathBuf::from(&name));
    write(&name, &folder, aether_path.as_deref())?;
    let shown = folder.display();
    let try_it = format!("cd {shown} && cargo test");
    let run_it = format!("cd {shown} && cargo run -- --medium nats://127.0.0.1:4222");
    Ok(format!("wrote the service {name} to {shown}\n  {try_it}\n  {run_it}\n"))
}

fn write(name: &str, folder: &Path, aether_path: Option<&Path>) -> Result<(), NewError> {
    // The program is compiled and tested as it is, so it has a name instead of a placeholder. It comes first, because
    // the name of the service may contain it.
    let mut template = vec![("greeter", name.to_owned())];
    template.extend([("{{name}}", name.to_owned()), ("{{crate}}", name.replace('-', "_"))]);
    for (key, package) in [
        ("{{aether-service}}", "aether-service"),
        ("{{aether}}", "aether"),
        ("{{aether-metrics}}", "aether-metrics"),
        ("{{aether-testing}}", "aether-testing"),
    ] {
        template.push((key, dependency(package, aether_path)?));
    }
    if folder.exists() {
        return Err(NewError::Exists { folder: folder.to_owned() });
    }
    for (file, text) in FILES {
        let text = template.iter().fold(text.to_owned(), |text, (key, value)| text.replace(key, value));
        let path = folder.join(file);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        made.map_err(|source| NewError::Write { path, source })?;
    }
    Ok(())
}

/// A dependency as Cargo.toml has it.
fn dependency(package: &'static str, aether_path: Option<&Path>) -> Result<String, NewError> {
    let published = package.replacen("aether", "aether-bus", 1);
    let Some(checkout) = aether_path else {
        return Ok(format!("{{ package = \"{published}\", git = \"{REPOSITORY}\" }}"));
    };
    let missing = |_| NewError::NoCheckout { path: checkout.to_owned(), missing: package };
    let in_crates = checkout.join("crates").join(package);
    let folder = if in_crates.exists() { in_crates } else { checkout.join(package) };
    let path = fs::canonicalize(folder).map_err(missing)?;
    // Debug quotes and escapes as TOML does.
    Ok(format!("{{ package = \"{published}\", path = {:?} }}", path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_programs_and_channels() {
        for good in ["a", "greeter", "stock-2"] {
            assert_eq!(name(good).unwrap(), good);
        }
        for bad in ["", "-a", "a-", "2a", "A", "a_b", "a.b", "ä", "a b", &"a".repeat(65)] {
            assert!(matches!(name(bad), Err(NameError::Characters)), "{bad}");
        }
        assert!(matches!(name("tokio"), Err(NameError::Taken)));
    }
}
