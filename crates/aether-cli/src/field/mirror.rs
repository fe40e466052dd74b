//! `aether field mirror`: keeps a folder the same on all machines.

use std::path::PathBuf;
use std::time::Duration;

use aether_core::Aether;
use aether_field::Field;
use aether_mirror::{Mirror, MirrorOptions, MirrorStatus};
use aether_service::{CancellationToken, MediumArgs};

use crate::connect::connected;
use crate::error::CommandError;
use crate::output::{Output, stderr_line};

/// How long the field may take to be left after the mirror has ended.
const LEAVING: Duration = Duration::from_secs(5);

/// Keep a folder the same on all machines, until interrupted
///
/// Prints a line for each file that it writes, deletes, sends, or does not mirror. Concurrent edits are kept beside as
/// `name (conflict, machine, time)`.
#[derive(Debug, clap::Args)]
pub(super) struct MirrorArgs {
    /// The folder; made if it does not exist
    folder: PathBuf,

    /// The field whose mirrors share the folder
    #[arg(long, value_name = "NAME")]
    field: String,

    /// The beginning of the names of the registers that hold the files
    #[arg(long, value_name = "TEXT", default_value = "files/")]
    below: String,

    /// The name of this machine, which others see in the names of conflicts [default: the name of the host]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,

    /// Give each machine a subfolder of its own name, and send only the files in its own one
    #[arg(long)]
    per_machine: bool,

    /// The number of files that others can make here
    #[arg(long, value_name = "FILES", default_value_t = 100_000)]
    max_files: usize,

    /// The size of all files, in bytes, up to which others can add to them
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 30)]
    max_bytes: u64,

    #[command(flatten)]
    medium: MediumArgs,
}

pub(super) async fn mirror(args: MirrorArgs, shutdown: &CancellationToken) -> Result<(), CommandError> {
    let aether = connected(&args.medium, "aether-mirror", shutdown).await?;
    if !aether.promises().crosses_processes {
        return Err(CommandError::Alone { missing: "share the folder" });
    }
    let result = with_field(&aether, args, shutdown).await;
    aether_service::close(&aether).await;
    result
}

async fn with_field(
    aether: &Aether,
    args: MirrorArgs,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let field = Field::builder(&args.field).replica("aether-mirror").join(aether).await?;
    let mut options = MirrorOptions::default()
        .prefix(&args.below)
        .per_machine(args.per_machine)
        .max_files(args.max_files)
        .max_bytes(args.max_bytes);
    if let Some(machine) = &args.machine {
        options = options.machine(machine);
    }
    let mirror = Mirror::start(aether, &field, &args.folder, options).await?;
    let mut output = Output::stdout();
    let told = tell(&mirror, &args, &mut output, shutdown).await;
    let stopped = mirror.stop().await;
    // The last changes are on their way. A medium that is gone is not waited for.
    let closed = tokio::time::timeout(LEAVING, field.close()).await;
    let status = stopped?;
    told?;
    account(&status, &mut output)?;
    closed.map_or(Ok(()), |closed| Ok(closed?))
}

async fn tell(
    mirror: &Mirror,
    args: &MirrorArgs,
    output: &mut Output,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let mut events = mirror.events();
    stderr_line(format_args!(
        "mirrors {} on the field {}; stop with Ctrl-C",
        args.folder.display(),
        args.field
    ));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => output.line(event)?,
                None => return Ok(()),
            },
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

fn account(status: &MirrorStatus, output: &mut Output) -> Result<(), CommandError> {
    let refused: Vec<_> =
        status.refused.iter().map(|(reason, files)| format!(", {files}: {reason}")).collect();
    Ok(output.line(format_args!(
        "mirror: {} files of {} bytes, {} waiting; {} written, {} deleted, {} sent, {} deletions sent, {} conflicts, {} not \
         mirrored{}",
        status.files,
        status.bytes,
        status.waiting,
        status.written,
        status.deleted,
        status.sent,
        status.sent_deletions,
        status.conflicts,
        status.refused.values().sum::<u64>(),
        refused.concat(),
    ))?)
}
