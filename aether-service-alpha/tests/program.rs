//! The order service as a program: its exit codes, and what it says when it cannot start.

use assert_cmd::Command;

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_aether-service-alpha"));
    for variable in ["AETHER_MEDIUM", "AETHER_PREFIX", "AETHER_WIRE", "AETHER_LOG"] {
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
        (["--orders", "few"], "invalid digit"),
    ] {
        let (code, out, err) = run(&args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(allowed), "{args:?}: {err}");
    }
}

#[test]
fn a_server_that_is_not_there_is_one_line_with_its_causes_and_code_1() {
    // Port 1 is reserved and nobody listens on it.
    let (code, out, err) = run(&["--medium", "nats://127.0.0.1:1"]);
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
    for name in
        ["--medium", "AETHER_MEDIUM", "--prefix", "--wire", "--orders", "--rate", "--decline-rate", "--seed"]
    {
        assert!(out.contains(name), "{name}: {out}");
    }
}
