//! Commands that log in, with each kind of login, by options and by the files of a configuration.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aether_conformance::{NatsServer, ServerOptions};
use nix::sys::signal::Signal;
use nkeys::KeyPair as Nkey;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::process::{PATIENCE, Running, Said, aether, run};

/// A server that lets nobody in without a login, and the settings with which a program gets in.
struct Secured {
    server: NatsServer,
    /// Names of `[medium]`, and their values.
    settings: Vec<(&'static str, String)>,
    _streams: TempDir,
}

/// How a command is given the settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Options,
    Files,
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

impl Secured {
    async fn start(options: ServerOptions, settings: Vec<(&'static str, String)>) -> Self {
        let streams = TempDir::new().unwrap();
        let server = NatsServer::start_with(options.jetstream(streams.path())).await.unwrap();
        Self { server, settings, _streams: streams }
    }

    /// TLS with a private authority, which asks for a certificate.
    async fn by_certificate(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let path = |file: &str| folder.join(file).display().to_string();
        fs::write(path("ca.pem"), issuer.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
            fs::write(path(&format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
            secret(&folder.join(format!("{name}.key")), &key.serialize_pem());
        }
        let (server, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
        let tls =
            format!("{{ cert_file: \"{server}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: true }}");
        let certificate = format!("{},{}", path("client.pem"), path("client.key"));
        let settings = vec![("ca", ca), ("certificate", certificate)];
        Self::start(ServerOptions::default().setting("tls", tls), settings).await
    }

    async fn by_nkey(folder: &Path) -> Self {
        let keys = Nkey::new_user();
        let file = folder.join("nkey");
        secret(&file, &keys.seed().unwrap());
        let users = format!("{{ users: [{{ nkey: {} }}] }}", keys.public_key());
        let options = ServerOptions::default().setting("authorization", users);
        Self::start(options, vec![("login", format!("nkey:{}", file.display()))]).await
    }

    async fn by_password(folder: &Path) -> Self {
        let file = folder.join("password");
        secret(&file, "right");
        let users = "{ users: [{ user: shop, password: right }] }";
        let options = ServerOptions::default().setting("authorization", users);
        Self::start(options, vec![("login", format!("password:shop:{}", file.display()))]).await
    }

    /// The arguments that a command gets after its own. `side` is the beginning of the options of a bridge.
    fn args(&self, by: By, side: &str, folder: &Path) -> Vec<String> {
        match by {
            By::Options => {
                let named = |(name, value): &(&str, String)| [format!("--{side}{name}"), value.clone()];
                self.settings.iter().flat_map(named).collect()
            }
            By::Files => {
                let config = folder.join("config");
                write_config(&config, &self.server.url(), &self.settings);
                vec![format!("--{side}config"), config.display().to_string()]
            }
        }
    }

    /// The same with the address.
    fn medium(&self, by: By, folder: &Path) -> Vec<String> {
        let url = match by {
            By::Options => vec!["--medium".to_owned(), self.server.url()],
            By::Files => Vec::new(),
        };
        [url, self.args(by, "", folder)].concat()
    }
}

fn write_config(folder: &Path, url: &str, settings: &[(&str, String)]) {
    fs::create_dir_all(folder).unwrap();
    let mut text = format!("[medium]\nurl = \"{url}\"\n");
    text.extend(settings.iter().map(|(name, value)| format!("{name} = \"{value}\"\n")));
    fs::write(folder.join("default.toml"), text).unwrap();
}

fn all<'a>(args: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    args.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

#[track_caller]
fn done(said: Said, args: &[&str]) -> Said {
    assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
    said
}

/// Every kind of command that connects.
fn works(secured: &Secured, by: By, folder: &Path) {
    let medium = secured.medium(by, folder);
    let runs = |args: &[&str]| done(run(&all(args, &medium)), args);

    let mut listener = Running::start(&all(&["listen", "orders.>", "--count", "2"], &medium));
    listener.tells("listening on ");
    runs(&["emit", "orders.created", "17"]);
    assert!(listener.line().ends_with("  17"));

    let plain = secured.server.url();
    let sides = secured.args(by, "here-", folder);
    let (mut there, url) = (Running::start(&all(&["listen", "sensors.>", "--count", "1"], &medium)), &plain);
    there.tells("listening on ");
    let bridge = ["bridge", url, url, "--relay", "sensors.>", "--there-prefix", "other"];
    let both = [sides, secured.args(by, "there-", folder)].concat();
    let mut bridge = Running::start(&all(&bridge, &both));
    bridge.tells("relaying sensors.> between");
    runs(&["emit", "sensors.attic", "21", "--prefix", "other"]);
    assert!(there.line().ends_with("  21"));
    bridge.signal(Signal::SIGTERM);
    assert_eq!(bridge.end().0.code, Some(0));

    let mut beta = Running::start(&all(&["beta"], &medium));
    beta.tells("beta ");
    runs(&["ask", "inventory.restock", "{\"sku\":\"lamp\",\"quantity\":5}", "--timeout", "2m"]);
    // It ends when the service has described itself, not after a time.
    let described = runs(&["describe", "beta", "--roll-call", "2m", "--expect", "1"]);
    assert!(described.out.contains("inventory"));
    assert!(runs(&["top", "--once", "--for", "1ms"]).out.contains("PROCESS"));
    runs(&["map", "--for", "1ms"]);
    let letters = run(&all(&["letters", "ls", "--roll-call", "1ms"], &medium));
    assert!(letters.err.contains("0 dead letters"), "the samples keep none: {letters:?}");
    runs(&["doctor", "--roll-call", "1ms"]);

    let mut keep = Running::start(&all(&["field", "keep", "home"], &medium));
    keep.tells("keeps ");
    runs(&["field", "set", "home", "lamp", "true", "--timeout", "2m"]);
    assert_eq!(runs(&["field", "get", "home", "lamp", "--timeout", "2m"]).out.trim(), "true");

    let consumers = secured.args(by, "", folder);
    let args = ["log", "consumers", &plain];
    assert_eq!(done(run(&all(&args, &consumers)), &args).out.trim(), "no logs in JetStream");
}

async fn both_ways(start: impl AsyncFnOnce(&Path) -> Secured) {
    let folder = TempDir::new().unwrap();
    let secured = start(folder.path()).await;
    let refused = run(&["emit", "a", "1", "--wait", "0", "--medium", &secured.server.url()]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    for by in [By::Options, By::Files] {
        works(&secured, by, folder.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_connects_with_a_private_authority_and_a_certificate() {
    both_ways(Secured::by_certificate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_connects_with_an_nkey() {
    both_ways(Secured::by_nkey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_connects_with_a_user_and_a_password() {
    both_ways(Secured::by_password).await;
}

/// A server that greets as NATS does and records how its clients go on.
fn first_bytes(listener: TcpListener, args: &[&str]) -> [u8; 7] {
    let (accepting, accepted) = std::sync::mpsc::channel();
    std::thread::spawn(move || accepting.send(listener.accept().unwrap().0));
    let mut client = accepted.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nobody connects: {args:?}"));
    let greeting =
        r#"{"server_id":"a","server_name":"a","version":"2.15.1","proto":1,"max_payload":1048576}"#;
    client.write_all(format!("INFO {greeting}\r\n").as_bytes()).unwrap();
    let mut first = [0; 7];
    client.read_exact(&mut first).unwrap();
    first
}

#[test]
fn no_command_speaks_in_the_clear_where_the_configuration_names_an_authority() {
    let folder = TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(&ca, issuer.pem()).unwrap();
    let password = folder.path().join("password");
    secret(&password, "s3cret");
    let settings = [
        ("ca", ca.display().to_string()),
        ("login", format!("password:shop:{}", password.display())),
        ("wait", "0".to_owned()),
    ];
    let log = folder.path().join("log");
    drop(aether_log::Log::builder(&log).open().unwrap());
    let path = |path: PathBuf| path.display().to_string();
    let (recording, log) = (path(folder.path().join("a.rec")), path(log));
    let commands: [&[&str]; 16] = [
        &["emit", "a", "1"],
        &["listen", ">"],
        &["ask", "a", "1"],
        &["top", "--once"],
        &["map"],
        &["physics"],
        &["trace", "a@0000000000000001/1"],
        &["record", &recording],
        &["describe"],
        &["letters", "ls"],
        &["log", "replay", &log],
        &["field", "get", "a", "b"],
        &["field", "set", "a", "b", "1"],
        &["field", "keep", "a"],
        &["bench", "throughput"],
        &["doctor"],
    ];
    for args in commands {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = folder.path().join("config");
        write_config(&config, &format!("nats://{}", listener.local_addr().unwrap()), &settings);
        let mut command = aether(args);
        command.env("AETHER_CONFIG", &config);
        let _running = Running::of(command);
        let first = first_bytes(listener, args);
        // The first record of a TLS handshake.
        assert_eq!(first[0], 0x16, "{args:?}: {}", String::from_utf8_lossy(&first));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let config = path(folder.path().join("config"));
    let _bridge =
        Running::start(&["bridge", &url, "nats://127.0.0.1:1", "--relay", ">", "--here-config", &config]);
    assert_eq!(first_bytes(listener, &["bridge"])[0], 0x16);
}

#[test]
fn a_password_for_another_machine_without_tls_is_one_warning_that_does_not_show_it() {
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    secret(&password, "s3cret");
    let login = format!("password:shop:{}", password.display());
    // Nobody is there: the address is for documentation (RFC 5737).
    let args = ["--medium", "nats://192.0.2.1:4222", "--login", &login, "--wait", "0"];
    for command in [&["emit", "a", "1"][..], &["beta"], &["field", "get", "a", "b"]] {
        let mut child =
            aether(&[command, &args].concat()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let warning = lines.next().unwrap().unwrap();
        assert!(warning.contains("without TLS") && !warning.contains("s3cret"), "{command:?}: {warning}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(lines.map_while(Result::ok).all(|line| !line.contains("without TLS")), "{command:?}");
    }
}

#[test]
fn an_empty_variable_is_as_if_it_were_not_set() {
    for variable in ["AETHER_MEDIUM", "AETHER_PREFIX", "AETHER_WIRE", "AETHER_WAIT", "AETHER_KEYS"] {
        let mut command = aether(&["emit", "a", "1"]);
        let output = command.env(variable, "").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("inside one process"), "{variable}: {said}");
    }
}
