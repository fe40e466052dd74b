//! The gateway as a program.

use std::process::ExitCode;

use aether_gateway::{GatewayArgs, GatewayError};
use clap::Parser;

/// The exit code for wrong usage, as used by the argument parser and by `aether gateway`.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = GatewayArgs::parse();
    let mut is_wrong_usage = false;
    let code = aether_service::run(|shutdown| async {
        let done = aether_gateway::main(args, shutdown).await;
        is_wrong_usage = done.as_ref().is_err_and(GatewayError::is_wrong_usage);
        done
    });
    if is_wrong_usage { ExitCode::from(WRONG_USAGE) } else { code }
}
