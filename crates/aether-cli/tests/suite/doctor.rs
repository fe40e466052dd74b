//! `aether doctor` on a healthy system, and on ones with something wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::clock::micros_since_1970;
use aether_field::Field;
use aether_field::core::{Change, Entry, Key, Limits, Stamp, WriterId};
use serde_json::Value;

use crate::findings::findings;
use crate::process::{PATIENCE, Said, run, run_all};

fn doctor(args: &[&str]) -> (Option<i32>, Value) {
    let said = run(&[&["doctor", "--json"], args].concat());
    (said.code, json(&said))
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"))
}

#[tokio::test]
async fn a_healthy_system_passes() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let [said, lines] = run_all([&["doctor", "--json", "--medium", &url], &["doctor", "--medium", &url]]);
    let (code, report) = (said.code, json(&said));
    assert_eq!((code, &report["fail"]), (Some(0), &0.into()), "{report:#}");
    for check in [
        "configuration",
        "files",
        "open files",
        "medium",
        "sealing",
        "server",
        "max_payload",
        "permissions",
        "discovery",
        "services",
        "clocks",
    ] {
        let found = findings(&report, check);
        assert!(found.len() == 1 && found[0].0 == "ok", "{check}: {report:#}");
    }
    assert!(lines.code == Some(0) && lines.out.contains("ok    medium"), "{lines:?}");
}

#[tokio::test]
async fn a_stopped_server_is_reported_with_what_to_do() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    drop(server);
    let (code, report) = doctor(&["--medium", &url]);
    assert_eq!(code, Some(1));
    let (status, text, remedy) = findings(&report, "medium")[0];
    assert!(status == "fail" && text.contains(&url) && remedy.contains("start the server"), "{report:#}");
    assert!(findings(&report, "permissions").is_empty());
    let lines = run(&["doctor", "--medium", &url]);
    assert!(lines.err.contains("1 of ") && lines.err.contains("checks failed"), "{lines:?}");
    assert!(lines.out.contains("FAIL  medium") && lines.out.contains("-> start the server"), "{lines:?}");
}

#[cfg(not(feature = "lan"))]
#[test]
fn a_local_network_that_is_not_built_in_is_reported_with_what_to_build() {
    let (code, report) = doctor(&["--medium", "LAN:?multicast=off"]);
    assert_eq!(code, Some(1));
    let [(status, text, remedy)] = findings(&report, "medium")[..] else { panic!("{report:#}") };
    assert!(
        status == "fail" && text.contains("not built into") && remedy.contains("--features lan"),
        "{report:#}"
    );
}

/// A server with permissions for everybody; killed when it is dropped.
struct Restricted {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Restricted {
    fn start(permissions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        let text = format!(
            "listen: 127.0.0.1:-1\nmax_payload: 65536\nports_file_dir: {:?}\nno_auth_user: shop\n\
             authorization {{ users: [{{ user: shop, password: secret, permissions: {{ {permissions} }} }}] }}\n",
            folder.path()
        );
        fs::write(&config, text).unwrap();
        let program = std::env::var("AETHER_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let process = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ports = folder.path().join(format!("nats-server_{}.ports", process.id()));
        let since = std::time::Instant::now();
        // The server has no other way to tell its port.
        let address = loop {
            let ports: Option<Value> =
                fs::read_to_string(&ports).ok().and_then(|text| serde_json::from_str(&text).ok());
            if let Some(ports) = ports {
                break ports["nats"][0].as_str().unwrap().to_owned();
            }
            assert!(since.elapsed() < PATIENCE, "the server does not start");
            std::thread::yield_now();
        };
        Self { process, url: address, _folder: folder }
    }
}

impl Drop for Restricted {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn missing_permissions_are_named_with_their_subjects() {
    let server = Restricted::start(
        "publish: [\"aether.>\", \"aether-seen.>\", \"_INBOX.>\"], subscribe: [\"aether.>\", \"aether-ask.>\", \"aether-seen.>\", \"_INBOX.>\"]",
    );
    let (code, report) = doctor(&["--medium", &server.url]);
    assert_eq!(code, Some(1), "{report:#}");
    let found = findings(&report, "permissions");
    // Questions of the framework travel below the root of questions as well.
    assert_eq!(found.len(), 2, "{report:#}");
    assert!(found[1].0 == "fail" && found[1].1.contains("control messages do not pass"), "{report:#}");
    let (status, text, remedy) = found[0];
    assert!(status == "fail" && text.contains("questions do not pass") && text.contains("Publish"), "{text}");
    assert!(remedy.contains("aether-ask.>"), "{remedy}");
    let (status, _, remedy) = findings(&report, "discovery")[0];
    assert!(status == "warn" && remedy.contains("$SRV.>"), "{report:#}");
    let (status, text, _) = findings(&report, "max_payload")[0];
    assert!(status == "warn" && text.contains("65536"), "{report:#}");
}

#[test]
fn a_wrong_configuration_and_files_that_anybody_may_write_fail() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("default.toml");
    let config = folder.path().to_str().unwrap();
    fs::write(&file, "[inbox]\nflor = 1\nmax_bytes = 5\n").unwrap();
    let (code, report) = doctor(&["--config", config]);
    let found = findings(&report, "configuration");
    assert_eq!((code, found.len()), (Some(1), 2), "{report:#}");
    assert!(
        found.iter().all(|found| found.0 == "fail") && found[0].1.contains("did you mean inbox.floor"),
        "{report:#}"
    );

    fs::write(&file, "[medium]\nurl = \"nats://u:p@127.0.0.1:1\"\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let (_, report) = doctor(&["--config", config, "--medium", "local:"]);
    let (status, text, remedy) = findings(&report, "files")[0];
    assert!(status == "fail" && text.contains("may write") && remedy.contains("chmod o-w"), "{report:#}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, report) = doctor(&["--config", config, "--medium", "local:"]);
    let (status, text, _) = findings(&report, "files")[0];
    assert!(code == Some(0) && status == "warn" && text.contains("password"), "{report:#}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let (_, report) = doctor(&["--config", config, "--medium", "local:"]);
    assert_eq!(findings(&report, "files")[0].0, "ok", "{report:#}");
    assert_eq!(findings(&report, "medium")[0].0, "warn");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_was_ahead_is_found_and_its_file_is_the_way_out() {
    let server = NatsServer::start().await.unwrap();
    let (url, folder) = (server.url(), tempfile::tempdir().unwrap());
    let store = folder.path().join("home.field");
    let aether = aether::connect(&url).await.unwrap();
    let mut limits = Limits::default();
    limits.max_drift = Duration::from_secs(2 * 3600);
    let field =
        Field::builder("home").replica("pi").limits(limits).store(&store).join(&aether).await.unwrap();
    let (healthy, report) = doctor(&["--medium", &url, "--roll-call", "8s"]);
    assert_eq!((healthy, findings(&report, "fields")[0].0), (Some(0), "ok"), "{report:#}");
    let stamp = Stamp { micros: micros_since_1970() + 3_600_000_000, logical: 0, writer: WriterId(7) };
    let entry = Entry { stamp, replaces: None, value: Some("1".into()) };
    let _ = field.submit(Change { key: Key::Register("lamp".into()), entry }).unwrap();
    let (code, report) = doctor(&["--medium", &url, "--roll-call", "8s"]);
    let (status, text, remedy) = findings(&report, "fields")[0];
    assert!((code, status) == (Some(1), "fail") && text.contains("the replica \"pi\""), "{report:#}");
    assert!(remedy.contains("aether field restamp"), "{report:#}");
    field.close().await.unwrap();

    let restamp = |args: &[&str]| run(&[&["field", "restamp", store.to_str().unwrap()], args].concat());
    // Some of the hour has passed, and more of it on a busy machine.
    let found = restamp(&[]);
    assert!(found.code == Some(1) && found.out.starts_with("1 entries are up to 5"), "{found:?}");
    let written = restamp(&["--write"]);
    assert!(written.code == Some(0) && written.out.ends_with("and have stamps of now\n"), "{written:?}");
    let again = restamp(&[]);
    assert!(again.code == Some(0) && again.out.starts_with("no stamp is ahead"), "{again:?}");
}
