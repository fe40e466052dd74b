//! A process in trouble: memory that leaks, and panics outside of handlers. Each test runs `examples/troubled.rs`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

/// Longer than any machine takes; nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(120);

/// A program that is killed when it is dropped, so that a failed assertion leaves none behind.
struct Troubled {
    child: Child,
    /// Empty, and its own, so that no other program writes into it.
    _config: tempfile::TempDir,
}

impl Drop for Troubled {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Troubled {
    fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().unwrap()
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn stop(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn signal(&self, signal: Signal) {
        kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its lines on stdout.
    fn says(&mut self, lines: usize) {
        let stdout = BufReader::new(self.child.stdout.take().unwrap());
        assert_eq!(stdout.lines().take(lines).map_while(Result::ok).count(), lines);
    }
}

fn start(trouble: &str) -> Troubled {
    // Cargo builds the examples beside the tests.
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/troubled");
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AETHER_")) {
        command.env_remove(name);
    }
    let config = tempfile::tempdir().unwrap();
    command.args([trouble, "--set", "memory.watch=20ms", "--config"]).arg(config.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("cargo build --examples made it");
    Troubled { child, _config: config }
}

#[test]
fn a_service_that_leaks_is_hinted_at_and_one_that_does_not_is_not() {
    let (mut leaks, mut steady) = (start("leak"), start("steady"));
    let begun = Instant::now();
    let lines = BufReader::new(leaks.stderr()).lines();
    let hint = lines.map_while(Result::ok).find(|line| line.contains("grew from"));
    let hint = hint.expect("a hint before it ends");
    assert!(hint.contains("although no more waves wait") && hint.contains("resident_bytes"), "{hint}");
    assert!(begun.elapsed() < LONG);
    drop(leaks);
    // It has done the same work for as long.
    steady.stop();
    let mut said = String::new();
    steady.stderr().read_to_string(&mut said).unwrap();
    assert_eq!(steady.code(), Some(0), "{said}");
    assert!(!said.contains("grew from") && said.contains("the service ended"), "{said}");
}

#[test]
fn a_panic_outside_of_handlers_ends_the_process_with_an_account() {
    for (trouble, text) in [("panic", "the task is broken"), ("main-panic", "the main function is broken")] {
        let mut child = start(trouble);
        let mut said = String::new();
        child.stderr().read_to_string(&mut said).unwrap();
        assert_eq!(child.code(), Some(101), "{said}");
        assert!(
            said.contains("a panic outside of handlers ends this process") && said.contains(text),
            "{said}"
        );
        assert!(
            said.contains("received: waves: ") || said.contains("the account of the inboxes after a panic"),
            "{trouble}: {said}"
        );
    }
}

#[test]
fn panics_of_handlers_do_not_end_the_process_and_are_logged_with_their_wave() {
    let mut child = start("handler-panic");
    let mut lines = BufReader::new(child.stderr()).lines().map_while(Result::ok);
    let logged = lines.find(|line| line.contains("a wave was not handled")).expect("a line before it ends");
    assert!(logged.contains("panicked") && logged.contains("wave=source@"), "{logged}");
    child.stop();
    let rest: Vec<_> = lines.collect();
    assert_eq!(child.code(), Some(0), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("outside of handlers")), "{rest:?}");
}

#[test]
fn a_service_whose_log_nobody_reads_goes_on_and_ends_at_a_signal() {
    let mut child = start("chatty");
    // The pipe is full after the first wave.
    child.says(3);
    child.stop();
    assert_eq!(child.code(), Some(0));
    let mut said = String::new();
    child.stderr().read_to_string(&mut said).unwrap();
    assert!(said.len() < 2 << 20, "what was not read is not there");
}

#[test]
fn a_second_signal_ends_a_process_whose_threads_are_all_blocked() {
    let mut child = start("blocked");
    child.says(1);
    child.stop();
    let mut lines = BufReader::new(child.stderr()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("signal again to quit at once")));
    child.signal(Signal::SIGINT);
    assert!(lines.any(|line| line.contains("quitting at once")));
    assert_eq!(child.code(), Some(130));
}
