//! The messages of programs to systemd, and the unit in `deploy/systemd`.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use aether_conformance::NatsServer;

use crate::process::{PATIENCE, Running, aether};

#[tokio::test]
async fn a_program_tells_systemd_when_it_is_ready_when_a_change_is_refused_and_when_it_stops() {
    let server = NatsServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("default.toml"), "").unwrap();
    for program in ["beta", "gateway"] {
        let path = folder.path().join(program);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let told = || {
            let mut bytes = [0; 4096];
            let length = socket.recv(&mut bytes).expect("systemd gets a message");
            String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
        };
        let config = folder.path().to_str().unwrap();
        let mut command = aether(&[program, "--config", config, "--medium", &server.url()]);
        if program == "gateway" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.env("NOTIFY_SOCKET", &path);
        let running = Running::of(command);
        assert_eq!(told(), "READY=1", "{program}");
        std::fs::write(folder.path().join("default.toml"), "[inbox]\nflor = 1\n").unwrap();
        let mut line = told();
        // A program may be ready in more than one of its parts.
        while line == "READY=1" {
            line = told();
        }
        assert!(
            line.starts_with("STATUS=") && line.contains("did you mean inbox.floor?"),
            "{program}: {line}"
        );
        std::fs::write(folder.path().join("default.toml"), "").unwrap();
        assert_eq!(told(), "STATUS=the changed configuration is in force", "{program}");
        running.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(told(), "STOPPING=1", "{program}");
        assert_eq!(running.end().0.code, Some(0), "{program}");
    }
}

/// With systemd's own tools; where they are missing, the test prints so.
#[test]
fn the_unit_is_valid_and_hardened() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .join("deploy/systemd/aether@.service");
    let text = std::fs::read_to_string(unit).unwrap();
    assert!(text.contains("\nType=notify\n") && text.contains("\nRestartPreventExitStatus=2\n"));
    // The program at its place in this build.
    let folder = tempfile::tempdir().unwrap();
    let program = assert_cmd::cargo::cargo_bin!("aether");
    let here: PathBuf = folder.path().join("aether@.service");
    std::fs::write(&here, text.replace("/usr/local/bin/aether", program.to_str().unwrap())).unwrap();
    let systemd = |args: &[&str]| {
        let output = Command::new("systemd-analyze").args(args).arg(&here).output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    };
    let Some((is_valid, said)) = systemd(&["verify", "--man=no", "--recursive-errors=no"]) else {
        eprintln!("not verified: systemd-analyze is not installed");
        return;
    };
    assert!(is_valid && !said.contains("aether@.service:"), "{said}");
    // 10 is without any protection; 2 is what systemd calls "OK".
    let (is_hardened, said) =
        systemd(&["security", "--offline=yes", "--threshold=20", "--no-pager"]).unwrap();
    assert!(is_hardened, "{said}");
}
