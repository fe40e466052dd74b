//! The order service as a program.

use std::process::ExitCode;

use aether_service_alpha::AlphaArgs;
use clap::Parser;

fn main() -> ExitCode {
    let args = AlphaArgs::parse();
    aether_service::run(|shutdown| aether_service_alpha::main(args, shutdown))
}
