//! A part of a measurement in a process of its own, and the processor time of a process.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Outcome;

/// A process that is killed when it is dropped.
pub(crate) struct Part {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts this program once more.
    pub(crate) fn of_this(args: &[&str], environment: &[(&str, &str)]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args).envs(environment.iter().copied());
        Self::start(command)
    }

    /// Starts a program, with an environment of which nothing of Aether counts.
    pub(crate) fn start(mut command: Command) -> Outcome<Self> {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AETHER_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err("no pipes".into()) };
        Ok(Self { child, stdin, lines: BufReader::new(stdout).lines() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its stdin.
    pub(crate) fn say(&mut self, line: &str) -> Outcome {
        writeln!(self.stdin, "{line}")?;
        Ok(self.stdin.flush()?)
    }

    /// Waits for a line of stdout that begins with this, and returns the rest of it.
    pub(crate) fn says(&mut self, word: &str) -> Outcome<String> {
        for line in &mut self.lines {
            if let Some(rest) = line?.strip_prefix(word) {
                return Ok(rest.trim().to_owned());
            }
        }
        Err(format!("a part of the benchmark ended before it said {word:?}").into())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time of a process in seconds, in user and system mode.
pub(crate) fn processor_time(pid: u32) -> Outcome<f64> {
    /// Ticks a second in this file, on every Linux.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in brackets, may contain spaces.
    let rest = stat.rsplit_once(')').ok_or("no /proc/PID/stat")?.1;
    let times = rest.split_whitespace().skip(11).take(2).map(str::parse);
    let ticks: Vec<f64> = times.collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}
