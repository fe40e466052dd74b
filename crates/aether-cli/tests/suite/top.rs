//! `aether top` in a pseudo-terminal, with real processes over a real NATS server.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::nats::{server, with};
use crate::process::{PATIENCE, Running, aether, run, run_all};

/// A command in a terminal of its own, and what the terminal shows.
struct Shown {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    terminal: Arc<Mutex<vt100::Parser>>,
    changes: Receiver<()>,
}

fn length(characters: u16) -> NonZeroU16 {
    NonZeroU16::new(characters).unwrap()
}

fn size(rows: u16, cols: u16) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

impl Shown {
    fn start(args: &[&str]) -> Self {
        let pair = native_pty_system().openpty(size(24, 80)).unwrap();
        let mut command = CommandBuilder::new(assert_cmd::cargo::cargo_bin!("aether"));
        command.args(args);
        for name in [
            "AETHER_MEDIUM",
            "AETHER_PREFIX",
            "AETHER_WIRE",
            "AETHER_WAIT",
            "AETHER_KEYS",
            "AETHER_SIGNING_KEY",
            "AETHER_SIGNERS",
            "AETHER_LOG",
            "NO_COLOR",
        ] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        let mut screen = pair.master.try_clone_reader().unwrap();
        let keyboard = pair.master.take_writer().unwrap();
        let terminal = Arc::new(Mutex::new(vt100::Parser::new(length(24), length(80), 0)));
        let (changed, changes) = channel();
        let drawn = Arc::clone(&terminal);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                drawn.lock().unwrap().process(&bytes[..read]);
                if changed.send(()).is_err() {
                    break;
                }
            }
        });
        Self { child, master: pair.master, keyboard, terminal, changes }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    fn text(&self) -> String {
        self.terminal.lock().unwrap().screen().contents()
    }

    /// Waits until the terminal shows all of this.
    fn shows(&self, parts: &[&str]) -> String {
        self.until(|text| parts.iter().all(|part| text.contains(part)), parts)
    }

    /// Waits until the text of the terminal is as wanted. It is redrawn each second, so the whole wait is bounded.
    fn until(&self, is_wanted: impl Fn(&str) -> bool, wanted: impl std::fmt::Debug) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if is_wanted(&text) {
                return text;
            }
            let changed = self.changes.recv_timeout(end.saturating_duration_since(Instant::now()));
            assert!(changed.is_ok() && Instant::now() < end, "no {wanted:?} in\n{text}");
        }
    }

    fn resize(&self, rows: u16, cols: u16) {
        self.terminal.lock().unwrap().screen_mut().set_size(length(rows), length(cols));
        self.master.resize(size(rows, cols)).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.process_id().unwrap().try_into().unwrap());
        kill(process, signal).unwrap();
    }

    /// Waits for the end, and checks that the terminal is as it was.
    fn ends_restored(mut self) {
        let status = self.child.wait().unwrap();
        // The reader ends with the last byte.
        while self.changes.recv_timeout(PATIENCE).is_ok() {}
        let terminal = self.terminal.lock().unwrap();
        let screen = terminal.screen();
        assert!(status.success(), "{status:?}\n{}", screen.contents());
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{}", screen.contents());
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sample service that tells its account five times a second.
fn service(args: &[&str], medium: &[String; 2]) -> Running {
    telling(args, "200ms", medium)
}

/// A sample service that tells its account this often. It counts as silent after three times that and a second.
fn telling(args: &[&str], every: &str, medium: &[String; 2]) -> Running {
    let mut command = aether(&with(args, medium));
    command.env("AETHER__ACCOUNT__EVERY", every);
    Running::of(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_all_processes_in_80_by_24_and_after_a_resize_and_restores_the_terminal() {
    let (_server, medium) = server().await;
    let beta = service(&["beta"], &medium);
    let alpha = service(&["alpha", "--rate", "20"], &medium);
    let mut top = Shown::start(&with(&["top"], &medium));
    let text = top.shows(&[
        "connected",
        "aether-service-alpha",
        "aether-service-beta",
        "present",
        "/s offered",
        "q quit",
    ]);
    assert_eq!(text.lines().count(), 24, "{text}");
    top.press("\t");
    top.shows(&["vibrator", "aether-service-beta", "payments"]);
    top.press("\x1b[C");
    top.shows(&["No incidents"]);
    top.press("4");
    top.shows(&[" -> ", "orders."]);
    top.press("\t");
    top.shows(&["hears", "inventory.reserve"]);
    top.press("?");
    top.shows(&["Any key closes this help"]);
    top.press(" ");
    top.resize(40, 100);
    let is_at_the_bottom = |text: &str| text.lines().nth(39).is_some_and(|line| line.contains("q quit"));
    top.until(is_at_the_bottom, "keys in the last line");
    top.press("1");
    drop(beta);
    top.shows(&["aether-service-beta", "silent"]);
    top.press("q");
    top.ends_restored();
    drop(alpha);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_says_when_the_medium_is_away_and_recovers_and_control_c_restores_the_terminal() {
    let (mut server, medium) = server().await;
    let mut top = Shown::start(&with(&["top"], &medium));
    top.shows(&["connected", "aether-top"]);
    server.kill().await.unwrap();
    let text = top.shows(&["the medium is away for"]);
    assert!(!text.contains("WARN"), "the log does not disturb the screen: {text}");
    server.restart().await.unwrap();
    top.shows(&["aether top  connected"]);
    let beta = service(&["beta"], &medium);
    top.shows(&["aether-service-beta", "present"]);
    top.press("\x03");
    top.ends_restored();
    drop(beta);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_top_and_restores_the_terminal() {
    let (_server, medium) = server().await;
    let mut top = Shown::start(&with(&["top", "--no-physics"], &medium));
    top.shows(&["connected", "aether-top"]);
    top.press("4");
    top.shows(&["not observed"]);
    top.signal(Signal::SIGTERM);
    top.ends_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn top_prints_a_plain_table_for_scripts() {
    let (_server, medium) = server().await;
    let beta = telling(&["beta"], "2s", &medium);
    // Its first account takes as long as its start.
    let mut top = Shown::start(&with(&["top", "--no-physics"], &medium));
    top.shows(&["aether-service-beta"]);
    top.press("q");
    top.ends_restored();
    // Without a terminal it is plain in any case.
    let both = [&["top", "--once", "--for", "8s"][..], &["top", "--for", "8s"]];
    for said in run_all(both.map(|args| with(args, &medium)).each_ref().map(Vec::as_slice)) {
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
        let lines: Vec<Vec<_>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..5], ["PROCESS", "STATE", "OFFERED", "DELIVERED", "LOST"], "{}", said.out);
        let beta = lines
            .iter()
            .find(|line| line[0].starts_with("aether-service-beta@"))
            .unwrap_or_else(|| panic!("{said:?}"));
        assert_eq!(beta[1], "present");
        let numbers: Vec<u64> = beta[2..6].iter().map(|number| number.parse().unwrap()).collect();
        let [offered, delivered, lost, queued] = numbers[..] else { panic!("{beta:?}") };
        assert_eq!(offered, delivered + lost + queued, "{beta:?}");
    }
    let alone = run(&["top", "--once"]);
    assert_eq!(alone.code, Some(2), "{alone:?}");
    drop(beta);
}
