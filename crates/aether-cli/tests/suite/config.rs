//! `aether config`, and processes whose configuration changes while they run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[cfg(unix)]
use aether_conformance::NatsServer;

#[cfg(unix)]
use crate::process::Running;
use crate::process::{aether, run};

/// The file with every setting, in the checkout.
fn default_file() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("config/default.toml");
    fs::read_to_string(path).unwrap()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// The settings by name: value, and the comment behind it.
fn shown(args: &[&str]) -> BTreeMap<String, (String, String)> {
    let said = run(&[&["config", "show"], args].concat());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let setting = |line: &str| {
        let (setting, comment) = line.split_once("  # ").unwrap();
        let (key, value) = setting.split_once(" = ").unwrap();
        (key.to_owned(), (value.trim().to_owned(), comment.to_owned()))
    };
    said.out.lines().filter(|line| !line.starts_with('#')).map(setting).collect()
}

/// The settings of the types and of the file are the same, with the same defaults and remarks.
#[test]
fn the_default_file_has_every_setting_with_its_default_unit_and_cost() {
    let nowhere = folder(&[]);
    let of_types = shown(&["--config", nowhere.path().to_str().unwrap()]);
    let text = default_file();
    let (mut section, mut comment, mut of_file) = (String::new(), String::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(remark) = line.strip_prefix('#') {
            comment += remark;
        } else if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
            comment.clear();
        } else if let Some((key, value)) = line.split_once(" = ") {
            of_file.insert(format!("{section}{key}"), (value.to_owned(), std::mem::take(&mut comment)));
        } else {
            comment.clear();
        }
    }
    let keys = |map: &BTreeMap<String, (String, String)>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&of_types), keys(&of_file));
    for (key, (value, comment)) in &of_file {
        let (default, remark) = &of_types[key];
        assert_eq!(value, default, "{key}");
        for part in ["Unit: ", "Cost: ", "Change: "] {
            assert!(comment.contains(part), "{key} has no {part:?}: {comment}");
        }
        assert_eq!(comment.contains("Change: at once"), remark.contains("applies at once"), "{key}");
    }
    // The file is read as the types read it, too.
    let with_file = folder(&[("default.toml", &text)]);
    let read = shown(&["--config", with_file.path().to_str().unwrap()]);
    assert!(
        read.iter()
            .all(|(key, (value, origin))| *value == of_types[key].0 && origin.contains("default.toml:"))
    );
}

#[test]
fn each_value_is_shown_with_its_origin_and_secrets_are_hidden() {
    let folder = folder(&[
        ("default.toml", "[inbox]\nfloor = 0.1\n[medium]\nurl = \"nats://shop:hunter2@a:4222\"\n"),
        ("prod.toml", "[service.beta]\nunits = 7\n[service.mine]\nanything = 1\n"),
    ]);
    let path = folder.path().to_str().unwrap();
    let mut command = aether(&["config", "show", "--changed", "--config", path, "--set", "ask.retries=3"]);
    command
        .env("AETHER_PROFILE", "prod")
        .env("AETHER__SERVICE__ALPHA__RATE", "5")
        .env("AETHER_PREFIX", "shop");
    let output = command.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let words: Vec<_> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "ask.retries = 3 # --set".to_owned(),
        format!("inbox.floor = 0.1 # {path}/default.toml:2, applies at once"),
        "medium.prefix = \"shop\" # AETHER_PREFIX".to_owned(),
        format!("medium.url = \"nats://***@a:4222\" # {path}/default.toml:4"),
        "service.alpha.rate = 5 # AETHER__SERVICE__ALPHA__RATE".to_owned(),
        format!("service.beta.units = 7 # {path}/prod.toml:2"),
        "# service.mine: not checked, it belongs to another program".to_owned(),
    ];
    assert_eq!(words, expected);
    assert!(!out.contains("hunter2"));
}

#[test]
fn check_prints_all_mistakes_and_its_exit_code_tells() {
    let valid = folder(&[("default.toml", &default_file())]);
    let said = run(&["config", "check", "--config", valid.path().to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.starts_with("the configuration is valid: "), "{}", said.out);
    let broken = folder(&[("default.toml", "[inbox]\nflor = 0.1\n\n[service.beta]\nunits = \"many\"\n")]);
    let path = broken.path().to_str().unwrap();
    let said = run(&["config", "check", "--config", path, "--set", "ask.retries=999"]);
    assert_eq!(said.code, Some(1));
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(
        lines[0],
        format!("{path}/default.toml:2: there is no setting inbox.flor: did you mean inbox.floor?")
    );
    assert!(lines[1].starts_with(&format!("{path}/default.toml:5: service.beta.units: ")), "{lines:?}");
    assert!(lines[2].starts_with("--set: ask.retries: ") && lines[2].contains("from 0 to 255"), "{lines:?}");
    assert!(said.err.contains("the configuration has 3 mistakes"), "{}", said.err);
    // A service does not start with it.
    let said = run(&["beta", "--config", path]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    assert!(said.err.contains("did you mean inbox.floor?"), "{}", said.err);
}

#[test]
fn the_fields_of_a_gateway_are_settings_with_several_values() {
    let folder = folder(&[(
        "default.toml",
        "[service.gateway]\nfields = [\"home=/var/home,1.field\", \"office\"]\nfield_limits = [\"max_patterns=7\"]\n",
    )]);
    let path = folder.path().to_str().unwrap();
    let value = |shown: &BTreeMap<String, (String, String)>, key: &str| shown[key].0.clone();
    let of_file = shown(&["--config", path]);
    assert_eq!(value(&of_file, "service.gateway.fields"), "[\"home=/var/home,1.field\", \"office\"]");
    assert_eq!(value(&of_file, "service.gateway.field_limits"), "[\"max_patterns=7\"]");
    let set = "service.gateway.fields=a, b=b.field";
    let of_argument = shown(&["--config", path, "--set", set]);
    // As it was given; the gateway reads two fields from it.
    assert_eq!(value(&of_argument, "service.gateway.fields"), "\"a, b=b.field\"");

    let wrong = "[service.gateway]\nfields = [\"=home.field\"]\nfield_origins = [\"shop.example\"]\n\
                 field_limits = [\"max_frames=1\"]\nfield_tokens = 5\ntrusted_proxies = [\"10.1.2.3/8\"]\n";
    fs::write(folder.path().join("default.toml"), wrong).unwrap();
    let said = run(&["config", "check", "--config", path]);
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!((said.code, lines.len()), (Some(1), 5), "{said:?}");
    for (line, part) in lines.iter().zip([
        "default.toml:2: service.gateway.fields: use NAME, or NAME=FILE",
        "default.toml:3: service.gateway.field_origins: \"shop.example\" is not an origin: use a scheme and a host",
        "default.toml:4: service.gateway.field_limits: there is no limit \"max_frames\"; the limits are: max_frame_bytes",
        "default.toml:5: service.gateway.field_tokens: ",
        "default.toml:6: service.gateway.trusted_proxies: \"10.1.2.3/8\" is not a network",
    ]) {
        assert!(line.contains(part), "{line}: {part}");
    }
    // Tokens that protect nothing are a mistake of somebody.
    let tokens = folder.path().join("tokens.json");
    fs::write(&tokens, r#"[{"token": "s3cret", "read": ["*"]}]"#).unwrap();
    fs::set_permissions(&tokens, PermissionsExt::from_mode(0o600)).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let config = empty.path().to_str().unwrap();
    let said = run(&["gateway", "--config", config, "--field-tokens", tokens.to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("there are tokens, but none is for waves and there is no field"), "{said:?}");
}

#[test]
fn an_environment_variable_that_is_no_setting_is_refused() {
    let output = aether(&["config", "check"]).env("AETHER__INBOX__FLOR", "0.1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out, "AETHER__INBOX__FLOR: there is no setting inbox.flor: did you mean inbox.floor?\n");
}

#[cfg(unix)]
#[tokio::test]
async fn a_running_service_follows_its_files_and_keeps_what_was_valid() {
    let server = NatsServer::start().await.unwrap();
    let config = format!("[medium]\nurl = \"{}\"\n", server.url());
    let folder = folder(&[("default.toml", &config)]);
    let write =
        |more: &str| fs::write(folder.path().join("default.toml"), format!("{config}{more}")).unwrap();
    let mut beta = Running::start(&["beta", "--config", folder.path().to_str().unwrap()]);
    beta.tells("the service started");
    write("[inbox]\nfloor = 0.25\n[service.beta]\nunits = 9\n");
    let line = beta.tells("inbox.floor");
    assert!(
        line.contains("= 0.25 instead of 0.0") && line.contains("default.toml:4") && line.contains("applied"),
        "{line}"
    );
    let line = beta.tells("service.beta.units");
    assert!(line.contains("= 9 instead of 25") && line.contains("this needs a restart"), "{line}");
    write("[inbox]\nfloor = 2\n");
    let line = beta.tells("is refused");
    assert!(line.contains("default.toml:4: inbox.floor") && line.contains("stay in force"), "{line}");
    write("[log]\nfilter = \"debug,async_nats=warn\"\n");
    beta.tells("log.filter");
    // The filter is in force: this line has the level debug.
    write("[log]\nfilter = \"debug,async_nats=warn\"\n[inbox]\nfloor = 0.5\n");
    beta.tells("DEBUG");
    beta.signal(nix::sys::signal::Signal::SIGTERM);
    let (said, _) = beta.end();
    assert_eq!(said.code, Some(0), "{}", said.err);
}
