//! The start of a server that has a file.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use aether_core::Aether;
use aether_field::Field;

use crate::processes::Server;

pub(crate) const REGISTERS: u32 = 50_000;

/// Registers a second until a replica with a store is readable.
pub(crate) async fn store(path: &Path) -> f64 {
    let field = Field::builder("bench").store(path).join(&Aether::local()).await.unwrap();
    for n in 0..REGISTERS {
        field.set(&format!("room/{}/{n}", n % 100), &format!("value {n}")).unwrap();
    }
    field.close().await.unwrap();
    let start = Instant::now();
    let field = Field::builder("bench").store(path).join(&Aether::local()).await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(field.list("*").len(), REGISTERS as usize);
    field.close().await.unwrap();
    f64::from(REGISTERS) / seconds
}

/// Records a second of the sync engine, by its own clock: without the start of Python.
pub(crate) async fn ledger(path: &Path) -> f64 {
    let mut text = String::new();
    for n in 0..REGISTERS {
        let stamp = 1_700_000_000_000_000_000_u64 + u64::from(n) * 1000;
        writeln!(
            text,
            r#"{{"kind":"set","key":"room/{}/{n}","value":"value {n}","stamp":{{"p":{stamp},"l":0,"n":"relay"}}}}"#,
            n % 100
        )
        .unwrap();
    }
    std::fs::write(path, text).unwrap();
    let server = Server::sync_engine(Some(path)).await;
    let (records, seconds) = server.replayed.unwrap();
    assert_eq!(records, f64::from(REGISTERS));
    records / seconds
}
