//! The processes behind the services, by their accounts: which of them were lost without a farewell, while what they hear
//! goes on.
//!
//! A service that only reacts is silent when it has nothing to say, so its waves prove nothing. Its process tells its
//! account every few seconds in any case, and a last one when it leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use smallvec::SmallVec;
use smol_str::SmolStr;

use super::activity::{Activity, Stream};
use crate::resonance::Resonance;
use crate::timeline::Moment;
use aether_core::account::KnownProcess;
use aether_core::{Channel, Source};

/// After the medium is back, services have this time to return.
pub(super) const RETURN: Duration = Duration::from_secs(10);

/// How old a reading of the accounts may become, and how old while a process is overdue.
const READ_EVERY: Duration = Duration::from_secs(10);
const READ_SOON: Duration = Duration::from_secs(1);
/// An account may take this long on its way.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// The maximum number of channels that are named for one service.
const MAX_INPUTS: usize = 8;

/// The processes of the last reading.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: BTreeMap<Source, Told>,
    read: Option<Moment>,
    /// Accounts of before may have come unseen: silences begin here.
    watched: Moment,
}

/// What is known of one process.
#[derive(Debug)]
struct Told {
    vibrators: SmallVec<[SmolStr; 2]>,
    /// When its latest account came, and when the next one was due.
    heard: Moment,
    every: Duration,
    /// It is lost after this silence.
    patience: Duration,
    is_last: bool,
    /// Since when waves that it would have heard were seen to flow while it was overdue.
    unheard_since: Option<Moment>,
}

/// A service whose process was lost, while its input goes on.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) service: SmolStr,
    /// The latest account, and when the next one was due.
    pub(super) heard: Moment,
    pub(super) due: Moment,
    /// The channels that reach it no more.
    pub(super) inputs: Vec<Channel>,
}

impl Processes {
    /// Takes in a reading of all processes that are known.
    pub(super) fn tell(&mut self, processes: &[KnownProcess], now: Moment) {
        let mut before = std::mem::take(&mut self.known);
        // Those that tell nothing are not missed.
        let telling = processes.iter().filter(|known| !known.is_own && !known.account.every.is_zero());
        for process in telling {
            let account = &process.account;
            let heard = now.minus(process.age);
            let old = before.remove(&account.process);
            let unheard_since = old.filter(|old| old.heard >= heard).and_then(|old| old.unheard_since);
            let told = Told {
                vibrators: account.inboxes.iter().map(|inbox| inbox.vibrator.as_str().into()).collect(),
                heard,
                every: account.interval(),
                patience: account.patience(),
                is_last: account.is_last,
                unheard_since,
            };
            self.known.insert(account.process.clone(), told);
        }
        self.read = Some(now);
    }

    /// Silences begin again.
    pub(super) fn watch_from(&mut self, now: Moment) {
        self.watched = self.watched.max(now);
        self.known.values_mut().for_each(|told| told.unheard_since = None);
    }

    /// Whether the accounts have to be read again before a judgement.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let Some(read) = self.read else { return true };
        let age = now.since(read);
        age >= READ_EVERY || age >= READ_SOON && self.known.values().any(|told| self.is_overdue(told, now))
    }

    /// Whether a process that has not said farewell has missed two accounts.
    fn is_overdue(&self, told: &Told, now: Moment) -> bool {
        !told.is_last && now >= self.overdue_at(told)
    }

    fn overdue_at(&self, told: &Told) -> Moment {
        told.heard.max(self.watched).plus(told.patience.saturating_sub(told.every))
    }

    /// When it is lost: it has missed one more, and would also have told since its input was seen to flow. An outage of
    /// a host with a service and with its input can end with the input.
    fn lost_at(&self, told: &Told) -> Option<Moment> {
        let lost = told.heard.max(self.watched).plus(told.patience + ON_THE_WAY);
        Some(lost.max(told.unheard_since?.plus(told.every + ON_THE_WAY)))
    }

    /// Looks which processes are overdue while their input flows.
    pub(super) fn look(&mut self, activity: &Activity, heard: &Resonance, now: Moment) {
        let overdue: Vec<(Source, bool)> = self
            .known
            .iter()
            .filter(|(_, told)| self.is_overdue(told, now))
            .map(|(process, told)| {
                let flows = told
                    .services(process)
                    .any(|service| told.inputs(&service, activity, heard, now).next().is_some());
                (process.clone(), flows)
            })
            .collect();
        for (process, flows) in overdue {
            if let Some(told) = self.known.get_mut(&process) {
                told.unheard_since = flows.then(|| told.unheard_since.unwrap_or(now));
            }
        }
    }

    /// The services whose processes are lost. A program of which a process was heard later than the lost one is served,
    /// or was ended on purpose.
    pub(super) fn lost(&self, activity: &Activity, heard: &Resonance, now: Moment) -> Vec<Lost> {
        let mut all = Vec::new();
        for (process, told) in &self.known {
            let is_lost = self.is_overdue(told, now) && self.lost_at(told).is_some_and(|at| at <= now);
            if !is_lost {
                continue;
            }
            let later = |(other, later): &(&Source, &Told)| {
                *other != process && later.heard > told.heard && !self.is_overdue(later, now)
            };
            for service in told.services(process) {
                let is_same = |(other, told): (&Source, &Told)| {
                    other.name() == process.name() || told.vibrators.contains(&service)
                };
                if self.known.iter().filter(later).any(is_same) {
                    continue;
                }
                let mut inputs: Vec<_> =
                    told.inputs(&service, activity, heard, now).take(MAX_INPUTS).cloned().collect();
                inputs.sort_unstable();
                inputs.dedup();
                if !inputs.is_empty() {
                    all.push(Lost { service, heard: told.heard, due: told.heard.plus(told.every), inputs });
                }
            }
        }
        all.sort_unstable_by(|a, b| a.heard.cmp(&b.heard).then_with(|| a.service.cmp(&b.service)));
        all
    }

    /// Whether a process with this service has told anything since.
    pub(super) fn has_told(&self, service: &str, since: Moment) -> bool {
        self.known.iter().any(|(process, told)| {
            told.heard > since
                && (process.name() == service || told.vibrators.iter().any(|name| name == service))
        })
    }

    /// When the judgement may change, or the accounts have to be read again.
    pub(super) fn deadline(&self, now: Moment) -> Option<Moment> {
        let read = self.read?.plus(READ_EVERY);
        let deadlines = self
            .known
            .values()
            .filter(|told| !told.is_last)
            .flat_map(|told| [Some(self.overdue_at(told)), self.lost_at(told)].into_iter().flatten());
        deadlines.chain([read]).filter(|at| *at > now).min()
    }
}

impl Told {
    /// The services in the process: its vibrators, or the program if it has none.
    fn services(&self, process: &Source) -> impl Iterator<Item = SmolStr> {
        let program = self.vibrators.is_empty().then(|| SmolStr::new(process.name()));
        self.vibrators.iter().cloned().chain(program)
    }

    /// The channels with waves that the service would have heard and did not: the ones that it announced, or if it announced
    /// none, the channels of the services that caused its waves.
    fn inputs<'a>(
        &'a self,
        service: &'a str,
        activity: &'a Activity,
        heard: &'a Resonance,
        now: Moment,
    ) -> impl Iterator<Item = &'a Channel> + 'a {
        let from = self.heard.plus(self.every + ON_THE_WAY);
        let flows = move |stream: &Stream| {
            stream.pulse.last > from && now.since(stream.pulse.last) <= RETURN.max(stream.pulse.longest() * 2)
        };
        let is_announced = heard.knows(service);
        activity
            .streams()
            .filter(move |(key, stream)| {
                let causes = || {
                    activity
                        .streams_of(service)
                        .any(|(_, own)| own.follows() && own.causes.contains(&key.service))
                };
                flows(stream)
                    && key.service != service
                    && if is_announced { heard.hears(service, &key.channel) } else { causes() }
            })
            .map(|(key, _)| &key.channel)
    }
}
