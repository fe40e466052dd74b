//! The field through the gateway, beside the sync engine whose protocol it speaks: round trips, durable writes, clients that
//! do not read, and the replay of a ledger.
//!
//! `cargo xtask bench field --part gateway`
//!
//! Servers are processes, as users run them; all clients are in this process, on the same machine. So clients and servers
//! share its processors, and figures are lower than with clients elsewhere. This program is also the gateway that it
//! measures, with the allocator of the command `aether`.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails ends")]

mod crowd;
mod processes;
mod replay;
mod round_trip;
mod socket;
mod writes;

use std::process::ExitCode;

use aether_gateway::GatewayArgs;
use clap::Parser as _;

use processes::Server;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The first argument of the gateway process.
const SERVE: &str = "serve";

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap();
    if args.next().as_deref() == Some(SERVE) {
        let args = GatewayArgs::parse_from([program].into_iter().chain(args));
        return aether_service::run(|shutdown| aether_gateway::main(args, shutdown));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    let has_engine = processes::sync_engine_python().is_some();
    if !has_engine {
        println!("The sync engine is not installed (AETHER_SYNC_ENGINE), so it is left out.\n");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);

    println!("Round trip of a write, one client, set until the echo, protocol 0.4:\n");
    println!("| server | p50 | p95 | p99 |\n|---|---|---|---|");
    for round in 0..round_trip::ROUNDS {
        let gateway = Server::gateway(None).await;
        println!("| gateway, in memory, run {} | {} |", round + 1, round_trip::echo(&gateway).await);
        if has_engine {
            let engine = Server::sync_engine(None).await;
            println!("| sync engine, in memory, run {} | {} |", round + 1, round_trip::echo(&engine).await);
        }
    }
    let gateway = Server::gateway(Some(&path("echo.field"))).await;
    println!("| gateway, with a file | {} |", round_trip::echo(&gateway).await);
    println!(
        "| gateway, with a file, own protocol, until it is on the disk | {} |",
        round_trip::durable(&gateway).await
    );
    if has_engine {
        let engine = Server::sync_engine(Some(&path("echo.jsonl"))).await;
        println!(
            "| sync engine, with a ledger (echo after its fsync) | {} |",
            round_trip::echo(&engine).await
        );
    }

    println!(
        "\nDurable, acknowledged writes of 64 writers, files in {}:\n",
        folder.path().parent().unwrap().display()
    );
    println!("| server | writes a second |\n|---|---|");
    for window in [1, 16] {
        let gateway = Server::gateway(Some(&path(&format!("writes-{window}.field")))).await;
        let rate = writes::own(&gateway, window).await;
        println!("| gateway, own protocol, each writer has {window} on the way | {rate:.0} |");
    }
    if has_engine {
        let engine = Server::sync_engine(Some(&path("writes.jsonl"))).await;
        println!(
            "| sync engine, each writer has 1 on the way and gets the echoes of all | {:.0} |",
            writes::echoed(&engine).await
        );
    }

    println!(
        "\nClients that do not read, and what the others notice (from the moment at which a write was due):\n"
    );
    println!("| server | load | p50 | p99 | largest | arrived |\n|---|---|---|---|---|---|");
    for load in crowd::GATEWAY {
        let gateway = Server::gateway(None).await;
        println!("| gateway | {load} | {} |", crowd::own(&gateway, &load).await);
    }
    for load in crowd::BOTH {
        let gateway = Server::gateway(None).await;
        println!("| gateway, protocol 0.4 | {load} | {} |", crowd::old(&gateway, &load).await);
        if has_engine {
            let engine = Server::sync_engine(None).await;
            println!("| sync engine | {load} | {} |", crowd::old(&engine, &load).await);
        }
    }

    println!("\nReplay of {} registers at start:\n", replay::REGISTERS);
    println!("| what | registers a second |\n|---|---|");
    println!(
        "| store of a replica, until the field is readable | {:.0} |",
        replay::store(&path("replay.field")).await
    );
    if has_engine {
        println!("| ledger of the sync engine | {:.0} |", replay::ledger(&path("replay.jsonl")).await);
    }
}
