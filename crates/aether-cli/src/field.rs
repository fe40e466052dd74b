//! `aether field`: reads and writes shared state.

mod identity;
mod ledger;
mod mirror;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use aether_core::Aether;
use aether_field::{Field, FieldError, PublicKey, Trust, Update, UpdateKind, Watch};
use aether_service::{CancellationToken, MediumArgs};
use bytes::Bytes;
use serde_json::value::RawValue;

use self::identity::{IdentityAction, OwnerArgs};
use self::mirror::MirrorArgs;
use crate::connect::connected;
use crate::error::{CommandError, LedgerError};
use crate::output::{Output, stderr_line};
use crate::values;

/// How far the clock of a replica may be off before it is shown.
const CLOCK: Duration = Duration::from_secs(5);

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
  aether field mirror shared --field home       a folder that is the same on all machines
  aether field verify home.field
  aether field restamp home.field               after a clock was ahead

Owned state, which only the owner writes and everybody can check:
  aether field identity new pi-2 pi-2.identity
  aether field certify home pi-2 KEY --identity root.identity
  aether field set home temp 21 --own --identity pi-2.identity --root ROOTKEY
  aether field get home temp --of pi-2 --root ROOTKEY")]
pub(crate) struct FieldArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "it exists once, and clap cannot flatten a box")]
enum Command {
    #[command(flatten)]
    Join(Action),
    Mirror(MirrorArgs),
    /// Make or show the identity of an owner
    #[command(subcommand)]
    Identity(IdentityAction),
    /// Check every entry of a store, which no replica may have open; the exit status is 1 if one is damaged
    Verify {
        /// The file
        #[arg(value_name = "FILE")]
        store: PathBuf,
    },
    /// Find the entries of a store whose stamps are ahead of the clock, because the clock was ahead when they were
    /// written; the exit status is 1 if there are any. No replica may have the file open, and the clock of this machine
    /// has to be right now
    Restamp {
        /// The file
        #[arg(value_name = "FILE")]
        store: PathBuf,
        /// Give them stamps of now, so that other replicas take them
        #[arg(long)]
        write: bool,
    },
}

/// The arguments that all actions need.
#[derive(Debug, clap::Args)]
struct Place {
    /// The field
    field: String,

    /// How long to wait for another replica
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time)]
    timeout: Duration,

    #[command(flatten)]
    owners: OwnerArgs,

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
        /// Read what this owner wrote
        #[arg(long, value_name = "OWNER")]
        of: Option<String>,
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
        /// Write it as the owner of --identity
        #[arg(long, requires = "identity")]
        own: bool,
    },
    /// Remove a register, and wait until another replica knows
    Rm {
        #[command(flatten)]
        place: Place,
        /// The name of the register
        name: String,
        /// Remove what the owner of --identity wrote
        #[arg(long, requires = "identity")]
        own: bool,
    },
    /// Print a line for each change, until interrupted
    Watch {
        #[command(flatten)]
        place: Place,
        /// A name, or the beginning of names and *
        #[arg(default_value = "*")]
        pattern: String,
        /// Watch what this owner writes
        #[arg(long, value_name = "OWNER")]
        of: Option<String>,
    },
    /// Bind the name of an owner to its key, signed by the root, whose identity is --identity
    Certify {
        #[command(flatten)]
        place: Place,
        /// The name of the owner
        owner: String,
        /// Its public key, as `aether field identity show` prints it
        key: PublicKey,
        /// Make void at once what the key before signed, because it was stolen
        #[arg(long)]
        void: bool,
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
        /// The output of `export`, or ledgers and snapshots of aether-zta 0.4
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
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
    fn place(&self) -> &Place {
        match self {
            Self::Get { place, .. }
            | Self::Set { place, .. }
            | Self::Rm { place, .. }
            | Self::Watch { place, .. }
            | Self::Peers { place }
            | Self::Certify { place, .. }
            | Self::Export { place, .. }
            | Self::Import { place, .. }
            | Self::Keep { place, .. } => place,
        }
    }
}

pub(crate) async fn field(args: FieldArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let action = match args.command {
        Command::Join(action) => action,
        Command::Mirror(args) => return mirror::mirror(args, &shutdown).await,
        Command::Identity(action) => return action.run(),
        Command::Verify { store } => return store::verify(&store),
        Command::Restamp { store, write } => return store::restamp(&store, write),
    };
    let aether = connected(&action.place().medium, "aether-field", &shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "share the field" });
    }
    let result = with_field(&aether, action, &shutdown).await;
    aether_service::close(&aether).await;
    result
}

async fn with_field(
    aether: &Aether,
    action: Action,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let owners = &action.place().owners;
    let builder = Field::builder(&action.place().field).replica("aether-field");
    let mut builder = match &action {
        Action::Certify { .. } => builder.trust(Trust::root(owners.root()?.public_key())),
        _ => owners.apply(builder)?,
    };
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
    let timeout = action.place().timeout;
    let mut output = Output::stdout();
    match action {
        Action::Keep { .. } => return keep(field, &mut output, shutdown).await,
        Action::Watch { pattern, of, .. } => {
            let updates = match of {
                Some(owner) => field.of(&owner).watch(&pattern),
                None => field.watch(&pattern),
            };
            return watch(updates, &mut output, shutdown).await;
        }
        // They show why replicas do not agree.
        Action::Peers { .. } => match agreed(field, timeout, shutdown).await {
            Err(CommandError::Field(FieldError::NotTaken { .. } | FieldError::ClockBehind { .. })) => {}
            agreed => agreed?,
        },
        _ => agreed(field, timeout, shutdown).await?,
    }
    match action {
        Action::Get { name, of, .. } => {
            let value = match of {
                Some(owner) => field.of(&owner).get_json(&name),
                None => field.get_json(&name),
            };
            match value {
                Some(value) => output.bytes(&line(&value))?,
                None => return Err(CommandError::NoRegister { name }),
            }
        }
        Action::Set { name, value, own, .. } => {
            if own {
                field.own()?.set(&name, &value)?
            } else {
                field.set(&name, &value)?
            }
            agreed(field, timeout, shutdown).await?;
        }
        Action::Rm { name, own, .. } => {
            let removed = if own { field.own()?.remove(&name)? } else { field.remove(&name)? };
            if !removed {
                return Err(CommandError::NoRegister { name });
            }
            agreed(field, timeout, shutdown).await?;
        }
        Action::Certify { place, owner, key, void } => {
            identity::certify(field, &place.owners.root()?, (&owner, key), void)?;
            agreed(field, timeout, shutdown).await?;
        }
        Action::Peers { .. } => {
            for peer in field.peers() {
                let agrees = if peer.agrees { "same state" } else { "other state" };
                let owner = peer.owner.map(|owner| format!(" owner {owner}")).unwrap_or_default();
                let clock = peer.clock;
                let clock =
                    if clock.by() > CLOCK { format!(", its clock is {clock}") } else { String::new() };
                output.line(format_args!(
                    "{} {} {agrees}, {} entries{owner}{clock}",
                    peer.replica, peer.writer, peer.entries
                ))?;
            }
        }
        Action::Export { pattern, .. } => {
            for line in field.export(&pattern).iter().filter_map(aether_field::ledger::line) {
                output.line(line)?;
            }
        }
        Action::Import { files, .. } => {
            let skipped = ledger::import(field, &files)?;
            agreed(field, timeout, shutdown).await?;
            if skipped > 0 {
                return Err(LedgerError::Skipped { skipped }.into());
            }
        }
        Action::Keep { .. } | Action::Watch { .. } => {}
    }
    Ok(())
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
    mut updates: Watch,
    output: &mut Output,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
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
        "field: {} entries, {} changes received, {} refused ({} of unknown owners, {} by foreign keys, {} forged, {} unchecked), {} unreadable messages, {} reconciliations, {} broken off",
        status.entries,
        status.received,
        status.refused,
        status.unknown_owners,
        status.foreign_keys,
        status.forged,
        status.unchecked,
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
