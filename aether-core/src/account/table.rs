//! The processes that a reader knows, and the sums over the processes of each program. Bounded in bytes, whatever arrives.
//!
//! Pure: the caller passes the time of the reader's clock. The clocks of the processes do not matter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::handlers::{HandlersAccount, OTHER};
use super::process::{
    AccountCounts, AccountError, KnownProcess, ProcessAccount, ProgramAccount, Rates, Standing, all_lost,
    grown_since, has_fallen, sum_of,
};
use crate::clock::Instant;
use crate::inbox::Ledger;
use crate::proof::{ShareSizes, UNPROVEN};
use crate::source::Source;

/// Bounds of the table: as many processes as presence knows receivers, and as many bytes.
const MAX_PROCESSES: usize = 4096;
const MAX_BYTES: usize = 16 << 20;
/// The number of programs with a line of their own.
const MAX_PROGRAMS: usize = 256;
/// How long a process that has gone keeps its last account, unless the room is needed.
const KEPT: Duration = Duration::from_secs(600);
/// Rates are computed over at least this time: two accounts at once have no meaningful rate.
const RATE_SPAN: Duration = Duration::from_secs(1);
/// The shortest time between two walks through all processes.
const WALK_EVERY: Duration = Duration::from_secs(1);

/// The bytes that a process takes of the room: at least an equal part, since the number of processes is bounded, too.
fn share(weight: usize) -> usize {
    weight.max(MAX_BYTES / MAX_PROCESSES)
}

#[derive(Debug, Default)]
pub(super) struct ProcessTable {
    processes: BTreeMap<Source, ReadProcess>,
    bytes: usize,
    /// The bytes that each principal takes of the room.
    shares: ShareSizes,
    programs: BTreeMap<String, Program>,
    /// How many lines each principal has caused.
    lines: ShareSizes,
    counts: AccountCounts,
    /// When the processes that have gone are forgotten next, and when room is looked for again after there was none. Both
    /// look at each process, so a flood of accounts must not cause them.
    forget_at: Option<Instant>,
    look_for_room_at: Option<Instant>,
}

#[derive(Debug)]
struct ReadProcess {
    account: Arc<ProcessAccount>,
    heard: Instant,
    counts: Counts,
    rates: Option<Rates>,
    /// The counts from which the rates are computed next.
    base: Counts,
    suspicious: u64,
    suspicion: Option<AccountError>,
    weight: usize,
    /// The principal that signed the latest account; [`UNPROVEN`] without signatures.
    principal: u64,
    /// The line of its program.
    line: String,
}

/// The counts of an account that the sums need.
#[derive(Debug, Clone, Default)]
struct Counts {
    uptime: Duration,
    ledger: Ledger,
    outbox: Ledger,
    unconfirmed: u64,
    handlers: HandlersAccount,
}

/// The sums over all processes of a program.
#[derive(Debug, Default)]
struct Program {
    counts: Counts,
    suspicious: u64,
    /// The number of known processes.
    processes: usize,
    /// The principal whose account added the line.
    principal: u64,
}

impl Counts {
    fn of(account: &ProcessAccount) -> Self {
        Self {
            uptime: account.uptime,
            ledger: account.ledger(),
            outbox: account.medium.outbox,
            unconfirmed: account.medium.unconfirmed,
            handlers: account.all_handlers(),
        }
    }

    fn contradicts(&self, before: &Self) -> bool {
        self.uptime < before.uptime
            || has_fallen(&self.ledger, &before.ledger)
            || has_fallen(&self.outbox, &before.outbox)
    }

    fn add_since(&mut self, now: &Self, before: &Self) {
        self.ledger = sum_of(&self.ledger, &grown_since(&now.ledger, &before.ledger));
        self.outbox = sum_of(&self.outbox, &grown_since(&now.outbox, &before.outbox));
        self.unconfirmed =
            self.unconfirmed.saturating_add(now.unconfirmed.saturating_sub(before.unconfirmed));
        self.handlers.add(&now.handlers.clone().since(&before.handlers));
    }

    /// The rates since an earlier moment.
    fn rates_since(&self, before: &Self) -> Rates {
        let seconds = self.uptime.saturating_sub(before.uptime).as_secs_f64();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let lost = |counts: &Self| all_lost(&counts.ledger).saturating_add(all_lost(&counts.outbox));
        Rates {
            emitted: rate(self.outbox.offered, before.outbox.offered),
            offered: rate(self.ledger.offered, before.ledger.offered),
            delivered: rate(self.ledger.delivered, before.ledger.delivered),
            lost: rate(lost(self), lost(before)),
        }
    }
}

impl ReadProcess {
    fn standing(&self, now: Instant) -> Standing {
        if self.account.is_last {
            Standing::Ended
        } else if now.saturating_duration_since(self.heard) > self.account.patience() {
            Standing::Silent
        } else {
            Standing::Present
        }
    }

    fn suspect(&mut self, reason: AccountError) {
        self.suspicious += 1;
        self.suspicion = Some(reason);
    }
}

impl ProcessTable {
    pub(super) fn counts(&self) -> AccountCounts {
        self.counts
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts an account that was rejected before it came here.
    pub(super) fn reject(&mut self, reason: AccountError, process: Option<&Source>) {
        self.counts.add(reason, 1);
        if let Some(known) = process.and_then(|process| self.processes.get_mut(process)) {
            known.suspect(reason);
            if let Some(program) = self.programs.get_mut(&known.line) {
                program.suspicious += 1;
            }
        }
    }

    pub(super) fn note_overflowed(&mut self, accounts: u64) {
        self.counts.add(AccountError::Overflowed, accounts);
    }

    /// Takes in an account from another process.
    pub(super) fn take(&mut self, principal: u64, account: ProcessAccount, now: Instant) {
        self.forget(now);
        match self.place(principal, account, now) {
            Ok(()) => self.counts.taken += 1,
            Err(reason) => self.counts.add(reason, 1),
        }
    }

    /// Takes in the account of the reader's own process, which is not counted.
    pub(super) fn take_own(&mut self, account: ProcessAccount, now: Instant) {
        let _ = self.place(UNPROVEN, account, now);
    }

    fn place(&mut self, principal: u64, account: ProcessAccount, now: Instant) -> Result<(), AccountError> {
        let (process, counts) = (account.process.clone(), Counts::of(&account));
        let weight = account.weight() + size_of::<(Source, ReadProcess)>() + process.name().len();
        let known_weight = self.processes.get(&process).map_or(0, |known| known.weight);
        self.make_room((weight - weight.min(known_weight), known_weight == 0), (principal, &process), now)?;
        let line = self.line_for(process.name(), principal);
        let (mut added, mut contradicts) = (Counts::default(), false);
        match self.processes.get_mut(&process) {
            Some(known) => {
                added.add_since(&counts, &known.counts);
                contradicts = counts.contradicts(&known.counts);
                if contradicts {
                    known.suspect(AccountError::Contradicts);
                    known.base = counts.clone();
                    known.rates = None;
                } else if counts.uptime >= known.base.uptime + RATE_SPAN {
                    known.rates = Some(counts.rates_since(&known.base));
                    known.base = counts.clone();
                }
                (known.account, known.counts, known.heard) = (Arc::new(account), counts, now);
                self.shares.subtract(known.principal, share(known.weight));
                (known.weight, known.principal) = (weight, principal);
                let old_line = std::mem::replace(&mut known.line, line.clone());
                if let Some(old) = self.programs.get_mut(&old_line) {
                    old.processes -= 1;
                }
            }
            None => {
                added.add_since(&counts, &Counts::default());
                let base = counts.clone();
                let known = ReadProcess {
                    account: Arc::new(account),
                    heard: now,
                    counts,
                    rates: None,
                    base,
                    suspicious: 0,
                    suspicion: None,
                    weight,
                    principal,
                    line: line.clone(),
                };
                self.processes.insert(process, known);
            }
        }
        self.bytes = self.bytes + weight - known_weight;
        self.shares.add(principal, share(weight));
        if contradicts {
            self.counts.add(AccountError::Contradicts, 1);
        }
        let program = self.programs.entry(line).or_default();
        program.counts.add_since(&added, &Counts::default());
        program.suspicious += u64::from(contradicts);
        program.processes += 1;
        Ok(())
    }

    /// The line that has the sums of a program. Beyond the bound a program without known processes makes room, or one of the
    /// principal that has most lines. Its sums, and its processes, go to the rest.
    fn line_for(&mut self, name: &str, principal: u64) -> String {
        if self.programs.contains_key(name) {
            return name.to_owned();
        }
        if self.programs.len() >= MAX_PROGRAMS {
            let holder = self.lines.gives_way_to(principal);
            let idle = self.line_where(|program| program.processes == 0);
            let of_holder = || {
                (holder != principal)
                    .then(|| self.line_where(|program| program.principal == holder))
                    .flatten()
            };
            let Some(gone) = idle.or_else(of_holder) else { return OTHER.to_owned() };
            self.fold(&gone);
        }
        if name != OTHER {
            self.programs.insert(name.to_owned(), Program { principal, ..Program::default() });
            self.lines.add(principal, 1);
        }
        name.to_owned()
    }

    fn line_where(&self, may_go: impl Fn(&Program) -> bool) -> Option<String> {
        let mut lines = self.programs.iter().filter(|(name, _)| *name != OTHER);
        lines.find(|(_, program)| may_go(program)).map(|(name, _)| name.clone())
    }

    /// Adds the line of a program to the rest.
    fn fold(&mut self, name: &str) {
        let Some(gone) = self.programs.remove(name) else { return };
        self.lines.subtract(gone.principal, 1);
        if gone.processes > 0 {
            let known = self.processes.values_mut().filter(|known| known.line == name);
            known.for_each(|known| OTHER.clone_into(&mut known.line));
        }
        let rest = self.programs.entry(OTHER.to_owned()).or_default();
        rest.counts.add_since(&gone.counts, &Counts::default());
        rest.suspicious += gone.suspicious;
        rest.processes += gone.processes;
    }

    /// Makes room for more bytes, and for a process if it is a new one. Processes that have gone give way, the longest
    /// silent first. If there are none, a process of the principal with the largest share does, if that share is larger
    /// than the share of the principal that needs room.
    fn make_room(
        &mut self,
        (more, is_new): (usize, bool),
        (principal, process): (u64, &Source),
        now: Instant,
    ) -> Result<(), AccountError> {
        let fits = |table: &Self| {
            table.bytes + more <= MAX_BYTES && table.processes.len() + usize::from(is_new) <= MAX_PROCESSES
        };
        while !fits(self) {
            let may_look = self.look_for_room_at.is_none_or(|at| now >= at);
            let gone = may_look
                .then(|| self.longest_silent(process, |known| known.standing(now) != Standing::Present))
                .flatten();
            if may_look && gone.is_none() {
                self.look_for_room_at = Some(now + WALK_EVERY);
            }
            let holder = self.shares.gives_way_to(principal);
            let of_holder = || {
                let is_other = holder != principal;
                is_other.then(|| self.longest_silent(process, |known| known.principal == holder)).flatten()
            };
            let gone = gone.or_else(of_holder).ok_or(AccountError::NoRoom)?;
            self.remove(&gone);
        }
        Ok(())
    }

    /// The process that was silent for longest, of those that may make room for another one.
    fn longest_silent(&self, other: &Source, may_go: impl Fn(&ReadProcess) -> bool) -> Option<Source> {
        let others = self.processes.iter().filter(|(source, known)| *source != other && may_go(known));
        others.min_by_key(|(_, known)| known.heard).map(|(source, _)| source.clone())
    }

    /// Forgets the processes that have been silent for long. Their counts stay in the sums.
    pub(super) fn forget(&mut self, now: Instant) {
        if self.forget_at.is_some_and(|at| now < at) {
            return;
        }
        self.forget_at = Some(now + WALK_EVERY);
        let is_old = |known: &ReadProcess| now.saturating_duration_since(known.heard) > KEPT;
        let old: Vec<_> =
            self.processes.iter().filter(|(_, known)| is_old(known)).map(|(it, _)| it.clone()).collect();
        old.iter().for_each(|process| self.remove(process));
    }

    fn remove(&mut self, process: &Source) {
        let Some(known) = self.processes.remove(process) else { return };
        self.bytes -= known.weight;
        self.shares.subtract(known.principal, share(known.weight));
        if let Some(program) = self.programs.get_mut(&known.line) {
            program.processes -= 1;
        }
    }

    /// The processes by program and instance.
    pub(super) fn processes(&self, own: &Source, now: Instant) -> Vec<KnownProcess> {
        let mut all: Vec<_> = self.processes.values().map(|known| known_process(known, own, now)).collect();
        all.sort_unstable_by(|a, b| {
            let key = |known: &KnownProcess| known.account.process.instance();
            let names = a.account.process.name().cmp(b.account.process.name());
            names.then_with(|| key(a).cmp(&key(b)))
        });
        all
    }

    /// The sums by program.
    pub(super) fn programs(&self, now: Instant) -> Vec<ProgramAccount> {
        let mut lines: BTreeMap<String, ProgramAccount> = BTreeMap::new();
        for (name, program) in &self.programs {
            let line = lines.entry(name.clone()).or_insert_with(|| ProgramAccount::new(name));
            let Counts { ledger, outbox, unconfirmed, handlers, .. } = &program.counts;
            (line.ledger, line.outbox, line.unconfirmed) = (*ledger, *outbox, *unconfirmed);
            (line.ledger.queued, line.outbox.queued) = (0, 0);
            line.handlers = handlers.clone();
            (line.handlers.in_flight, line.handlers.breakers, line.handlers.breakers_open) = (0, 0, 0);
            line.suspicious = program.suspicious;
        }
        for known in self.processes.values() {
            let name = &known.line;
            let line = lines.entry(name.clone()).or_insert_with(|| ProgramAccount::new(name));
            match known.standing(now) {
                Standing::Present => add_present(line, known),
                Standing::Silent => line.silent += 1,
                Standing::Ended => line.ended += 1,
            }
        }
        let mut lines: Vec<_> = lines.into_values().collect();
        for line in &mut lines {
            let settled = line.ledger.delivered.saturating_add(all_lost(&line.ledger));
            line.unsettled = line.ledger.offered.saturating_sub(settled).saturating_sub(line.ledger.queued);
        }
        lines
    }
}

/// Adds what counts only while a process is there.
fn add_present(line: &mut ProgramAccount, known: &ReadProcess) {
    line.present += 1;
    line.ledger.queued = line.ledger.queued.saturating_add(known.counts.ledger.queued);
    line.outbox.queued = line.outbox.queued.saturating_add(known.counts.outbox.queued);
    let HandlersAccount { in_flight, breakers, breakers_open, .. } = known.counts.handlers;
    line.handlers.in_flight = line.handlers.in_flight.saturating_add(in_flight);
    line.handlers.breakers = line.handlers.breakers.saturating_add(breakers);
    line.handlers.breakers_open = line.handlers.breakers_open.saturating_add(breakers_open);
    line.effective_floor = line.effective_floor.max(known.account.effective_floor());
    if let Some(rates) = known.rates {
        line.rates.emitted += rates.emitted;
        line.rates.offered += rates.offered;
        line.rates.delivered += rates.delivered;
        line.rates.lost += rates.lost;
    }
}

fn known_process(known: &ReadProcess, own: &Source, now: Instant) -> KnownProcess {
    KnownProcess {
        account: Arc::clone(&known.account),
        is_own: known.account.process == *own,
        standing: known.standing(now),
        age: now.saturating_duration_since(known.heard),
        rates: known.rates,
        suspicious: known.suspicious,
        suspicion: known.suspicion,
    }
}

#[cfg(test)]
mod tests;
