//! Why `aether letters` failed.

use aether_core::AskError;
use aether_core::echo::LetterId;

/// Why letters could not be listed or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LettersError {
    #[error(
        "no service answered for its dead letters within {wait}: build it .with_letters(), or let --roll-call be longer"
    )]
    NoService { wait: String },
    #[error("{silent} of {services} services did not answer")]
    Silent { silent: usize, services: usize },
    #[error(
        "{gone} of {letters} dead letters are gone: they were replayed, dropped or evicted, or their service has ended"
    )]
    Gone { gone: usize, letters: usize },
    #[error("{failed} of {letters} dead letters could not be {done}")]
    Failed { failed: usize, letters: usize, done: &'static str },
    #[error("no answer about dead letter {id}")]
    Ask { id: LetterId, source: AskError },
    #[error("{number} is the number of a letter in a log: name its folder with --log, or give the whole id")]
    Number { number: u64 },
    #[error("dead letter {id} is not in this log")]
    Foreign { id: LetterId },
    #[error(
        "no running service has {name}: see `aether jobs ls`. It answers if it is built .with_letters() on a durable log"
    )]
    NoQueue { name: String },
    #[error("{name} is in several logs: choose one with --log, of {logs}")]
    Several { name: String, logs: String },
    #[error("nothing was changed: {why}")]
    Unchanged { why: &'static str },
    #[error("the service answered something else than was asked: is it of another version?")]
    Answer,
}
