//! Processes of the command, and reading what they print while they run.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// For what takes milliseconds on an idle machine and may take seconds on a busy one. Nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The command, with an environment of which nothing but the arguments counts.
pub(crate) fn aether(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("aether"));
    for name in [
        "AETHER_MEDIUM",
        "AETHER_PREFIX",
        "AETHER_WIRE",
        "AETHER_WAIT",
        "AETHER_KEYS",
        "AETHER_LAN_SECRET",
        "AETHER_LAN_SECRET_FILE",
        "AETHER_SIGNING_KEY",
        "AETHER_SIGNERS",
        "AETHER_LOG",
        "AETHER_WAVES_TOKEN",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// The output of a process that has ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the command to its end.
pub(crate) fn run(args: &[&str]) -> Said {
    said(aether(args).output().unwrap())
}

/// Runs several commands to their ends, at the same time: they mostly wait.
pub(crate) fn run_all<const N: usize>(all: [&[&str]; N]) -> [Said; N] {
    let started = all.map(|args| {
        let mut command = aether(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    });
    started.map(|child| said(child.wait_with_output().unwrap()))
}

/// The same with something on stdin.
pub(crate) fn run_with_stdin(args: &[&str], stdin: &str) -> Said {
    said(assert_cmd::Command::from_std(aether(args)).write_stdin(stdin).output().unwrap())
}

fn said(output: std::process::Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A process that runs; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    out: Option<Receiver<String>>,
    err: Receiver<String>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut running = Self::start_unread(args);
        running.out = running.child.stdout.take().map(lines);
        running
    }

    /// In a process group of its own, as a shell starts a command.
    #[cfg(unix)]
    #[cfg(feature = "bench")]
    pub(crate) fn start_group(args: &[&str]) -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut command = aether(args);
        command.process_group(0);
        let mut running = Self::spawn(command);
        running.out = running.child.stdout.take().map(lines);
        running
    }

    /// With a stdout that the test reads by itself.
    pub(crate) fn start_unread(args: &[&str]) -> Self {
        Self::spawn(aether(args))
    }

    /// With a stdin that the test writes.
    #[cfg(unix)]
    pub(crate) fn start_with_stdin(args: &[&str]) -> (Self, std::process::ChildStdin) {
        let mut command = aether(args);
        command.stdin(Stdio::piped());
        let mut running = Self::spawn(command);
        running.out = running.child.stdout.take().map(lines);
        let stdin = running.child.stdin.take().unwrap();
        (running, stdin)
    }

    /// A command with an environment of its own.
    #[cfg(unix)]
    pub(crate) fn of(command: Command) -> Self {
        let mut running = Self::spawn(command);
        running.out = running.child.stdout.take().map(lines);
        running
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let err = lines(child.stderr.take().unwrap());
        Self { child, out: None, err }
    }

    pub(crate) fn stdout(&mut self) -> impl Read + use<> {
        self.child.stdout.take().unwrap()
    }

    /// All lines of stdout from now on.
    pub(crate) fn take_lines(&mut self) -> Receiver<String> {
        self.out.take().unwrap()
    }

    /// The next line of stdout.
    pub(crate) fn line(&mut self) -> String {
        self.out.as_ref().unwrap().recv_timeout(PATIENCE).expect("a line on stdout")
    }

    /// Waits for a line of stderr that has this in it.
    pub(crate) fn tells(&mut self, part: &str) -> String {
        loop {
            let line = self.err.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {part:?} on stderr"));
            if line.contains(part) {
                return line;
            }
        }
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let process = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(process, signal).unwrap();
    }

    /// To the process and to those that it started and left in its group.
    #[cfg(unix)]
    #[cfg(feature = "bench")]
    pub(crate) fn signal_group(&self, signal: nix::sys::signal::Signal) {
        let group = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::killpg(group, signal).unwrap();
    }

    /// Waits for the end; what was printed and not read yet, and how long it took.
    pub(crate) fn end(mut self) -> (Said, Duration) {
        let since = Instant::now();
        // The pipes close when the process ends, so the time-out is for one that does not.
        let rest = |lines: &Receiver<String>| {
            let mut text = String::new();
            while let Ok(line) = lines.recv_timeout(PATIENCE) {
                text += &line;
                text.push('\n');
            }
            text
        };
        let out = self.out.as_ref().map(rest).unwrap_or_default();
        let err = rest(&self.err);
        assert!(since.elapsed() < PATIENCE, "it does not end: {out}{err}");
        let status: ExitStatus = self.child.wait().unwrap();
        (Said { code: status.code(), out, err }, since.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread, so that the process never waits for the test.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The numbers of a line like `orders: 5 created = 3 completed + 2 refused`, by their words, after checking that they
/// add up.
pub(crate) fn sum(line: &str) -> Vec<(String, u64)> {
    let (_, terms) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
    let terms: Vec<(String, u64)> = terms
        .split([' '])
        .collect::<Vec<_>>()
        .split(|word| ["=", "+"].contains(word))
        .map(|term| (term[1..].join(" "), term[0].parse().unwrap_or_else(|_| panic!("{line:?}"))))
        .collect();
    let (whole, parts) = terms.split_first().unwrap();
    assert!(!parts.is_empty(), "{line:?}");
    assert_eq!(whole.1, parts.iter().map(|(_, number)| number).sum::<u64>(), "{line:?}");
    terms
}

pub(crate) fn term(terms: &[(String, u64)], word: &str) -> u64 {
    terms.iter().find(|(words, _)| words == word).unwrap_or_else(|| panic!("no {word} in {terms:?}")).1
}
