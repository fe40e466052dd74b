//! The accounts of all processes in a status: sums by program, and the processes that need attention most.

use std::collections::BTreeMap;
use std::sync::Arc;

use aether_core::account::{
    Accounts, HandlersAccount, KnownProcess, ProcessAccount, ProgramAccount, Standing,
};
use aether_core::{Floor, Ledger};
use serde::{Serialize, Serializer};

use super::{LedgerLine, floor_as_number};

/// The maximum number of processes in a status. `/api/accounts` has all of them.
const MOST_PROCESSES: usize = 100;

/// The gateway's knowledge of all processes.
#[derive(Debug, Serialize)]
pub(crate) struct AccountsPart {
    pub(crate) programs: Vec<ProgramLine>,
    /// The number of known processes.
    pub(crate) known: usize,
    /// Those that lose most now come first, then those that have lost most, then the others.
    pub(crate) processes: Vec<ProcessLine>,
    pub(crate) taken: u64,
    /// Accounts that were rejected or contradict an earlier one, by reason.
    pub(crate) suspicious: BTreeMap<&'static str, u64>,
}

/// The processes of one program, those that have gone included.
#[derive(Debug, Serialize)]
pub(crate) struct ProgramLine {
    pub(crate) program: String,
    pub(crate) present: u64,
    pub(crate) silent: u64,
    pub(crate) ended: u64,
    pub(crate) inboxes: LedgerLine,
    /// Queued in processes that are gone.
    pub(crate) unsettled: u64,
    pub(crate) outbox: LedgerLine,
    pub(crate) unconfirmed: u64,
    pub(crate) handlers: HandlersLine,
    #[serde(serialize_with = "floor_as_number")]
    pub(crate) effective_floor: Floor,
    pub(crate) offered_per_second: f64,
    pub(crate) lost_per_second: f64,
    pub(crate) suspicious: u64,
}

/// The latest account of one process.
#[derive(Debug, Serialize)]
pub(crate) struct ProcessLine {
    pub(crate) process: String,
    pub(crate) version: String,
    pub(crate) standing: &'static str,
    pub(crate) age_seconds: f64,
    pub(crate) uptime_seconds: f64,
    pub(crate) inboxes: LedgerLine,
    pub(crate) outbox: LedgerLine,
    pub(crate) handlers: HandlersLine,
    #[serde(serialize_with = "floor_as_number")]
    pub(crate) effective_floor: Floor,
    /// Nothing before the second account.
    pub(crate) offered_per_second: Option<f64>,
    pub(crate) lost_per_second: Option<f64>,
    pub(crate) suspicious: u64,
    pub(crate) suspicion: Option<&'static str>,
}

/// The counts of handlers.
#[derive(Debug, Serialize)]
pub(crate) struct HandlersLine {
    pub(crate) received: u64,
    pub(crate) failed: u64,
    pub(crate) shed: u64,
    pub(crate) left: u64,
    pub(crate) breakers: u64,
    pub(crate) breakers_open: u64,
    pub(crate) breaker_openings: u64,
}

/// A process with all that it told, for `/api/accounts`.
#[derive(Debug, Serialize)]
pub(crate) struct WholeProcess {
    #[serde(flatten)]
    line: ProcessLine,
    #[serde(serialize_with = "account")]
    account: Arc<ProcessAccount>,
}

impl AccountsPart {
    pub(crate) fn of(accounts: &Accounts) -> Self {
        let counts = accounts.counts();
        // Before the processes, so that each program has its processes, also if an account comes in between.
        let programs = Self::programs(accounts);
        let mut processes = accounts.processes();
        let known = processes.len();
        processes.sort_by(|a, b| urgency(b).total_cmp(&urgency(a)).then_with(|| lost(b).cmp(&lost(a))));
        processes.truncate(MOST_PROCESSES);
        let suspicious = counts.by_reason().into_iter().filter(|(_, accounts)| *accounts > 0);
        Self {
            programs,
            known,
            processes: processes.iter().map(ProcessLine::from).collect(),
            taken: counts.taken,
            suspicious: suspicious.map(|(reason, accounts)| (reason.as_str(), accounts)).collect(),
        }
    }

    /// The sums by program.
    pub(crate) fn programs(accounts: &Accounts) -> Vec<ProgramLine> {
        accounts.programs().into_iter().map(ProgramLine::from).collect()
    }

    /// Each known process with its whole account.
    pub(crate) fn whole(accounts: &Accounts) -> Vec<WholeProcess> {
        let whole =
            |known: KnownProcess| WholeProcess { line: ProcessLine::from(&known), account: known.account };
        accounts.processes().into_iter().map(whole).collect()
    }
}

impl WholeProcess {
    pub(crate) fn account(&self) -> &ProcessAccount {
        &self.account
    }
}

fn account<S: Serializer>(account: &Arc<ProcessAccount>, serializer: S) -> Result<S::Ok, S::Error> {
    account.as_ref().serialize(serializer)
}

/// The waves that a process loses a second; less than any for one that has gone.
fn urgency(known: &KnownProcess) -> f64 {
    match known.standing {
        Standing::Present => known.rates.map_or(0.0, |rates| rates.lost),
        _ => -1.0,
    }
}

fn lost(known: &KnownProcess) -> u64 {
    lost_of(&known.account.ledger()).saturating_add(lost_of(&known.account.medium.outbox))
}

/// All losses of a ledger from the network, whose sum could wrap.
pub(crate) fn lost_of(ledger: &Ledger) -> u64 {
    let shed = ledger.losses().into_iter().fold(0_u64, |sum, (_, waves)| sum.saturating_add(waves));
    shed.saturating_add(ledger.lost_upstream)
}

impl From<ProgramAccount> for ProgramLine {
    fn from(sum: ProgramAccount) -> Self {
        Self {
            handlers: HandlersLine::from(&sum.handlers),
            program: sum.program,
            present: sum.present,
            silent: sum.silent,
            ended: sum.ended,
            inboxes: LedgerLine(sum.ledger),
            unsettled: sum.unsettled,
            outbox: LedgerLine(sum.outbox),
            unconfirmed: sum.unconfirmed,
            effective_floor: sum.effective_floor,
            offered_per_second: sum.rates.offered,
            lost_per_second: sum.rates.lost,
            suspicious: sum.suspicious,
        }
    }
}

impl From<&KnownProcess> for ProcessLine {
    fn from(known: &KnownProcess) -> Self {
        let account = &known.account;
        Self {
            process: account.process.to_string(),
            version: account.version.clone(),
            standing: known.standing.as_str(),
            age_seconds: known.age.as_secs_f64(),
            uptime_seconds: account.uptime.as_secs_f64(),
            inboxes: LedgerLine(account.ledger()),
            outbox: LedgerLine(account.medium.outbox),
            handlers: HandlersLine::from(&account.all_handlers()),
            effective_floor: account.effective_floor(),
            offered_per_second: known.rates.map(|rates| rates.offered),
            lost_per_second: known.rates.map(|rates| rates.lost),
            suspicious: known.suspicious,
            suspicion: known.suspicion.map(|reason| reason.as_str()),
        }
    }
}

impl From<&HandlersAccount> for HandlersLine {
    fn from(handlers: &HandlersAccount) -> Self {
        let HandlersAccount {
            received, failed, shed, left, breakers, breakers_open, breaker_openings, ..
        } = handlers.clone();
        Self { received, failed, shed, left, breakers, breakers_open, breaker_openings }
    }
}
