//! The inventory service as a program.

use std::process::ExitCode;

use aether_service_beta::BetaArgs;
use clap::Parser;

fn main() -> ExitCode {
    let args = BetaArgs::parse();
    aether_service::run(|shutdown| aether_service_beta::main(args, shutdown))
}
