//! Why a command failed, and whether its usage was wrong.

#[cfg(feature = "bench")]
mod bench;
mod keys;
#[cfg(feature = "lan")]
mod lan;
mod ledger;
mod letters;
mod log;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use aether::bridge::BridgeError;
use aether::physics::{ObserveError, RecordingError};
use aether::rules::RulesError;
#[cfg(feature = "bench")]
use aether_bench::FloodError;
use aether_core::echo::EchoesError;
use aether_core::{AskError, ConnectError, CreateError, EchoReason, EmitError, JoinError, WaveError, WaveId};
use aether_gateway::{ArchiveError, GatewayError, StartError};
use aether_service::LostWaves;
use aether_service::config::ConfigError;
use aether_service_alpha::AlphaError;
use aether_service_beta::BetaError;

#[cfg(feature = "bench")]
pub(crate) use bench::BenchError;
pub(crate) use keys::KeysError;
#[cfg(feature = "lan")]
pub(crate) use lan::LanCommandError;
pub(crate) use ledger::LedgerError;
pub(crate) use letters::LettersError;
pub(crate) use log::LogError;

use crate::incident::IncidentError;
use crate::new::NewError;
use crate::stdin::StdinError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(
        "the local medium lives inside one process, and this command is alone in it: no other process can {missing}. Start a NATS server, and add --medium nats://127.0.0.1:4222 to this command and all others, or set AETHER_MEDIUM. (`aether up` shows a whole system in one process.)"
    )]
    Alone { missing: &'static str },
    #[error(
        "the local medium lives inside one process, so nobody else is on it: name two media, such as lan: and nats://hub:4222"
    )]
    BridgeToNowhere,
    #[error(
        "both sides are the same medium: its receivers would get each wave twice. Name two media, or two prefixes"
    )]
    BridgeToItself,
    #[error("the bridge was not made")]
    Bridge(#[from] BridgeError),
    #[error("the rules cannot be used together")]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Lost(#[from] LostWaves),
    #[error("{missed} waves sent to this listener were not printed")]
    Missed { missed: u64 },
    #[error("{missed} waves were lost before they were recorded; the recording notes where")]
    NotRecorded { missed: u64 },
    #[error("cannot write {}", .path.display())]
    Record { path: PathBuf, source: io::Error },
    #[error("cannot open {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error(transparent)]
    Incident(#[from] IncidentError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("{back} of {waves} waves came back: {hint} ({reason})")]
    CameBack { back: u64, waves: u64, reason: EchoReason, hint: String },
    #[error("no wave of the request {id} was seen: it may have ended before, or another --prefix carries it")]
    NotSeen { id: WaveId },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the configuration has {mistakes} mistake{}", if *.mistakes == 1 { "" } else { "s" })]
    Mistakes { mistakes: usize },
    #[error("interrupted before {before}")]
    Interrupted { before: &'static str },
    #[error("--count repeats a payload that is an argument, not stdin")]
    CountOfStdin,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the vibrator could not be created")]
    Create(#[from] CreateError),
    #[error("cannot observe")]
    Observe(#[from] ObserveError),
    #[error("cannot subscribe")]
    Join(#[from] JoinError),
    #[error(transparent)]
    Wave(#[from] WaveError),
    #[error("the wave was not emitted")]
    Emit(#[from] EmitError),
    #[error("cannot receive echoes")]
    Echoes(#[from] EchoesError),
    #[error("line {line} of stdin was not emitted")]
    EmitLine { line: u64, source: EmitError },
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Stdin(#[from] StdinError),
    #[error("cannot write to stdout")]
    Output(#[from] io::Error),
    #[error("the gateway did not start")]
    Start(#[from] StartError),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error(transparent)]
    Alpha(#[from] AlphaError),
    #[error(transparent)]
    Beta(#[from] BetaError),
    #[cfg(feature = "bench")]
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[cfg(feature = "bench")]
    #[error(transparent)]
    Flood(#[from] FloodError),
    #[error(transparent)]
    New(#[from] NewError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    NotAllowed(#[from] aether::rules::Refusal),
    #[error("{channel} leaves as {becomes} (rule {rule})")]
    RewrittenNotAllowed {
        channel: aether_core::Channel,
        becomes: aether_core::Channel,
        rule: usize,
        source: Box<aether::rules::Refusal>,
    },
    #[error("there are no rules: write them to [border] in the configuration (--config)")]
    NoRules,
    #[error("the field has no register {name:?}")]
    NoRegister { name: String },
    #[error(
        "no other replica of the field answered within {timeout:?}; `aether field keep` is one that stays"
    )]
    NoReplica { timeout: Duration },
    #[error(transparent)]
    JoinField(#[from] aether_field::JoinFieldError),
    #[error(transparent)]
    Field(#[from] aether_field::FieldError),
    #[error(transparent)]
    Mirror(#[from] aether_mirror::MirrorError),
    #[error(transparent)]
    Identity(#[from] aether_field::IdentityError),
    #[error("the identity cannot be made")]
    Random(#[from] aether_field::core::RandomError),
    #[error("certify needs --identity with the identity of the root")]
    NoRoot,
    #[error("the key belongs to {owner:?} already; there is nothing to certify")]
    Certified { owner: String },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] aether_field::StoreError),
    #[error("{} is damaged; a replica that opens it saves what is readable and gets the rest from others", path.display())]
    DamagedStore { path: std::path::PathBuf },
    #[error(
        "other replicas refuse these entries of {} until their time has come: if the clock of this machine is right, give them \
         stamps of now with --write", path.display()
    )]
    StampsAhead { path: std::path::PathBuf },
    #[error(transparent)]
    Letters(#[from] LettersError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[cfg(feature = "lan")]
    #[error(transparent)]
    Lan(#[from] LanCommandError),
    #[error("{} describes itself here: build it with .describe(version, summary), or another --prefix carries it", .service.as_deref().map_or_else(|| "no service".to_owned(), |name| format!("no service {name:?}")))]
    NotDescribed { service: Option<String> },
    #[error(
        "a service could not send its description: {reason}. If it is larger than the medium takes, raise max_payload of the NATS server"
    )]
    DescriptionNotSent { reason: String },
    #[error("{failed} of {checks} checks failed")]
    Unhealthy { failed: usize, checks: usize },
    #[error("a service panicked")]
    Task(#[from] tokio::task::JoinError),
}

impl CommandError {
    /// Whether the error is wrong usage that the argument parser cannot detect.
    pub(crate) fn is_wrong_usage(&self) -> bool {
        match self {
            Self::Alone { .. }
            | Self::BridgeToNowhere
            | Self::BridgeToItself
            | Self::Rules(_)
            | Self::CountOfStdin
            | Self::Config(_)
            | Self::Letters(LettersError::Number { .. })
            | Self::Start(StartError::Exposed { .. })
            | Self::Alpha(AlphaError::Config(_))
            | Self::Beta(BetaError::Config(_)) => true,
            Self::Gateway(error) => error.is_wrong_usage(),
            Self::Incident(error) => error.is_wrong_usage(),
            Self::Connect(error)
            | Self::Alpha(AlphaError::Connect(error))
            | Self::Beta(BetaError::Connect(error)) => {
                !matches!(error, ConnectError::Unreachable { .. } | ConnectError::Layer { .. })
            }
            #[cfg(feature = "bench")]
            Self::Bench(error) => error.is_wrong_usage(),
            #[cfg(feature = "lan")]
            Self::Lan(error) => error.is_wrong_usage(),
            _ => false,
        }
    }

    /// Whether all that failed is that dead letters, or jobs, do not exist any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Letters(LettersError::Gone { .. } | LettersError::Unchanged { .. }))
    }

    /// Whether the reader of stdout has closed it, as `head` does.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Output(error)
            | Self::Gateway(GatewayError::Output(error))
            | Self::Alpha(AlphaError::Output(error))
            | Self::Beta(BetaError::Output(error)) => error.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}
