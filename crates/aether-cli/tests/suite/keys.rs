//! `aether keys`, and the commands with sealed waves over a real NATS server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aether::nats::NatsOptions;
use aether::seal::{SealKeys, Signers, SigningKey, is_sealed};
use aether_conformance::NatsServer;
use aether_core::Vibrator;
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::nats::{listener, server, with};
use crate::process::{PATIENCE, Said, run, run_all};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_made_shown_and_rotated_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aether.keys");
    let file = path.to_str().unwrap();
    let keys = |args: &[&str]| {
        let said = run(&[&["keys"], args].concat());
        assert!(!said.out.contains("aether-key") && !said.err.contains("aether-key"), "{said:?}");
        said
    };
    let ids = || SealKeys::from_file(&path).unwrap().ids().map(|(id, _)| id.to_string()).collect::<Vec<_>>();
    let made = keys(&["new", file]);
    assert!(made.code == Some(0) && made.out.contains("seals and opens"), "{made:?}");
    let old = ids().remove(0);
    assert!(made.out.starts_with(&old) && mode(&path) == 0o600, "{made:?}");
    // Never overwritten.
    let again = keys(&["new", file]);
    assert!(again.code == Some(1) && ids() == [old.clone()], "{again:?}");
    let early = keys(&["rotate", file, "--seal"]);
    assert!(early.code == Some(1) && early.err.contains("one key only"), "{early:?}");
    assert_eq!(keys(&["rotate", file]).code, Some(0));
    let [first, new] = ids().try_into().unwrap();
    assert_eq!((first, mode(&path)), (old.clone(), 0o600));
    let shown = keys(&["show", file]);
    assert_eq!(shown.out, format!("{old}  seals and opens\n{new}  opens\n"));
    assert_eq!(keys(&["rotate", file, "--seal"]).code, Some(0));
    let twice = keys(&["rotate", file, "--seal"]);
    assert!(twice.code == Some(1) && twice.err.contains("--drop"), "{twice:?}");
    let dropped = keys(&["rotate", file, "--drop"]);
    assert!(dropped.code == Some(0) && dropped.out.contains(&format!("removed {old}")), "{dropped:?}");
    assert_eq!((ids(), mode(&path)), (vec![new], 0o600));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let public = keys(&["show", file]);
    assert!(public.code == Some(1) && public.err.contains("chmod 600"), "{public:?}");
    let listen = run(&["listen", "a", "--medium", "nats://127.0.0.1:1", "--wait", "0", "--keys", file]);
    // A mistake of the caller, as other arguments that cannot be used.
    assert!(listen.code == Some(2) && listen.err.contains("chmod 600"), "{listen:?}");
}

#[test]
fn keys_that_sign_are_made_and_shown_as_lines_of_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let (path, list) = (folder.path().join("shop.key"), folder.path().join("signers"));
    let (file, listed) = (path.to_str().unwrap(), list.to_str().unwrap());
    let made = run(&["keys", "new", "--signing", file]);
    let key = SigningKey::from_file(&path).unwrap();
    let (id, public) = (key.id(), key.public_key());
    assert!(
        made.code == Some(0) && made.out.starts_with(&format!("{id}  signs, as\n{public}\n")),
        "{made:?}"
    );
    assert_eq!(mode(&path), 0o600);
    let again = run(&["keys", "new", "--signing", file]);
    assert!(
        again.code == Some(1) && SigningKey::from_file(&path).unwrap() == key,
        "never overwritten: {again:?}"
    );
    let shown = run(&["keys", "show", file]);
    assert_eq!(shown.out, format!("{id}  signs, as\n{public}\n"));
    fs::write(&list, format!("# ours\nshop {public}\naether-* {public}\n")).unwrap();
    fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = run(&["keys", "show", listed]);
    assert_eq!(shown.out, format!("{id}  shop\n{id}  aether-*\n"));
    assert!(!made.out.contains("aether-signing-key") && !made.err.contains("aether-signing-key"), "{made:?}");
    let unsealed = ["listen", "a", "--medium", "nats://127.0.0.1:1", "--wait", "0", "--signing-key", file];
    let unsealed = run(&unsealed);
    assert!(unsealed.code == Some(2) && unsealed.err.contains("aether keys new"), "{unsealed:?}");
}

/// The processes of these tests tell several times a second what they refused; the rest of the time is for a busy
/// machine.
const SEALING_DOCTOR: [&str; 4] = ["doctor", "--json", "--roll-call", "8s"];

/// The findings about sealing.
fn sealing(said: &Said) -> Vec<Value> {
    let report: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
    let found = report["checks"].as_array().unwrap().iter();
    found.filter(|finding| finding["check"] == "sealing").cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_signers_that_are_not_listed() {
    // A stranger is on the second one.
    let servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (keys, own, strange) =
        (SealKeys::generate().unwrap(), SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    keys.save_new(path("keys")).unwrap();
    own.save_new(path("own.key")).unwrap();
    // A list without the own key would refuse what this machine sends itself.
    let others = Signers::new().allow("aether-*", strange.public_key()).unwrap();
    for (name, list) in
        [("signers", format!("aether-* {}\n", own.public_key())), ("others", others.to_string())]
    {
        fs::write(path(name), list).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let has = |found: &[Value], status: &str, part: &str| {
        found
            .iter()
            .any(|finding| finding["status"] == status && finding["text"].as_str().unwrap().contains(part))
    };
    let options = NatsOptions::default().keys(keys.clone()).signing_key(strange.clone());
    let stranger = aether::builder().url(servers[1].url()).program("stranger").options(options);
    let stranger =
        stranger.account_every(Some(std::time::Duration::from_millis(100))).connect().await.unwrap();
    let urls = servers.each_ref().map(NatsServer::url);
    let files = ["keys", "own.key", "signers", "others"].map(|name| path(name).to_str().unwrap().to_owned());
    let [keys, own_key, signers, others] = &files;
    let args = [(&urls[0], signers), (&urls[1], signers), (&urls[0], others)].map(|(url, signers)| {
        let sealing = ["--keys", keys, "--signing-key", own_key, "--signers", signers];
        [&SEALING_DOCTOR[..], &["--medium", url], &sealing].concat()
    });
    let said = tokio::task::block_in_place(|| run_all(args.each_ref().map(Vec::as_slice)));
    let [healthy, found, refused] = said.map(|said| sealing(&said));
    assert!(has(&healthy, "ok", &format!("{} signs, 1 names are listed", own.id())), "{healthy:#?}");
    assert!(healthy.iter().all(|finding| finding["status"] == "ok"), "{healthy:#?}");
    assert!(has(&found, "fail", &format!("signed with key {}", strange.id())), "{found:#?}");
    assert!(has(&refused, "fail", "not on its own list"), "{refused:#?}");
    stranger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_with_one_file_hear_each_other_and_the_server_sees_nothing() {
    let (server, medium) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aether.keys");
    let file = path.to_str().unwrap();
    SealKeys::generate().unwrap().save_new(&path).unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut seen = client.subscribe("aether.orders.created").await.unwrap();
    client.flush().await.unwrap();
    let mut listener = listener(&["orders.>", "--json", "--count", "1", "--keys", file], &medium);
    client.publish("aether.orders.created", "a forged order".into()).await.unwrap();
    client.flush().await.unwrap();
    let emitted = run(&with(&["emit", "orders.created", "{\"sku\":\"lamp\"}", "--keys", file], &medium));
    assert_eq!((emitted.code, emitted.err.as_str()), (Some(0), ""));
    let line: Value = serde_json::from_str(&listener.line()).unwrap();
    assert_eq!(line["payload"]["sku"], "lamp", "the forged order is not delivered");
    let (ended, _) = listener.end();
    assert!(ended.err.contains("messages refused: 1 plain"), "{ended:?}");
    // Benchmarks measure the given medium: sealed waves, also from the process that they start.
    let mut bench = client.subscribe("aether.>").await.unwrap();
    client.flush().await.unwrap();
    let args = ["bench", "throughput", "--seconds", "0.2", "--json", "--keys", file];
    let measured = run(&with(&args, &medium));
    let counts: Value = serde_json::from_str(&measured.out).unwrap_or_else(|_| panic!("{measured:?}"));
    assert!(counts["delivered"].as_u64().unwrap() > 0, "{counts}");
    client.publish("aether.end", "".into()).await.unwrap();
    let mut messages = 0;
    loop {
        let message = tokio::time::timeout(PATIENCE, bench.next()).await.unwrap().unwrap();
        if message.subject.as_str() == "aether.end" {
            break;
        }
        assert!(is_sealed(&message.payload), "{message:?}");
        messages += 1;
    }
    assert!(messages > 0);
    let mut next = async || tokio::time::timeout(PATIENCE, seen.next()).await.unwrap().unwrap().payload;
    assert_eq!(next().await, "a forged order");
    assert!(is_sealed(&next().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_keys_that_are_missing_here_and_who_refuses_what() {
    // A stranger is on the second one.
    let servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aether.keys");
    let keys = SealKeys::generate().unwrap();
    keys.save_new(&path).unwrap();
    let connect = |server: &NatsServer, keys: SealKeys, program: &'static str| {
        let builder = aether::builder().url(server.url()).program(program);
        builder
            .account_every(Some(std::time::Duration::from_millis(200)))
            .options(NatsOptions::default().keys(keys))
            .connect()
    };
    let mut friends = Vec::new();
    for server in &servers {
        let friend = connect(server, keys.clone(), "friend").await.unwrap();
        let ear = Vibrator::create("ear", &friend).await.unwrap();
        ear.resonate_on("shop.*").await.unwrap();
        friends.push((friend, ear));
    }
    let others = SealKeys::generate().unwrap();
    let id = others.ids().next().unwrap().0.to_string();
    let stranger = connect(&servers[1], others, "stranger").await.unwrap();
    let emitter = stranger.emitter("stranger").unwrap();
    let emitting = tokio::spawn(async move {
        // Until the doctor is done.
        loop {
            emitter.emit_bytes("shop.load", "x").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let urls = servers.each_ref().map(NatsServer::url);
    let args = urls
        .each_ref()
        .map(|url| [&SEALING_DOCTOR[..], &["--medium", url, "--keys", path.to_str().unwrap()]].concat());
    let said = tokio::task::block_in_place(|| run_all(args.each_ref().map(Vec::as_slice)));
    emitting.abort();
    let [healthy, found] = said.map(|said| sealing(&said));
    // Its own messages are sealed, so that nobody counts them as refused.
    assert!(healthy.len() == 1 && healthy[0]["status"] == "ok", "{healthy:#?}");
    let text = |part: &str| found.iter().any(|finding| finding["text"].as_str().unwrap().contains(part));
    assert!(text(&format!("sealed with key {id}")), "{found:#?}");
    assert!(text("friend") && text("unknown key"), "{found:#?}");
}
