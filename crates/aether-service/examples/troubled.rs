//! A service in trouble, for the tests of the memory watch, of panics and of the end: `troubled leak`, `steady`, `panic`,
//! `main-panic`, `handler-panic`, `chatty`, `blocked`.
//!
//! It handles its own waves. `leak` keeps 256 KiB of each for ever, `steady` frees them, `panic` panics in a task outside of
//! handlers after the first wave, `main-panic` in its main function, `handler-panic` in each handler. `chatty` logs much in
//! each handler, `blocked` blocks all threads of the runtime. Both print a line when they have done so.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aether_service::{CancellationToken, ConfigArgs, Service, State, close_with_account, run};
use clap::Parser;
use parking_lot::Mutex;

#[derive(Parser)]
struct Args {
    trouble: String,
    #[command(flatten)]
    config: ConfigArgs,
}

type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

async fn handle(State((kept, trouble)): State<(Kept, Arc<str>)>) {
    if &*trouble == "handler-panic" {
        // In a task of its own, as a handler that waits goes on.
        tokio::time::sleep(Duration::from_millis(1)).await;
        panic!("the handler is broken");
    }
    if &*trouble == "chatty" {
        // More than a pipe and the log keep.
        let text = "x".repeat(1024);
        (0..4096).for_each(|_| tracing::info!(text));
        // The test may have stopped reading.
        let _ = writeln!(io::stdout(), "logged");
    }
    // Written, so that the system really gives the memory.
    let bytes = vec![1; 256 << 10];
    if &*trouble == "leak" {
        kept.lock().push(bytes);
    }
}

async fn serve(args: Args, shutdown: CancellationToken) -> Result<(), Box<dyn std::error::Error>> {
    let config = args.config.load_common()?;
    let Some(aether) = config.connect_until(&shutdown, "troubled").await? else { return Ok(()) };
    let state = (Kept::default(), Arc::from(args.trouble.as_str()));
    let service = Service::builder("troubled")
        .configured(&config)
        .state(state)
        .on("work", handle)
        .build(&aether)
        .await?;
    let emitter = aether.emitter("source")?;
    let (trouble, until) = (args.trouble, shutdown.clone());
    let source = async move {
        emitter.emit_bytes("work", "x").await.map_err(io::Error::other)?;
        match trouble.as_str() {
            "panic" => drop(tokio::spawn(async { panic!("the task is broken") })),
            "main-panic" => panic!("the main function is broken"),
            "blocked" => {
                let workers = tokio::runtime::Handle::current().metrics().num_workers();
                let block = move || loop {
                    std::thread::park();
                };
                (0..workers).for_each(|_| drop(tokio::spawn(async move { block() })));
                let _ = writeln!(io::stdout(), "blocked");
                block();
            }
            _ => {}
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while until.run_until_cancelled(ticks.tick()).await.is_some() {
            emitter.emit_bytes("work", "x").await.map_err(io::Error::other)?;
        }
        Ok::<(), io::Error>(())
    };
    let (served, emitted) = tokio::join!(service.run_until(shutdown), source);
    served?;
    emitted?;
    Ok(close_with_account(&aether).await?)
}

fn main() -> ExitCode {
    let args = Args::parse();
    run(|shutdown| serve(args, shutdown))
}
