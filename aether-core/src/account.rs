//! Accounts: each process reports the outcomes of its waves, so that one reader can show the losses of every service
//! and their reasons. Ordinary term: a status report that every process publishes.
//!
//! Over a network the `Teller` of each [`Aether`](crate::Aether) sends a [`ProcessAccount`] on the reserved channel
//! `_aether.accounts` every few seconds. It is bounded in bytes, bypasses the outbox and waits for no other process. An
//! [`Accounts`] reads the accounts of all processes into a bounded table; [`Aether::accounts`](crate::Aether::accounts)
//! makes one. In process nothing is sent: the reader reads the account of its own process. The encoding is in `record`;
//! `docs/protocol/README.md` describes it.
//!
//! Nothing here decides anything: waves are neither sent nor stopped because of an account.

mod handlers;
mod process;
mod record;
mod table;
mod teller;

pub use handlers::{HandlersAccount, HandlersEntry};
pub use process::{
    AccountCounts, AccountError, KnownProcess, MAX_ACCOUNT_BYTES, ProcessAccount, ProgramAccount, Rates,
    Standing,
};
pub(crate) use teller::{DEFAULT_INTERVAL, Teller, TellerParts};

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::bus::{Bus, Lifeline, SubscriptionGuard};
use crate::channel::Pattern;
use crate::clock;
use crate::inbox::{Inbox, InboxOptions, WhenFull};
use crate::medium::JoinError;
use crate::router::Listener;
use record::ACCOUNTS;
use table::ProcessTable;

/// Reads a payload as an account, and what was written of it again.
#[cfg(fuzzing)]
pub(crate) fn fuzz_account(payload: &[u8]) {
    if let Ok(read) = record::read(payload) {
        assert!(read.adds_up() && !format!("{read:?}").is_empty());
        assert!(record::read(&record::write(&read)).is_ok(), "what was written is read");
    }
}

/// Bounds of the queue of unread accounts: messages, and bytes.
const MESSAGES: usize = 4096;
const MESSAGE_BYTES: usize = 8 << 20;
/// How often processes that have gone are forgotten while no account arrives.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The accounts of all processes on a medium; made by [`Aether::accounts`](crate::Aether::accounts).
///
/// Over a network it reads the accounts that the processes send, every five seconds by default. In process it reads the
/// account of its own process. At most 4096 processes are known, with 16 MiB of accounts; further accounts are counted
/// as [`NoRoom`](AccountError::NoRoom). The last account of a process that has gone is kept for ten minutes, unless the
/// room is needed. Clones share one table, which is freed with the last of them.
///
/// Without a list of signers accounts are not authenticated: a peer that may publish can make up processes, or speak in the
/// name of one. An account that does not add up is rejected, and processes whose accounts contradict each other are marked.
#[derive(Clone)]
pub struct Accounts {
    reading: Arc<Reading>,
    changes: watch::Receiver<u64>,
}

struct Reading {
    teller: Arc<Teller>,
    table: Arc<Mutex<ProcessTable>>,
    overflowed: Arc<AtomicU64>,
    changes: Arc<watch::Sender<u64>>,
    task: Option<AbortHandle>,
    _subscription: Option<SubscriptionGuard>,
    /// Keeps the `Aether` alive.
    _aether: Lifeline,
}

impl Accounts {
    pub(crate) async fn open(bus: &Bus, teller: &Arc<Teller>, aether: Lifeline) -> Result<Self, JoinError> {
        let (table, overflowed) =
            (Arc::new(Mutex::new(ProcessTable::default())), Arc::new(AtomicU64::new(0)));
        let changes = Arc::new(watch::Sender::new(0));
        let (mut task, mut subscription) = (None, None);
        if bus.medium().promises().crosses_processes {
            // These options are within bounds.
            let Ok(inbox) = Inbox::new(options(&overflowed)) else { return Err(JoinError::Closed) };
            let inbox = Arc::new(inbox);
            let listener = Listener { hears_own: false, ..Listener::new(Arc::clone(teller.sequencer())) };
            subscription = Some(bus.join(Pattern::new(ACCOUNTS)?, Arc::clone(&inbox), listener).await?);
            let reading = read(inbox, Arc::clone(&table), Arc::clone(&changes));
            task = Some(tokio::spawn(reading).abort_handle());
        }
        let receiver = changes.subscribe();
        let reading = Reading {
            teller: Arc::clone(teller),
            table,
            overflowed,
            changes,
            task,
            _subscription: subscription,
            _aether: aether,
        };
        Ok(Self { reading: Arc::new(reading), changes: receiver })
    }

    /// Returns when an account of another process has arrived since the last call. That a process has become silent is
    /// not reported, since it is only a matter of time.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no change is missed.
    pub async fn changed(&mut self) {
        // The sender lives as long as this.
        let _ = self.changes.changed().await;
    }

    /// The known processes by program and instance, including the process of the reader.
    #[must_use]
    pub fn processes(&self) -> Vec<KnownProcess> {
        let own = self.reading.teller.process();
        self.with_own(|table| table.processes(own, clock::now()))
    }

    /// The sums over all processes of each program, by its name: at most 256 programs, and one more for the rest. They
    /// contain what each process has counted since it connected. A process that returns after more than ten minutes of
    /// silence is added once more.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramAccount> {
        self.with_own(|table| table.programs(clock::now()))
    }

    /// The number of accounts that arrived, by what became of them.
    #[must_use]
    pub fn counts(&self) -> AccountCounts {
        let mut table = self.reading.table.lock();
        table.note_overflowed(self.reading.overflowed.swap(0, Ordering::Relaxed));
        table.counts()
    }

    /// Approximate memory used by the known accounts, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.reading.table.lock().bytes()
    }

    /// Reads the table after the account of this process was put into it.
    fn with_own<T>(&self, read: impl FnOnce(&ProcessTable) -> T) -> T {
        // Under the lock, so that no older account follows a newer one.
        let mut table = self.reading.table.lock();
        let now = clock::now();
        table.forget(now);
        table.take_own(self.reading.teller.account(), now);
        read(&table)
    }
}

fn options(overflowed: &Arc<AtomicU64>) -> InboxOptions {
    let overflowed = Arc::clone(overflowed);
    InboxOptions::default().max_waves(MESSAGES).max_bytes(MESSAGE_BYTES).when_full(WhenFull::Shed).on_shed(
        move |_, _| {
            overflowed.fetch_add(1, Ordering::Relaxed);
        },
    )
}

/// Reads until the inbox is closed or the last handle is dropped.
async fn read(inbox: Arc<Inbox>, table: Arc<Mutex<ProcessTable>>, changes: Arc<watch::Sender<u64>>) {
    let mut turns = interval(FORGET_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            _ = turns.tick() => {
                table.lock().forget(clock::now());
                continue;
            }
            message = std::future::poll_fn(|cx| inbox.poll_receive(cx)) => message,
        };
        let Some(message) = message else { return };
        // Outside of the lock.
        let account = record::read(message.payload()).and_then(|account| {
            let is_own = message.speaks_for(account.process.name());
            // Nothing is noted against the process, which has not said it.
            if is_own { Ok(account) } else { Err((AccountError::Misnamed, None)) }
        });
        match account {
            Ok(account) => table.lock().take(message.principal(), account, clock::now()),
            Err((reason, process)) => {
                tracing::debug!(source = %message.source(), %reason, "an account was rejected");
                table.lock().reject(reason, process.as_ref());
            }
        }
        changes.send_modify(|changes| *changes += 1);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts")
            .field("process", self.reading.teller.process())
            .field("changes", &*self.reading.changes.borrow())
            .finish_non_exhaustive()
    }
}
