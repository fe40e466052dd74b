//! `aether field` over a real NATS server: a replica that stays, and commands that come and go.

use std::path::Path;

use aether_conformance::NatsServer;
use nix::sys::signal::Signal;

use crate::process::{PATIENCE, Running, run};

#[tokio::test]
async fn a_replica_that_stays_keeps_what_commands_write() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("home.field");
    let store = store.to_str().unwrap();
    let field = |args: &[&str]| run(&[&["field"], args, &["--medium", &url, "--timeout", "2m"]].concat());

    let nobody = run(&["field", "get", "home", "lamp", "--timeout", "200ms", "--medium", &url]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.err.contains("no other replica of the field answered within 200ms"), "{nobody:?}");

    let keep = ["field", "keep", "home", "--store", store, "--medium", &url];
    let mut keeper = Running::start(&keep);
    keeper.tells("keeps 0 entries");
    let set = field(&["set", "home", "lamp/1", "{\"on\":true}"]);
    assert_eq!((set.code, set.out.as_str()), (Some(0), ""), "{set:?}");
    assert_eq!(field(&["get", "home", "lamp/1"]).out, "{\"on\":true}\n");
    assert_eq!(field(&["set", "home", "lamp/2", "1"]).code, Some(0));
    assert_eq!(field(&["rm", "home", "lamp/2"]).code, Some(0));
    let missing = field(&["get", "home", "lamp/2"]);
    assert_eq!((missing.code, missing.out.as_str()), (Some(1), ""), "{missing:?}");
    let null = field(&["set", "home", "lamp/3", "null"]);
    assert!(null.err.contains("a field holds no null; remove \"lamp/3\" instead"), "{null:?}");
    assert!(field(&["peers", "home"]).out.contains("aether-field"));

    // Killed without warning, it has everything again.
    keeper.signal(Signal::SIGKILL);
    drop(keeper);
    let mut keeper = Running::start(&keep);
    // The removal is kept as well, as a mark.
    keeper.tells("keeps 2 entries");
    let export = field(&["export", "home"]).out;
    let lines: Vec<_> = export.lines().collect();
    assert!(
        lines[0]
            .starts_with("{\"kind\":\"set\",\"key\":\"lamp/1\",\"value\":{\"on\":true},\"stamp\":{\"p\":"),
        "{export}"
    );
    assert!(lines[1].starts_with("{\"kind\":\"del\",\"key\":\"lamp/2\",\"value\":null,"), "{export}");

    let file = folder.path().join("ledger.jsonl");
    let records = "\
{\"kind\":\"set\",\"key\":\"x\",\"value\":7,\"stamp\":{\"p\":1700000000000000000,\"l\":0,\"n\":\"a\"}}
{\"kind\":\"set\",\"key\":\"lamp/1\",\"value\":0,\"stamp\":{\"p\":1700000000000000000,\"l\":0,\"n\":\"a\"}}
{\"kind\":\"set\",\"key\":\"y\",\"value\":null,\"stamp\":{\"p\":1700000000000000000,\"l\":0,\"n\":\"a\"}}
{\"kind\":\"set\",\"key\":\"x\",\"va";
    std::fs::write(&file, records).unwrap();
    let import = field(&["import", "home", file.to_str().unwrap()]);
    assert_eq!(import.code, Some(1), "{import:?}");
    for part in [
        "line 3: the value is null, and a field holds no null",
        "line 4: the last line is not complete",
        "imported 2 registers, 0 removals; 1 are new, 1 older than what is there; 2 skipped",
        "2 records were skipped, as stated above; the others were imported",
    ] {
        assert!(import.err.contains(part), "{part}: {import:?}");
    }
    assert_eq!(field(&["get", "home", "lamp/1"]).out, "{\"on\":true}\n");
    assert_eq!(field(&["get", "home", "x"]).out, "7\n");
    // Written by an editor that begins with a byte order mark.
    let whole = records.lines().take(2).collect::<Vec<_>>().join("\n");
    std::fs::write(&file, format!("\u{feff}{whole}\n")).unwrap();
    let import = field(&["import", "home", file.to_str().unwrap()]);
    assert_eq!(import.code, Some(0), "{import:?}");
    keeper.signal(Signal::SIGINT);
    let (said, _) = keeper.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with("field: 3 entries"), "{said:?}");

    let verify = run(&["field", "verify", store]);
    assert_eq!((verify.code, verify.out.as_str()), (Some(0), "3 entries are readable\n"), "{verify:?}");
    let mut bytes = std::fs::read(store).unwrap();
    let places = |bytes: &[u8]| -> Vec<usize> {
        bytes.windows(4).enumerate().filter(|(_, part)| part == b"true").map(|(at, _)| at).collect()
    };
    for at in places(&bytes) {
        bytes[at] ^= 1;
    }
    std::fs::write(store, bytes).unwrap();
    let verify = run(&["field", "verify", store]);
    assert_eq!(verify.code, Some(1), "{verify:?}");
    assert!(verify.out.contains("damaged: \"lamp/1\" at byte "), "{verify:?}");
    assert!(verify.out.contains("2 entries are readable"), "{verify:?}");
    assert!(verify.err.contains("is damaged; a replica that opens it saves what is readable"), "{verify:?}");
}

#[tokio::test]
async fn an_owner_certified_by_the_root_writes_and_nobody_else_does() {
    let server = NatsServer::start().await.unwrap();
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let field = |args: &[&str]| run(&[&["field"], args, &["--medium", &url, "--timeout", "2m"]].concat());
    let made = |name: &str, path: &str| {
        let made = run(&["field", "identity", "new", name, path]);
        assert_eq!(made.code, Some(0), "{made:?}");
        assert_eq!(run(&["field", "identity", "show", path]).out, made.out);
        made.out.trim().rsplit_once(' ').unwrap().1.to_owned()
    };
    let (root_file, pi_file, evil_file) = (file("root"), file("pi-2"), file("evil"));
    let stranger_file = file("pi-9");
    made("pi-9", &stranger_file);
    let (root, pi, _) = (made("root", &root_file), made("pi-2", &pi_file), made("pi-2", &evil_file));
    let again = run(&["field", "identity", "new", "pi-2", &pi_file]);
    assert!(again.code == Some(1) && again.err.contains("cannot be read or written"), "{again:?}");
    let mut keeper = Running::start(&["field", "keep", "home", "--root", &root, "--medium", &url]);
    keeper.tells("keeps 0 entries");

    let certified = field(&["certify", "home", "pi-2", &pi, "--identity", &root_file]);
    assert_eq!(certified.code, Some(0), "{certified:?}");
    let twice = field(&["certify", "home", "pi-2", &pi, "--identity", &root_file]);
    assert!(twice.code == Some(1) && twice.err.contains("there is nothing to certify"), "{twice:?}");
    let set = field(&["set", "home", "temp", "21", "--own", "--identity", &pi_file, "--root", &root]);
    assert_eq!(set.code, Some(0), "{set:?}");
    let evil = field(&["set", "home", "temp", "99", "--own", "--identity", &evil_file, "--root", &root]);
    assert!(evil.code == Some(1) && evil.err.contains("not signed by the present key"), "{evil:?}");
    assert_eq!(field(&["get", "home", "temp", "--of", "pi-2", "--root", &root]).out, "21\n");
    // The keeper trusts neither this owner nor that root.
    let stranger = field(&["set", "home", "temp", "1", "--own", "--identity", &stranger_file]);
    assert!(
        stranger.code == Some(1) && stranger.err.contains("did not take 1 of the entries"),
        "{stranger:?}"
    );
    let unknown = field(&["certify", "home", "pi-3", &pi, "--identity", &evil_file]);
    assert!(unknown.code == Some(1) && unknown.err.contains("it trusts no key"), "{unknown:?}");
    assert_eq!(field(&["get", "home", "temp", "--of", "pi-2", "--trust", &format!("pi-2={pi}")]).out, "21\n");
    let nobody = field(&["get", "home", "temp", "--of", "pi-2"]);
    assert!(nobody.code == Some(1) && nobody.err.contains("no register"), "{nobody:?}");
    let no_key = field(&["get", "home", "temp", "--trust", "pi-2=12"]);
    assert!(no_key.code == Some(2) && no_key.err.contains("64 hexadecimal digits"), "{no_key:?}");
    keeper.signal(Signal::SIGINT);
    let (said, _) = keeper.end();
    assert!(said.out.starts_with("field: 2 entries"), "{said:?}");
}

/// C3 1: the commands of the page on shared state print the output that is shown there.
#[tokio::test]
async fn the_commands_of_the_page_on_shared_state_print_what_it_says() {
    let server = NatsServer::start().await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let page = std::fs::read_to_string(root.join("docs/start/shared-state.md")).unwrap();
    let (_, block) = page.split_once("```console\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (mut script, mut expected) = (String::new(), String::new());
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            // A busy machine may need longer than the default to hear another replica.
            Some(command) if [" set ", " get "].iter().any(|action| command.contains(action)) => {
                script += &format!("{command} --timeout 2m\n");
            }
            Some(command) => script += &format!("{command}\n"),
            None => expected += &format!("{line}\n"),
        }
    }
    assert!(script.lines().count() > 3 && !expected.is_empty(), "{block}");
    // The last replica ends with the test.
    script += "kill $!\nwait\n";
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_aether")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", &script]).current_dir(folder.path()).kill_on_drop(true);
    command.env("PATH", path.unwrap()).env("AETHER_MEDIUM", server.url());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
