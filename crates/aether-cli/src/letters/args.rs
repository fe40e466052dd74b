//! The arguments of `aether letters`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use aether_core::Pattern;
use aether_core::echo::{LetterId, LetterIdError};
use aether_service::MediumArgs;
use aether_service::letters::{LetterFilter, LetterQuery};
use clap::Subcommand;

use crate::error::LettersError;
use crate::values;

/// List, show, replay and drop dead letters: failed waves that were kept
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether letters ls                                    the letters of all services
  aether letters ls --channel 'orders.>' --older 5m --json | jq -r .id
  aether letters show 1f9a3c5b7d2e4f60-17              one, with its payload
  aether letters replay 1f9a3c5b7d2e4f60-17            send it again
  aether letters drop --all --older 24h
  aether letters ls --log orders.log                   of a log, without its service
  aether letters replay --log orders.log 3             its consumers get it again
  aether letters replay --log orders.log 3 --medium nats://127.0.0.1:4222
                                                       live receivers as well

A dead letter is a failed wave that was kept: in memory where it failed, or in
the durable log of a service whose consumer gave it up. Only services that are
built .with_letters() answer. A replayed letter is as strong as the first wave,
and leaves the store. With --log, `ls` and `show` work at any time; `replay` and
`drop` need the service stopped: one process at a time may write a log.

Exit codes: 0 done, 1 failed or a service did not answer, 2 wrong usage,
3 a letter is gone.")]
pub(crate) struct LettersArgs {
    #[command(subcommand)]
    pub(super) command: LettersCommand,

    /// The letters in the folder of this durable log, not of running services
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(super) log: Option<PathBuf>,
}

/// A letter: its id, or its number in a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id {
    store: Option<u64>,
    number: u64,
}

impl FromStr for Id {
    type Err = LetterIdError;

    fn from_str(text: &str) -> Result<Self, LetterIdError> {
        if let Ok(number) = text.parse() {
            return Ok(Self { store: None, number });
        }
        let LetterId { store, number } = text.parse()?;
        Ok(Self { store: Some(store), number })
    }
}

impl Id {
    /// The id of a letter of a running service.
    pub(super) fn of_service(self) -> Result<LetterId, LettersError> {
        let Self { store, number } = self;
        store.map(|store| LetterId { store, number }).ok_or(LettersError::Number { number })
    }

    /// The number of a letter of this log.
    pub(super) fn in_log(self, log: u64) -> Result<u64, LettersError> {
        match self.store {
            Some(store) if store != log => {
                Err(LettersError::Foreign { id: LetterId { store, number: self.number } })
            }
            _ => Ok(self.number),
        }
    }
}

/// Options of all commands about letters.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::time)]
    pub(super) timeout: Duration,

    #[command(flatten)]
    pub(super) medium: MediumArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum LettersCommand {
    /// One line for each letter, the oldest of each service first
    Ls(Ls),
    /// One letter with its payload, and the attempts at handling it
    Show(Show),
    /// Send letters again, each as strong as its first attempt, and remove them
    Replay(Chosens),
    /// Remove letters
    Drop(Chosens),
}

/// What is done to a letter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Replay,
    Drop,
}

impl Change {
    pub(super) fn query(self, id: LetterId) -> LetterQuery {
        let id = id.to_string();
        match self {
            Self::Replay => LetterQuery::Replay { id },
            Self::Drop => LetterQuery::Drop { id },
        }
    }

    pub(super) const fn done(self) -> &'static str {
        match self {
            Self::Replay => "replayed",
            Self::Drop => "dropped",
        }
    }
}

impl LettersCommand {
    /// Refuses numbers, which name a letter only with the folder of a log.
    pub(super) fn check_ids(&self) -> Result<(), LettersError> {
        let ids = match self {
            Self::Ls(_) => &[],
            Self::Show(args) => std::slice::from_ref(&args.id),
            Self::Replay(args) | Self::Drop(args) => &args.ids[..],
        };
        ids.iter().try_for_each(|id| id.of_service().map(|_| ()))
    }

    pub(super) const fn common(&self) -> &Common {
        match self {
            Self::Ls(args) => &args.common,
            Self::Show(args) => &args.common,
            Self::Replay(args) | Self::Drop(args) => &args.common,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    #[command(flatten)]
    pub(super) chosen: Chosen,

    #[command(flatten)]
    common: Common,

    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The id, as `ls` prints it
    pub(super) id: Id,

    #[command(flatten)]
    common: Common,

    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Chosens {
    /// The ids, as `ls` prints them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with_all = ["all", "channel", "older", "newer"])]
    pub(super) ids: Vec<Id>,

    /// All letters of all services that --channel, --older and --newer leave
    #[arg(long)]
    pub(super) all: bool,

    #[command(flatten)]
    pub(super) chosen: Chosen,

    #[command(flatten)]
    pub(super) common: Common,

    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// Which letters are meant.
#[derive(Debug, clap::Args)]
pub(super) struct Chosen {
    /// Only letters whose channel matches this pattern
    #[arg(long, value_name = "PATTERN")]
    channel: Option<Pattern>,

    /// Only letters that were kept at least this long ago
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    older: Option<Duration>,

    /// Only letters that were kept at most this long ago
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    newer: Option<Duration>,

    #[command(flatten)]
    pub(super) roll: RollCall,
}

/// How long services are waited for.
#[derive(Debug, clap::Args)]
pub(crate) struct RollCall {
    /// How long to wait until all services have announced themselves
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::time)]
    pub(super) roll_call: Duration,

    /// Wait no longer than until this many services have announced themselves
    #[arg(long, value_name = "N", value_parser = values::whole(1))]
    pub(super) expect: Option<u64>,
}

impl Chosen {
    pub(super) fn filter(&self) -> LetterFilter {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        LetterFilter {
            channel: self.channel.as_ref().map(|pattern| pattern.as_str().to_owned()),
            older_ms: self.older.map(millis),
            newer_ms: self.newer.map(millis),
        }
    }
}
