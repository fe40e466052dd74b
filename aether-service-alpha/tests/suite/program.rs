//! The order service as a program: exit codes and start-up errors.

use assert_cmd::Command;

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_aether-service-alpha"));
    for variable in ["AETHER_MEDIUM", "AETHER_PREFIX", "AETHER_WIRE", "AETHER_WAIT", "AETHER_LOG"] {
        program.env_remove(variable);
    }
    let output = program.args(args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn wrong_usage_is_refused_with_code_2_and_says_what_is_allowed() {
    for (args, allowed) in [
        (["--rate", "0"], "0.001 to 1000 orders a second"),
        (["--decline-rate", "2"], "from 0 (never) to 1 (always)"),
        (["--wire", "smoke"], "frames, cloudevents"),
        (["--orders", "few"], "use a whole number from 0"),
    ] {
        let (code, out, err) = run(&args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(allowed), "{args:?}: {err}");
    }
}

#[test]
fn a_server_that_is_not_there_is_one_line_with_its_causes_and_code_1() {
    // Port 1 is reserved and unused.
    let (code, out, err) = run(&["--medium", "nats://127.0.0.1:1", "--wait", "0"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    let last: Vec<_> = err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(last.len(), 1, "{err}");
    assert!(last[0].contains("cannot connect to nats://127.0.0.1:1"), "{err}");
    assert!(last[0].matches(": ").count() >= 3, "causes are missing: {err}");
}

#[test]
fn help_names_every_argument_and_its_variable() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for name in [
        "--medium",
        "AETHER_MEDIUM",
        "--prefix",
        "--wire",
        "--wait",
        "AETHER_WAIT",
        "--orders",
        "--rate",
        "--decline-rate",
        "--seed",
    ] {
        assert!(out.contains(name), "{name}: {out}");
    }
}

/// On a local medium its orders cannot end, so it is still waiting for them at the second signal.
#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_program_at_once_with_code_130() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_aether-service-alpha"))
        .args(["--medium", "local:", "--rate", "1000", "--set", "service.alpha.grace=60s"])
        .env_remove("AETHER_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(program.id().try_into().unwrap());
    let mut log = BufReader::new(program.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |text: &str| {
        let line = log.find(|line| line.contains(text));
        assert!(line.is_some(), "the log ended without {text:?}");
    };
    until("the local medium lives inside this process");
    until("no receiver on inventory.reserve");
    kill(pid, Signal::SIGTERM).unwrap();
    until("shutting down");
    kill(pid, Signal::SIGINT).unwrap();
    until("quitting at once");
    let output = program.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(130), &b""[..]));
}
