//! The cost of `aether top` in a terminal, next to the sample services over a NATS server.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aether_conformance::NatsServer;
use portable_pty::{Child, CommandBuilder, PtySize, native_pty_system};

use crate::Outcome;
use crate::goal::Goals;
use crate::part::{Part, processor_time};

const SIZE: PtySize = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
/// Until it has connected, and its first accounts are there.
const WARM_UP: Duration = Duration::from_secs(8);
/// Orders a second. Each is about ten waves.
const ORDERS: &str = "100";

/// A command in a terminal, killed when it is dropped.
struct InTerminal(Box<dyn Child + Send + Sync>);

impl Drop for InTerminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) async fn measure(aether: &Path, seconds: u64, goals: &mut Goals) -> Outcome {
    eprintln!("top: {seconds} s");
    let server = NatsServer::start().await?;
    let url = server.url();
    let service = |args: &[&str]| {
        let mut command = Command::new(aether);
        command.args(args).args(["--medium", &url, "--set", "log.filter=error"]);
        Part::start(command)
    };
    let mut gateway = service(&["gateway", "--listen", "127.0.0.1:0"])?;
    gateway.says("gateway: http://")?;
    let _beta = service(&["beta", "--units", "100000"])?;
    let _alpha = service(&["alpha", "--rate", ORDERS])?;

    let pair = native_pty_system().openpty(SIZE)?;
    let mut command = CommandBuilder::new(aether);
    command.args(["top", "--medium", &url]);
    command.env("TERM", "xterm-256color");
    let mut screen = pair.master.try_clone_reader()?;
    let top = InTerminal(pair.slave.spawn_command(command)?);
    let drawn = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&drawn);
    // A terminal reads all the time; one that does not would make the program wait.
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = screen.read(&mut bytes) {
            counted.fetch_add(read as u64, Ordering::Relaxed);
        }
    });
    let pid = top.0.process_id().ok_or("aether top has ended")?;
    tokio::time::sleep(WARM_UP).await;
    let (before, drawn_before, start) = (processor_time(pid)?, drawn.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (used, took) = (processor_time(pid)? - before, start.elapsed().as_secs_f64());
    let bytes = drawn.load(Ordering::Relaxed) - drawn_before;
    if bytes == 0 {
        return Err("aether top has drawn nothing".into());
    }
    let how = format!(
        "release, {} x {} characters, {ORDERS} orders a second by three processes, {took:.0} s, {:.0} bytes drawn a second",
        SIZE.cols,
        SIZE.rows,
        bytes as f64 / took
    );
    goals.below("aether top", 3.0, 100.0 * used / took, "% of a core", how);
    Ok(())
}
