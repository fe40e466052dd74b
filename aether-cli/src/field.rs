//! `aether field`: reads and writes shared state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aether_chassis::{CancellationToken, MediumArgs};
use aether_core::Aether;
use aether_core::wire::micros_since_1970;
use aether_field::ledger::{self, Ledger};
use aether_field::{DamagedRecord, Field, Update, UpdateKind, check_store};
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::connect::connected;
use crate::error::{CommandError, LedgerError};
use crate::output::{Output, stderr_line};
use crate::values;

/// Read and write shared state
///
/// A command joins the field, gets its state from another replica, and leaves. `keep` is a replica that stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether field keep home --store home.field     a replica that stays, kept in a file
  aether field set home lamp/1 '\"on\"'
  aether field watch home 'lamp/*'
  aether field export home > home.jsonl
  aether field import home ledger.jsonl.snapshot.json ledger.jsonl
  aether field verify home.field")]
pub(crate) struct FieldArgs {
    #[command(subcommand)]
    action: Action,
}

/// What all actions need.
#[derive(Debug, clap::Args)]
struct Place {
    /// The field
    field: String,

    /// How long to wait for another replica
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time)]
    timeout: Duration,

    #[command(flatten)]
    medium: MediumArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the value of a register as JSON
    Get {
        #[command(flatten)]
        place: Place,
        /// The name of the register
        name: String,
    },
    /// Write a register, and wait until another replica has it
    Set {
        #[command(flatten)]
        place: Place,
        /// The name of the register
        name: String,
        /// The value as JSON
        #[arg(value_parser = values::json, allow_negative_numbers = true)]
        value: Box<RawValue>,
    },
    /// Remove a register, and wait until another replica knows
    Rm {
        #[command(flatten)]
        place: Place,
        /// The name of the register
        name: String,
    },
    /// Print a line for each change, until interrupted
    Watch {
        #[command(flatten)]
        place: Place,
        /// A name, or the beginning of names and *
        #[arg(default_value = "*")]
        pattern: String,
    },
    /// List the replicas
    Peers {
        #[command(flatten)]
        place: Place,
    },
    /// Print all registers as JSON lines with their stamps, removals included
    Export {
        #[command(flatten)]
        place: Place,
        /// A name, or the beginning of names and *
        #[arg(default_value = "*")]
        pattern: String,
    },
    /// Take over the registers of ledgers and snapshots with their stamps, and wait until another replica has them
    Import {
        #[command(flatten)]
        place: Place,
        /// What `export` printed, or ledgers and snapshots of aether-zta 0.4
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Check every entry of a store, which no replica may have open; the exit status is 1 if one is damaged
    Verify {
        /// The file
        #[arg(value_name = "FILE")]
        store: PathBuf,
    },
    /// Stay as a replica until interrupted
    Keep {
        #[command(flatten)]
        place: Place,
        /// The file that keeps the replica; made if it does not exist
        #[arg(long, value_name = "FILE")]
        store: Option<PathBuf>,
    },
}

impl Action {
    /// `None` for what needs no field.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Get { place, .. }
            | Self::Set { place, .. }
            | Self::Rm { place, .. }
            | Self::Watch { place, .. }
            | Self::Peers { place }
            | Self::Export { place, .. }
            | Self::Import { place, .. }
            | Self::Keep { place, .. } => Some(place),
            Self::Verify { .. } => None,
        }
    }
}

pub(crate) async fn field(args: FieldArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    if let Action::Verify { store } = &args.action {
        return verify(store);
    }
    let Some(place) = args.action.place() else { return Ok(()) };
    let aether = connected(&place.medium, "aether-field", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "share the field" });
    }
    let result = with_field(&aether, args.action, &shutdown).await;
    aether_chassis::close(&aether).await;
    result
}

async fn with_field(
    aether: &Aether,
    action: Action,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let Some(place) = action.place() else { return Ok(()) };
    let mut builder = Field::builder(&place.field).replica("aether-field");
    if let Action::Keep { store: Some(path), .. } = &action {
        builder = builder.store(path);
    }
    let field = builder.join(aether).await?;
    let result = run(&field, action, shutdown).await;
    let closed = field.close().await;
    result?;
    Ok(closed?)
}

async fn run(field: &Field, action: Action, shutdown: &CancellationToken) -> Result<(), CommandError> {
    let Some(timeout) = action.place().map(|place| place.timeout) else { return Ok(()) };
    let mut output = Output::stdout();
    match action {
        Action::Keep { .. } => return keep(field, &mut output, shutdown).await,
        Action::Watch { pattern, .. } => return watch(field, &pattern, &mut output, shutdown).await,
        _ => agreed(field, timeout, shutdown).await?,
    }
    match action {
        Action::Get { name, .. } => match field.get_json(&name) {
            Some(value) => output.bytes(&line(&value))?,
            None => return Err(CommandError::NoRegister { name }),
        },
        Action::Set { name, value, .. } => {
            field.set(&name, &value)?;
            agreed(field, timeout, shutdown).await?;
        }
        Action::Rm { name, .. } => {
            if !field.remove(&name)? {
                return Err(CommandError::NoRegister { name });
            }
            agreed(field, timeout, shutdown).await?;
        }
        Action::Peers { .. } => {
            for peer in field.peers() {
                let agrees = if peer.agrees { "same state" } else { "other state" };
                output.line(format_args!("{} {} {agrees}", peer.replica, peer.writer))?;
            }
        }
        Action::Export { pattern, .. } => {
            for line in field.export(&pattern).iter().filter_map(ledger::line) {
                output.line(line)?;
            }
        }
        Action::Import { files, .. } => {
            import(field, &files)?;
            agreed(field, timeout, shutdown).await?;
        }
        Action::Verify { .. } | Action::Keep { .. } | Action::Watch { .. } => {}
    }
    Ok(())
}

/// Imports files in one step, because what is in one may have been removed in another.
fn import(field: &Field, files: &[PathBuf]) -> Result<(), CommandError> {
    let (mut changes, mut skipped) = (Vec::new(), 0);
    for path in files {
        let file = |source| LedgerError::File { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(file)?;
        let format = |source| LedgerError::Format { path: path.to_owned(), source };
        let ledger = Ledger::read(&bytes, &field.limits(), micros_since_1970()).map_err(format)?;
        for problem in &ledger.problems {
            stderr_line(format_args!("{}: {problem}", path.display()));
        }
        skipped += ledger.problems.len();
        changes.extend(ledger.changes);
    }
    let removals = changes.iter().filter(|change| change.entry.is_removed()).count();
    let registers = changes.len() - removals;
    let imported = field.import(changes);
    for (name, refusal) in &imported.refused {
        stderr_line(format_args!("{name:?} was refused: {refusal}"));
    }
    for name in &imported.gone {
        stderr_line(format_args!(
            "{name:?} counts as removed: it is older than removals that are no longer kept"
        ));
    }
    let (taken, known) = (imported.taken, imported.known);
    stderr_line(format_args!(
        "imported {registers} registers, {removals} removals; {taken} are new, {known} older than what is there; {skipped} skipped"
    ));
    Ok(())
}

fn verify(path: &Path) -> Result<(), CommandError> {
    let check = check_store(path)?;
    let mut output = Output::stdout();
    for DamagedRecord { name, place, .. } in &check.damaged {
        let name = name.as_deref().map_or("a name that is unreadable".to_owned(), |name| format!("{name:?}"));
        match place {
            Some(place) => output.line(format_args!("damaged: {name} at byte {place}"))?,
            None => output.line(format_args!("damaged: {name}"))?,
        }
    }
    output.line(format_args!("{} entries are readable", check.entries))?;
    if check.is_intact { Ok(()) } else { Err(CommandError::DamagedStore { path: path.to_owned() }) }
}

/// Waits until one other replica has the same state.
async fn agreed(field: &Field, timeout: Duration, shutdown: &CancellationToken) -> Result<(), CommandError> {
    tokio::select! {
        agreed = tokio::time::timeout(timeout, field.agreed(1)) => match agreed {
            Ok(agreed) => Ok(agreed?),
            Err(_) => Err(CommandError::NoReplica { timeout }),
        },
        () = shutdown.cancelled() => Err(CommandError::Interrupted { before: "another replica answered" }),
    }
}

async fn watch(
    field: &Field,
    pattern: &str,
    output: &mut Output,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let mut updates = field.watch(pattern);
    loop {
        let update = tokio::select! {
            update = updates.next() => update,
            () = shutdown.cancelled() => None,
        };
        match update {
            Some(update) => output.bytes(&shown(&update))?,
            None => return Ok(()),
        }
    }
}

async fn keep(field: &Field, output: &mut Output, shutdown: &CancellationToken) -> Result<(), CommandError> {
    stderr_line(format_args!("keeps {} entries; stop with Ctrl-C", field.status().entries));
    shutdown.cancelled().await;
    let status = field.status();
    Ok(output.line(format_args!(
        "field: {} entries, {} changes received, {} refused, {} unreadable messages, {} reconciliations, {} broken off",
        status.entries,
        status.received,
        status.refused,
        status.unreadable,
        status.reconciliations,
        status.broken_off
    ))?)
}

fn line(json: &Bytes) -> Vec<u8> {
    [json, b"\n".as_slice()].concat()
}

/// An update as a JSON line.
fn shown(update: &Update) -> Vec<u8> {
    let json = |value: &Option<Bytes>| {
        let value = value.as_ref().and_then(|value| serde_json::from_slice::<&RawValue>(value).ok());
        value.map_or("null".to_owned(), ToString::to_string)
    };
    let name = serde_json::Value::from(update.name());
    let by = update.by();
    let text = match update.kind() {
        UpdateKind::Register { old, new } => {
            format!("{{\"name\":{name},\"old\":{},\"new\":{},\"by\":\"{by}\"}}\n", json(old), json(new))
        }
        UpdateKind::Counter { sum } => format!("{{\"name\":{name},\"sum\":{sum},\"by\":\"{by}\"}}\n"),
        UpdateKind::Member { member, is_member } => {
            let member = serde_json::Value::from(String::from_utf8_lossy(member));
            format!("{{\"name\":{name},\"member\":{member},\"is_member\":{is_member},\"by\":\"{by}\"}}\n")
        }
        _ => String::new(),
    };
    text.into_bytes()
}
