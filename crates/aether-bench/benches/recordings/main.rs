//! Records real traffic with a known truth, for the detectors of `aether::physics`.
//!
//! `cargo xtask recordings` builds `aether` and runs this program with its path. For each scenario it starts a NATS
//! server, the sample programs and a recorder (`aether record`), makes the faults, and notes them in the recording, so
//! the truth is in the file. Nothing here judges the detectors: that is done by `cargo xtask bench physics --part recorded`
//! and by the tests of `aether-bench`, which play the files.

#[path = "beside.rs"]
mod beside;
#[path = "program.rs"]
mod program;
#[path = "scenarios.rs"]
mod scenarios;
#[path = "stage.rs"]
mod stage;

use std::path::PathBuf;

use clap::Parser;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "cargo xtask recordings")]
struct Args {
    /// The program `aether`.
    #[arg(long, value_name = "PATH")]
    aether: PathBuf,
    /// The folder of the recordings.
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
    /// The scenarios; all small ones by default.
    names: Vec<String>,
    /// Added by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Outcome {
    let args = Args::parse();
    std::fs::create_dir_all(&args.into)?;
    for scenario in scenarios::chosen(&args.names)? {
        let mut stage = stage::Stage::begin(&args.aether, &args.into, scenario.name).await?;
        scenario.play(&mut stage).await?;
        println!("{}", stage.end().await?);
    }
    Ok(())
}
