//! The stage of a scenario: a server, the recorder, and the notes of the faults.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use aether::physics::{Fault, RecordedEntry, RecordingReader, RecordingWriter};
use aether_conformance::NatsServer;
use aether_core::Aether;
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::sleep;

use crate::Outcome;
use crate::program::Program;

pub(crate) struct Stage {
    aether: PathBuf,
    into: PathBuf,
    name: &'static str,
    pub(crate) server: NatsServer,
    recorder: Option<Program>,
    notes: Vec<(SystemTime, Fault, bool)>,
}

impl Stage {
    /// Starts the server and the recorder.
    pub(crate) async fn begin(aether: &Path, into: &Path, name: &'static str) -> Outcome<Self> {
        let server = NatsServer::start().await?;
        let mut stage = Self {
            aether: aether.to_owned(),
            into: into.to_owned(),
            name,
            server,
            recorder: None,
            notes: Vec::new(),
        };
        let raw = stage.raw().display().to_string();
        stage.recorder = Some(stage.start(&["record", &raw], "recording > to").await?);
        Ok(stage)
    }

    fn raw(&self) -> PathBuf {
        self.into.join(format!("{}.raw", self.name))
    }

    async fn start(&self, args: &[&str], ready: &str) -> Outcome<Program> {
        let mut command = Command::new(&self.aether);
        command.args(args).args(["--medium", &self.server.url()]);
        Program::start(command, ready).await
    }

    /// Starts the inventory service.
    pub(crate) async fn beta(&self, args: &[&str]) -> Outcome<Program> {
        self.start(&[&["beta"], args].concat(), "answers").await
    }

    /// Starts the order service with a number of orders a second.
    pub(crate) async fn alpha(&self, rate: &str) -> Outcome<Program> {
        self.start(&["alpha", "--rate", rate], "creates orders").await
    }

    /// Starts the gateway.
    pub(crate) async fn gateway(&self) -> Outcome<Program> {
        self.start(&["gateway", "--listen", "127.0.0.1:0"], "http://").await
    }

    /// Starts a program that only emits.
    pub(crate) fn emit(&self, args: &[&str]) -> Outcome<Program> {
        let mut command = Command::new(&self.aether);
        command.arg("emit").args(args).args(["--medium", &self.server.url()]);
        Program::spawn(command).map(|(program, _)| program)
    }

    /// A connection for services that run in this process.
    pub(crate) async fn connect(&self) -> Outcome<Aether> {
        Ok(aether::connect(&self.server.url()).await?)
    }

    /// Stops the recorder for some seconds, as a debugger or a suspended machine does.
    pub(crate) async fn pause_recorder(&self, seconds: u64) -> Outcome {
        let recorder = self.recorder.as_ref().ok_or("no recorder")?;
        recorder.signal(Signal::SIGSTOP)?;
        pass(seconds).await;
        recorder.signal(Signal::SIGCONT)
    }

    pub(crate) fn begins(&mut self, kind: &str, service: &str) {
        self.note(kind, service, true);
    }

    pub(crate) fn ends(&mut self, kind: &str, service: &str) {
        self.note(kind, service, false);
    }

    fn note(&mut self, kind: &str, service: &str, begins: bool) {
        let fault = Fault { kind: kind.to_owned(), service: service.to_owned() };
        self.notes.push((SystemTime::now(), fault, begins));
    }

    /// Ends the recorder and writes the recording with the faults in it. Returns a line for people.
    pub(crate) async fn end(mut self) -> Outcome<String> {
        self.recorder.take().ok_or("no recorder")?.terminate().await?;
        let (raw, path) = (self.raw(), self.into.join(format!("{}.rec", self.name)));
        let reader = RecordingReader::new(BufReader::new(File::open(&raw)?))?;
        let (start, started_at) = (Instant::now(), reader.started_at());
        let mut writer = RecordingWriter::new(BufWriter::new(File::create(&path)?), start, started_at)?;
        let mut notes = self.notes.iter().peekable();
        for entry in reader {
            let (at, entry) = entry?;
            // A pause is noted at its end, and what came before it is earlier than that.
            let until = match &entry {
                RecordedEntry::Paused { lasted } => at.saturating_sub(*lasted),
                _ => at,
            };
            while let Some((when, fault, begins)) =
                notes.next_if(|(when, ..)| since(started_at, *when) <= until)
            {
                writer.fault(fault, *begins, start + since(started_at, *when))?;
            }
            writer.copy(&entry, start + at)?;
        }
        for (when, fault, begins) in notes {
            writer.fault(fault, *begins, start + since(started_at, *when))?;
        }
        let waves = writer.waves();
        writer.finish()?;
        std::fs::remove_file(raw)?;
        let bytes = std::fs::metadata(&path)?.len();
        Ok(format!("{}: {waves} waves, {bytes} bytes", path.display()))
    }
}

fn since(start: SystemTime, when: SystemTime) -> Duration {
    when.duration_since(start).unwrap_or_default()
}

/// Lets the programs run.
pub(crate) async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
