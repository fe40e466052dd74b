//! The metrics of a bus: its medium, its inboxes, and what failed.
//!
//! [`Metrics`](crate::Metrics) registers the collector. Each scrape reads the accounts that the bus keeps.

use std::fmt;

use aether::paths::PathState;
use aether_core::Aether;
use aether_log::DurableLog;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::families::{ALL_INBOXES, Families, INBOX, OUTBOX};
use crate::vibrators::VibratorAccounts;

/// Collects the ledgers and the status of a bus.
#[derive(Debug)]
pub struct BusCollector {
    aether: Aether,
    accounts: Mutex<VibratorAccounts>,
}

impl BusCollector {
    /// A collector for a registry with the prefix `aether`.
    #[must_use]
    pub fn new(aether: &Aether) -> Self {
        Self { aether: aether.clone(), accounts: Mutex::default() }
    }
}

impl Collector for BusCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Families::new(encoder);
        write_medium(&mut to, &self.aether)?;
        write_paths(&mut to, &self.aether)?;
        write_reflected(&mut to, &self.aether)?;
        write_given_up(&mut to, &self.aether)?;
        write_inboxes(&mut to, &self.aether, &mut self.accounts.lock())
    }
}

fn write_medium(to: &mut Families<'_>, aether: &Aether) -> fmt::Result {
    let medium = aether.status();
    let help = "Waves held in the outbox because receivers asked for a pause";
    to.gauge("medium_held_waves", help, None, [(vec![], medium.held)])?;
    to.gauge(
        "medium_connected",
        "1 if the medium is connected",
        None,
        [(vec![], u32::from(medium.connected))],
    )?;
    let counts = [
        ("medium_connects", "Number of times the connection was made; 1 if it never broke", medium.connects),
        (
            "medium_unconfirmed_waves",
            "Waves not confirmed when the connection broke; an upper bound of the waves lost",
            medium.unconfirmed,
        ),
        (
            "medium_dropped_by_client_messages",
            "Messages dropped by the broker's client, a lower bound",
            medium.dropped_by_client,
        ),
        (
            "medium_malformed_messages",
            "Messages with an invalid frame or an invalid channel",
            medium.malformed,
        ),
        ("medium_implausible_messages", "Messages with implausible content", medium.implausible),
        (
            "medium_stray_answers",
            "Answers that came when nobody waited for them any more, or that nobody asked for",
            medium.stray_answers,
        ),
        (
            "medium_lost_upstream_waves",
            "Waves sent to this process and lost on the way",
            medium.lost_upstream,
        ),
        ("medium_pauses", "How often receivers have asked this process to pause", medium.pauses),
        (
            "medium_forgotten_streams",
            "Streams no longer checked for gaps, because the table was full",
            medium.forgotten_streams,
        ),
        (
            "medium_shed_at_source_waves",
            "Waves not sent because they were below the floors of all receivers",
            medium.shed_at_source,
        ),
    ];
    for (name, help, count) in counts {
        to.counter(name, help, None, [(vec![], count)])?;
    }
    let help = "Messages refused because of their seal, signature, rules or schema, or by the server for want of a permission";
    let refusals = medium.refusals().map(|(reason, count)| (vec![("reason", reason)], count));
    to.counter("medium_refused_messages", help, None, refusals)?;
    let help = "Messages received by the broker's client and not taken from it";
    to.gauge("medium_untaken_messages", help, None, [(vec![], medium.untaken)])?;
    to.ledgers(&OUTBOX, &[(vec![], medium.outbox)])
}

/// Nothing for a process with one path.
fn write_paths(to: &mut Families<'_>, aether: &Aether) -> fmt::Result {
    let paths = aether::paths::paths(aether);
    if paths.is_empty() {
        return Ok(());
    }
    let labels = || paths.iter().map(|path| vec![("path", &*path.url)]);
    let in_use = paths.iter().map(|path| u32::from(path.state == PathState::InUse));
    to.gauge("path_in_use", "1 for the path by which waves go", None, labels().zip(in_use))?;
    let unreached = paths.iter().map(|path| path.cut_off as u64);
    let help = "Processes that a path does not reach, and another one does";
    to.gauge("path_unreached_processes", help, None, labels().zip(unreached))?;
    let sent = paths.iter().map(|path| path.sent);
    to.counter("path_waves", "Waves that left the process by a path", None, labels().zip(sent))?;
    let unconfirmed = paths.iter().map(|path| path.medium.map_or(0, |medium| medium.unconfirmed));
    let help = "Waves that were on their way when a path broke";
    to.counter("path_unconfirmed_waves", help, None, labels().zip(unconfirmed))
}

fn write_reflected(to: &mut Families<'_>, aether: &Aether) -> fmt::Result {
    let reflected = aether.echo_ledger();
    let outcomes = [
        ("echoed", reflected.echoed),
        ("buried", reflected.buried),
        ("left_to_asker", reflected.left_to_asker),
        ("unconfirmed", reflected.unconfirmed),
    ];
    to.counter(
        "reflected_waves",
        "Commands and queries that failed in this process, by how the failure was reported",
        None,
        outcomes.map(|(outcome, waves)| (vec![("outcome", outcome)], waves)),
    )?;
    let help = "Failed commands and queries whose failure is being reported";
    to.gauge("reflecting_waves", help, None, [(vec![], reflected.pending)])?;
    let help = "Echoes from other processes that cannot be true";
    to.counter("refused_echoes", help, None, [(vec![], reflected.refused)])?;
    let letters = aether.dead_letters().counts();
    to.gauge(
        "dead_letters",
        "Failed waves that are kept and can be sent again",
        None,
        [(vec![], letters.kept)],
    )?;
    let counts = [
        ("dead_letters_buried", "Failed waves whose failure could not be reported", letters.buried),
        ("dead_letters_taken", "Dead letters that were taken or sent again", letters.taken),
        ("dead_letters_overflowed", "Failed waves dropped for lack of room", letters.overflowed),
    ];
    for (name, help, count) in counts {
        to.counter(name, help, None, [(vec![], count)])?;
    }
    Ok(())
}

/// Nothing for a process without a durable log.
fn write_given_up(to: &mut Families<'_>, aether: &Aether) -> fmt::Result {
    let Some(log) = DurableLog::of(aether) else { return Ok(()) };
    let given_up = log.dead().given_up();
    let waves = given_up.iter().map(|(consumer, waves)| (vec![("consumer", consumer.as_str())], *waves));
    let help = "Waves of the durable log that a consumer of this process has given up; they are dead letters";
    to.counter("durable_given_up_waves", help, None, waves)?;
    let help = "Dead letters of the durable log that were dropped for newer ones";
    to.counter("durable_dead_letters_overflowed", help, None, [(vec![], log.dead().overflowed())])
}

fn write_inboxes(to: &mut Families<'_>, aether: &Aether, accounts: &mut VibratorAccounts) -> fmt::Result {
    let accounts = accounts.read(aether);
    let labelled = || accounts.iter().map(|account| (vec![("vibrator", account.vibrator.as_str())], account));
    let ledgers: Vec<_> = labelled().map(|(labels, account)| (labels, account.ledger)).collect();
    to.ledgers(&INBOX, &ledgers)?;
    to.gauge(
        "inbox_effective_floor",
        "Amplitude below which a vibrator receives nothing; overload raises it, 0 receives everything",
        None,
        labelled().map(|(labels, account)| (labels, account.effective_floor.as_f32())),
    )?;
    to.gauge("inboxes", "Open inboxes", None, labelled().map(|(labels, account)| (labels, account.inboxes)))?;
    to.ledgers(&ALL_INBOXES, &[(vec![], aether.ledger())])
}
