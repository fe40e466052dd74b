//! Help, completions, and what is said about wrong usage.

use std::time::Instant;

#[cfg(unix)]
use crate::process::Running;
use crate::process::{PATIENCE, aether, run, run_all, run_with_stdin};

#[test]
fn each_command_teaches_by_example() {
    let help = run(&["--help"]);
    assert!(help.code == Some(0) && help.out.contains("up           The order system"), "{help:?}");
    for command in [
        "up",
        "emit",
        "listen",
        "ask",
        "letters",
        "jobs",
        "bridge",
        "map",
        "physics",
        "record",
        "new",
        "field",
        "completions",
    ] {
        let help = run(&[command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{command}");
        assert!(help.out.contains(&format!("\n  aether {command} ")) || command == "emit", "{}", help.out);
        assert!(help.out.contains("Examples:"), "{}", help.out);
    }
    for command in ["throughput", "latency", "overload", "storm"] {
        let help = run(&["bench", command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{command}");
        for part in
            ["Examples:", &format!("\n  aether bench {command}"), "--medium nats://127.0.0.1:4222", "--json"]
        {
            assert!(help.out.contains(part), "{part}: {}", help.out);
        }
    }
    let loads = run(&["bench", "overload", "--help"]).out;
    assert!(loads.contains("[default: 0.5,0.8,1,1.5,2,5,10]"), "as it can be given: {loads}");
    // Without a command: how to use it, as a mistake.
    assert_eq!(run(&[]).code, Some(2));
    assert_eq!(run(&["--version"]).out.trim(), format!("aether {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_name_the_commands_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{shell}");
        assert!(script.out.contains("listen") && script.out.contains("half-life"), "{shell}");
    }
    let unknown = run(&["completions", "cmd"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("bash"), "{}", unknown.err);
}

#[test]
fn wrong_usage_is_code_2_and_says_what_is_allowed() {
    let cases: &[(&[&str], &str)] = &[
        (&["shout"], "unrecognized subcommand"),
        (&["emit"], "<CHANNEL>"),
        (&["emit", "a b", "1"], "use printable ASCII without spaces"),
        (&["emit", "orders.*", "1"], "wildcards belong in patterns"),
        (&["emit", "_aether.floor", "1"], "is reserved"),
        (&["emit", "a", "{lamp}"], "not JSON, key must be a string at line 1 column 2"),
        (&["emit", "a", "1", "--amplitude", "2"], "from 2.4e-10 to 1.0"),
        (&["emit", "a", "1", "--amplitude", "-0.5"], "from 2.4e-10 to 1.0"),
        (&["listen", ">", "--floor", "-1"], "from 2.4e-10 to 1.0"),
        (&["emit", "a", "1", "--rate", "-1"], "above 0"),
        (&["emit", "a", "1", "--half-life", "8"], "such as 500ms, 8s or 1m30s, or never"),
        (&["emit", "a", "1", "--kind", "rumour"], "use event, command, query, response or broadcast"),
        (&["emit", "a", "1", "--phase", "up"], "\"retract\""),
        (&["emit", "a", "1", "--rate", "0"], "above 0"),
        (&["emit", "a", "-", "--count", "2"], "--count repeats a payload that is an argument"),
        (&["map", "--format", "svg"], "dot, json, mermaid"),
        (&["letters", "replay"], "<ID>..."),
        (&["letters", "show", "17"], "name its folder with --log"),
        (&["letters", "show", "a-b"], "ids look like 1f9a3c5b7d2e4f60-17"),
        (&["letters", "drop", "1f-1", "--all"], "cannot be used with"),
        (&["letters", "ls", "--older", "5"], "such as 500ms"),
        (&["letters", "ls"], "no other process can keep a dead letter"),
        (&["map", "--for", "0s"], "longer than zero"),
        (&["physics", "--every", "often"], "such as 500ms"),
        (&["physics", "a.>.b"], "'>' a whole token and the last one"),
        (&["listen"], "<PATTERN>"),
        (&["listen", "a.>.b"], "'>' a whole token and the last one"),
        (&["listen", ">", "--floor", "7"], "from 2.4e-10 to 1.0"),
        (&["listen", ">", "--count", "0"], "use a whole number from 1 to"),
        (&["emit", "a", "1", "--count", "0"], "use a whole number from 1 to"),
        (&["emit", "a", "1", "--key", ""], "use 1 to 255"),
        (&["up", "--orders", "-1"], "use a whole number from 0 to"),
        (&["up", "--seed", "-1"], "use a whole number from 0 to"),
        (&["up", "--units", "-1"], "use a whole number from 0 to 4294967295"),
        (&["up", "--restock-every", "-1"], "from 0.001 to 31536000, or 0 for never"),
        (&["beta", "--heartbeat", "NaN"], "from 0.001 to 31536000, or 0 for never"),
        (&["alpha", "--rate", "-1"], "orders a second"),
        (&["bench", "overload", "--rounds", "0"], "use a whole number from 1 to"),
        (&["listen", ">", "--group", "a b"], "printable ASCII"),
        (&["ask", "a"], "<JSON>"),
        (&["ask", "a", "1", "--timeout", "0s"], "longer than zero"),
        (&["ask", "a", "lamp"], "'\"text\"'"),
        (&["up", "--listen", "8080"], "such as 127.0.0.1:8080"),
        (&["up", "--rate", "0"], "orders a second"),
        (&["up", "--overload", "0"], "1 is the capacity of the handler"),
        (&["bench", "overload", "--loads", "1,-1"], "1 is the capacity of the handler"),
        (&["bench", "overload", "--service", "0s"], "from 1us to 1s"),
        (&["bench", "overload", "--strong", "1.5"], "from 0 to 1"),
        (&["bench", "overload", "--seconds", "0"], "above 0 and at most 3600"),
        (&["bench", "overload", "--seconds", "3600", "--loads", "1000"], "use fewer seconds"),
        (&["bench", "latency", "--rate", "0"], "above 0"),
        (&["bench", "storm", "--fault", "0s"], "longer than zero"),
        (
            &["bench", "storm", "--before", "500000000000years", "--fault", "500000000000years"],
            "use fewer seconds",
        ),
        (&["bench", "throughput", "--payload-bytes", "1"], "from 13 to 1048576"),
        (&["bench", "throughput", "--medium", "amqp://a"], "use lan:, local:, nats:, tls:"),
        (&["gateway", "--listen", "localhost"], "such as 127.0.0.1:8080"),
        (&["emit", "a", "1", "--medium", "amqp://a"], "use lan:, local:, nats:, tls:"),
        (&["up", "--medium", "nowhere"], "use lan:, local:, nats:, tls:"),
        (&["gateway", "--medium", "kafka:9092"], "use lan:, local:, nats:, tls:"),
        (&["alpha", "--medium", "kafka:9092"], "use lan:, local:, nats:, tls:"),
        (&["beta", "--medium", "kafka:9092"], "use lan:, local:, nats:, tls:"),
        (&["listen", ">", "--medium", "nats://127.0.0.1:4222", "--prefix", "a b"], "printable ASCII"),
    ];
    let (cases, last) = cases.as_chunks::<8>();
    let all = cases.iter().flat_map(|cases| cases.iter().zip(run_all(cases.map(|(args, _)| args))));
    for ((args, allowed), said) in all.chain(last.iter().map(|case| (case, run(case.0)))) {
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{args:?}: {}", said.err);
        // The parser breaks lines where the terminal ends.
        let text = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(allowed), "{args:?}: {text}");
        assert!(text.starts_with("error: "), "{args:?}: {text}");
    }
}

#[test]
fn alone_on_the_local_medium_a_command_explains_what_to_do() {
    for args in [&["emit", "a", "1"][..], &["listen", ">"], &["ask", "a", "1"], &["emit", "a", "-"]] {
        let said = run(args);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{args:?}: {}", said.err);
        for part in ["the local medium lives inside one process", "nats://127.0.0.1:4222", "AETHER_MEDIUM"] {
            assert!(said.err.contains(part), "{args:?}: {}", said.err);
        }
    }
    let mut by_environment = aether(&["emit", "a", "1"]);
    let output = by_environment.env("AETHER_MEDIUM", "gopher://a").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("\"gopher\""));
}

#[test]
fn a_server_that_is_not_there_is_code_1_soon_and_in_one_line() {
    for args in [
        &["emit", "a", "1"][..],
        &["listen", ">"],
        &["ask", "a", "1"],
        &["up", "--listen", "127.0.0.1:0"],
        &["gateway"],
    ] {
        let since = Instant::now();
        // Nobody has port 1.
        let said = run(&[args, &["--medium", "nats://127.0.0.1:1", "--wait", "0"]].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{args:?}: {}", said.err);
        assert!(said.err.contains("cannot connect to nats://127.0.0.1:1"), "{args:?}: {}", said.err);
        assert_eq!(said.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", said.err);
        assert!(!said.err.contains("retrying"), "{args:?}: {}", said.err);
        assert!(since.elapsed() < PATIENCE, "{args:?}: {:?}", since.elapsed());
    }
}

#[cfg(unix)]
#[test]
fn a_server_that_says_nothing_is_not_waited_for_after_a_signal() {
    for args in [&["emit", "a", "1"][..], &["map"], &["up", "--listen", "127.0.0.1:0"], &["bench", "latency"]]
    {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("nats://{}", silent.local_addr().unwrap());
        let command = Running::start(&[args, &["--medium", &url]].concat());
        let connection = silent.accept().unwrap();
        command.signal(nix::sys::signal::Signal::SIGINT);
        let (said, _) = command.end();
        // A server that had not been waited for long enough would be an error of another name.
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{args:?}: {}", said.err);
        assert!(said.err.contains("error: interrupted before"), "{args:?}: {}", said.err);
        drop(connection);
    }
}

#[test]
fn stdin_is_not_waited_for_when_there_is_nobody_to_send_to() {
    let said = run_with_stdin(&["emit", "a", "-", "--medium", "nats://127.0.0.1:1", "--wait", "0"], "1\n");
    assert_eq!(said.code, Some(1), "{}", said.err);
}
