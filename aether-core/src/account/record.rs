//! The encoding of an account; see `docs/protocol/README.md`.
//!
//! A number that is 0 is left out. Unknown names are ignored, so a later version can add some.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::handlers::{HandlersAccount, OTHER};
use super::process::{AccountError, MAX_ACCOUNT_BYTES, ProcessAccount};
use crate::amplitude::Floor;
use crate::echo::{DeadLetterCounts, EchoLedger};
use crate::inbox::Ledger;
use crate::medium::MediumStatus;
use crate::router::InboxReport;
use crate::source::{Source, is_name};

/// The channel on which processes tell their accounts.
pub(super) const ACCOUNTS: &str = "_aether.accounts";
/// The maximum length of a version.
const MAX_VERSION_BYTES: usize = 64;
/// Bounds of the lists in an account that this process tells. The rest of an account takes less than 3 KiB.
const INBOX_BYTES: usize = 20 << 10;
const HANDLER_BYTES: usize = 8 << 10;

/// A number below 2^53, which every language reads exactly. At ten million waves a second it takes 28 years.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
struct Count(u64);

#[derive(Debug, thiserror::Error)]
#[error("numbers must be below 2^53")]
struct CountError;

impl Count {
    const MOST: u64 = (1 << 53) - 1;

    const fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl TryFrom<u64> for Count {
    type Error = CountError;
    fn try_from(count: u64) -> Result<Self, CountError> {
        if count > Self::MOST { Err(CountError) } else { Ok(Self(count)) }
    }
}

impl From<Count> for u64 {
    fn from(count: Count) -> Self {
        count.0
    }
}

/// A record of counts, from and to the type that has them.
macro_rules! counts {
    ($record:ident of $of:ty { $($field:ident),* $(,)? }) => {
        #[derive(Default, Serialize, Deserialize)]
        #[serde(default)]
        struct $record {
            $(#[serde(skip_serializing_if = "Count::is_zero")] $field: Count,)*
        }

        impl $record {
            fn of(from: &$of) -> Self {
                Self { $($field: Count(from.$field.min(Count::MOST)),)* }
            }

            fn read(&self) -> $of {
                let mut of = <$of>::default();
                $(of.$field = self.$field.0;)*
                of
            }
        }
    };
}

counts!(LedgerRecord of Ledger {
    offered, delivered, shed_full, shed_below_floor, shed_sojourn, expired, shed_closed, shed_unsendable, lost_upstream,
    queued,
});
counts!(MediumRecord of MediumStatus {
    connects, unconfirmed, in_flight, dropped_by_client, untaken, malformed, implausible, shed_at_source, lost_upstream,
    forgotten_streams, stray_answers, held, pauses, refused_plain, refused_unknown_key, refused_tampered,
    refused_replayed, refused_stale, refused_sealed, refused_unsigned, refused_unknown_signer, refused_forged,
    refused_misnamed, refused_by_rules, refused_by_schema, refused_by_server,
});
counts!(EchoRecord of EchoLedger { reflected, echoed, buried, left_to_asker, unconfirmed, pending, refused });
counts!(LettersRecord of DeadLetterCounts { buried, kept, taken, overflowed });
counts!(HandlerCounts of HandlersAccount {
    received, succeeded, retried, failed, shed, left, in_flight, breakers, breakers_open, breaker_openings,
});

#[derive(Serialize, Deserialize)]
struct AccountRecord<'a> {
    #[serde(borrow)]
    process: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    uptime_ms: Count,
    every_ms: Count,
    #[serde(default, skip_serializing_if = "is_false")]
    last: bool,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    inboxes: Vec<InboxRecord<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutRecord>,
    #[serde(default)]
    medium: MediumRecord,
    #[serde(default)]
    outbox: LedgerRecord,
    #[serde(default)]
    echoes: EchoRecord,
    #[serde(default)]
    letters: LettersRecord,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    handlers: Vec<HandlersRecord<'a>>,
}

#[derive(Serialize, Deserialize)]
struct InboxRecord<'a> {
    #[serde(borrow)]
    vibrator: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Count::is_zero")]
    open: Count,
    #[serde(default, skip_serializing_if = "is_open")]
    floor: f32,
    ledger: LedgerRecord,
}

#[derive(Serialize, Deserialize)]
struct LeftOutRecord {
    names: Count,
    #[serde(default, skip_serializing_if = "Count::is_zero")]
    open: Count,
    #[serde(default, skip_serializing_if = "is_open")]
    floor: f32,
    ledger: LedgerRecord,
}

#[derive(Serialize, Deserialize)]
struct HandlersRecord<'a> {
    #[serde(borrow)]
    service: Cow<'a, str>,
    counts: HandlerCounts,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
fn is_open(floor: &f32) -> bool {
    *floor == 0.0
}

fn millis(time: Duration) -> Count {
    Count(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(Count::MOST))
}

fn inbox_record(inbox: &InboxReport) -> InboxRecord<'_> {
    InboxRecord {
        vibrator: inbox.vibrator.as_str().into(),
        open: Count(inbox.open as u64),
        floor: inbox.effective_floor.as_f32(),
        ledger: LedgerRecord::of(&inbox.ledger),
    }
}

fn handlers_record(handlers: &HandlersAccount) -> HandlersRecord<'_> {
    HandlersRecord { service: handlers.name.as_str().into(), counts: HandlerCounts::of(handlers) }
}

/// The place of the first record for which there is no room.
fn fitting<'a, T, R: Serialize>(list: &'a [T], max_bytes: usize, record: impl Fn(&'a T) -> R) -> usize {
    let mut bytes = 0;
    list.iter()
        .position(|item| {
            // Text and finite numbers can always be encoded. The comma counts.
            bytes += serde_json::to_vec(&record(item)).map_or(0, |text| text.len()) + 1;
            bytes > max_bytes
        })
        .unwrap_or(list.len())
}

/// Bounds the lists of an account, as every process tells them.
pub(super) fn bound(account: &mut ProcessAccount) {
    bound_inboxes(account, INBOX_BYTES);
    bound_handlers(&mut account.handlers, HANDLER_BYTES);
}

/// Keeps the inboxes that fit, those that lost most first, and adds up the others.
fn bound_inboxes(account: &mut ProcessAccount, max_bytes: usize) {
    let ProcessAccount { inboxes, left_out_names, left_out: sum, .. } = account;
    inboxes.sort_by(|a, b| {
        let key = |inbox: &InboxReport| (inbox.ledger.lost(), inbox.ledger.offered);
        key(b).cmp(&key(a)).then_with(|| a.vibrator.cmp(&b.vibrator))
    });
    let left_out = inboxes.split_off(fitting(inboxes, max_bytes, inbox_record));
    *left_out_names += left_out.len() as u64;
    for inbox in &left_out {
        sum.open += inbox.open;
        sum.ledger += inbox.ledger;
        sum.effective_floor = sum.effective_floor.max(inbox.effective_floor);
    }
}

/// Keeps the handlers that fit and adds up the others in one more line.
fn bound_handlers(handlers: &mut Vec<HandlersAccount>, max_bytes: usize) {
    let left_out = handlers.split_off(fitting(handlers, max_bytes, handlers_record));
    if left_out.is_empty() {
        return;
    }
    let of_others = handlers.iter().position(|it| it.name == OTHER);
    let mut sum = of_others.map_or_else(HandlersAccount::default, |place| handlers.remove(place));
    left_out.iter().for_each(|it| sum.add(it));
    OTHER.clone_into(&mut sum.name);
    handlers.push(sum);
}

fn record(account: &ProcessAccount) -> AccountRecord<'_> {
    // An account that was read may have sums and no names.
    let has_left_out = account.left_out_names > 0 || account.left_out != InboxReport::none(OTHER);
    let left_out = has_left_out.then(|| LeftOutRecord {
        names: Count(account.left_out_names),
        open: Count(account.left_out.open as u64),
        floor: account.left_out.effective_floor.as_f32(),
        ledger: LedgerRecord::of(&account.left_out.ledger),
    });
    AccountRecord {
        process: account.process.to_string().into(),
        version: account.version.as_str().into(),
        uptime_ms: millis(account.uptime),
        every_ms: millis(account.every),
        last: account.is_last,
        inboxes: account.inboxes.iter().map(inbox_record).collect(),
        left_out,
        medium: MediumRecord::of(&account.medium),
        outbox: LedgerRecord::of(&account.medium.outbox),
        echoes: EchoRecord::of(&account.echoes),
        letters: LettersRecord::of(&account.letters),
        handlers: account.handlers.iter().map(handlers_record).collect(),
    }
}

/// As on the wire.
impl Serialize for ProcessAccount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        record(self).serialize(serializer)
    }
}

/// Encodes an account as a payload.
pub(super) fn write(account: &ProcessAccount) -> Vec<u8> {
    // Text and finite numbers can always be encoded.
    serde_json::to_vec(account).unwrap_or_default()
}

/// Like [`write`], for a medium that takes at most `max_bytes`. The room for the lists of a larger account is halved
/// until the account fits. An account that is too large without any list is returned all the same.
pub(super) fn write_within(mut account: ProcessAccount, max_bytes: usize) -> Vec<u8> {
    let mut room = INBOX_BYTES.max(HANDLER_BYTES);
    loop {
        let payload = write(&account);
        if payload.len() <= max_bytes || room == 0 {
            return payload;
        }
        room /= 2;
        bound_inboxes(&mut account, room);
        bound_handlers(&mut account.handlers, room);
    }
}

/// Why a payload is not an account, and the process that it claims to be from, if that can be read.
pub(super) type Refused = (AccountError, Option<Source>);

/// Decodes and checks an account.
pub(super) fn read(payload: &[u8]) -> Result<ProcessAccount, Refused> {
    if payload.len() > MAX_ACCOUNT_BYTES {
        return Err((AccountError::TooLarge, None));
    }
    let written: AccountRecord<'_> =
        serde_json::from_slice(payload).map_err(|_| (AccountError::Unreadable, None))?;
    let process = Source::parse(&written.process).ok_or((AccountError::Unreadable, None))?;
    let refused = |reason| (reason, Some(process.clone()));
    let account = understand(&written, &process).ok_or_else(|| refused(AccountError::Unreadable))?;
    if account.adds_up() { Ok(account) } else { Err(refused(AccountError::DoesNotAddUp)) }
}

fn understand(written: &AccountRecord<'_>, process: &Source) -> Option<ProcessAccount> {
    if written.version.len() > MAX_VERSION_BYTES || !is_name(&written.version) {
        return None;
    }
    let mut names = HashSet::with_capacity(written.inboxes.len());
    let inboxes: Option<Vec<_>> = written
        .inboxes
        .iter()
        .map(|inbox| {
            (is_name(&inbox.vibrator) && names.insert(&*inbox.vibrator)).then_some(())?;
            report(&inbox.vibrator, inbox.open, inbox.floor, &inbox.ledger)
        })
        .collect();
    names.clear();
    let handlers: Option<Vec<_>> = written
        .handlers
        .iter()
        .map(|handlers| {
            (is_name(&handlers.service) && names.insert(&*handlers.service)).then_some(())?;
            let name = handlers.service.clone().into_owned();
            Some(HandlersAccount { name, ..handlers.counts.read() })
        })
        .collect();
    let (left_out_names, left_out) = match &written.left_out {
        Some(it) => (it.names.0, report(OTHER, it.open, it.floor, &it.ledger)?),
        None => (0, InboxReport::none(OTHER)),
    };
    let (connected, outbox) = (true, written.outbox.read());
    let medium = MediumStatus { connected, outbox, ..written.medium.read() };
    Some(ProcessAccount {
        process: process.clone(),
        version: written.version.clone().into_owned(),
        uptime: Duration::from_millis(written.uptime_ms.0),
        every: Duration::from_millis(written.every_ms.0),
        is_last: written.last,
        inboxes: inboxes?,
        left_out_names,
        left_out,
        medium,
        echoes: written.echoes.read(),
        letters: written.letters.read(),
        handlers: handlers?,
    })
}

fn report(vibrator: &str, open: Count, floor: f32, ledger: &LedgerRecord) -> Option<InboxReport> {
    let (open, effective_floor) = (usize::try_from(open.0).ok()?, Floor::new(floor).ok()?);
    Some(InboxReport { vibrator: vibrator.to_owned(), open, ledger: ledger.read(), effective_floor })
}

#[cfg(any(test, feature = "test-util"))]
impl super::process::KnownProcess {
    /// A process that told its account so long ago, for tests of what reads accounts.
    pub fn sample(
        process: crate::source::Source,
        vibrators: &[&str],
        age: std::time::Duration,
        is_last: bool,
    ) -> Self {
        let json = format!(r#"{{"process":"{process}","version":"1","uptime_ms":1000,"every_ms":5000}}"#);
        let mut account = read(json.as_bytes()).expect("an account");
        account.is_last = is_last;
        account.inboxes = vibrators.iter().map(|name| crate::router::InboxReport::none(name)).collect();
        let standing =
            if is_last { super::process::Standing::Ended } else { super::process::Standing::Present };
        let account = std::sync::Arc::new(account);
        Self { account, is_own: false, standing, age, rates: None, suspicious: 0, suspicion: None }
    }
}

#[cfg(test)]
mod tests;
