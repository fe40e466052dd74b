//! The gateway as a program.

use std::process::ExitCode;

use aether_gateway::GatewayArgs;
use clap::Parser;

fn main() -> ExitCode {
    let args = GatewayArgs::parse();
    aether_chassis::run(|shutdown| aether_gateway::main(args, shutdown))
}
