//! The relay of a store in Postgres. Several processes may each have one: they take turns.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Aether;
use sqlx::Acquire as _;
use sqlx::postgres::{PgListener, PgTransaction};
use tokio::sync::watch;

use super::emitting::{Emitting, Ending, Halt, LONGEST_PAUSE};
use super::settling::{BATCH, Fate};
use super::{Relay, RelayError};
use crate::error::{StoreError, chain};
use crate::ledger::OutboxLedger;
use crate::postgres::{CHANNEL, PostgresStore, read_ledger};
use crate::stored_wave;

/// How long an end may take for what is confirmed to be noted.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

impl Relay {
    /// Starts a relay of a store in Postgres. It holds one connection of the pool. Each process of the service may have
    /// one, and a commit by any of them wakes all.
    ///
    /// The relays take turns: one emits up to 64 waves, in a transaction with an advisory lock, so that they have the
    /// order of the commits. Where the connection breaks in between, another relay emits the same waves again, with the
    /// same identity. After a process has ended amid its turn, another one takes over within 5 s, or at the next
    /// commit. [`Relay::account`] has the numbers of the last turn of this relay.
    ///
    /// # Errors
    /// [`RelayError::Name`] if the name of the store cannot name a vibrator.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn_postgres(store: &PostgresStore, aether: &Aether) -> Result<Self, RelayError> {
        let emitter = aether.emitter(store.name())?;
        let (ending, ends) = watch::channel(Ending::Open);
        let last_error = Arc::default();
        let (shown, ledger) = watch::channel(OutboxLedger::default());
        let emitting = Emitting::new(emitter, ends.clone(), Arc::clone(&last_error));
        let running = Turns { store: store.clone(), emitting, shown };
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = running.run() => {}
                () = overdue(ends) => {}
            }
        });
        Ok(Self { task, ending, ledger, last_error })
    }
}

struct Turns {
    store: PostgresStore,
    emitting: Emitting,
    shown: watch::Sender<OutboxLedger>,
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Failed(chain(&error))
    }
}

impl From<sqlx::Error> for Halt {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(chain(&error))
    }
}

/// How a turn has ended.
enum Turn {
    Emitted,
    /// Nothing waits.
    Empty,
    /// Another relay has it.
    Taken,
}

/// Waits until the end takes too long.
async fn overdue(mut ends: watch::Receiver<Ending>) {
    let _ = ends.wait_for(|ending| *ending == Ending::Now).await;
    tokio::time::sleep(ENDS_WITHIN).await;
}

impl Turns {
    async fn run(mut self) {
        while let Err(Halt::Failed(error)) = self.relay().await {
            let waiting = self.shown.borrow().waiting;
            if self.emitting.fail(error, waiting).await.is_err() {
                break;
            }
        }
    }

    /// Takes turns over one connection.
    async fn relay(&mut self) -> Result<Infallible, Halt> {
        let mut listener = PgListener::connect_with(self.store.pool()).await?;
        listener.listen(CHANNEL).await?;
        loop {
            let turn = self.turn(&mut listener).await?;
            let ending = self.emitting.ending();
            match (turn, ending) {
                (Turn::Emitted, _) => continue,
                (Turn::Empty, Ending::Drained | Ending::Now) | (Turn::Taken, Ending::Now) => {
                    return Err(Halt::Stopped);
                }
                (Turn::Empty | Turn::Taken, _) => {}
            }
            let next = if ending == Ending::Open { Ending::Drained } else { Ending::Now };
            tokio::select! {
                biased;
                () = self.emitting.ends(next) => {}
                // The time is for a relay that ended amid its turn: nobody reports that.
                heard = tokio::time::timeout(LONGEST_PAUSE, listener.try_recv()) => {
                    heard.ok().transpose()?;
                }
            }
        }
    }

    async fn turn(&mut self, listener: &mut PgListener) -> Result<Turn, Halt> {
        // Each commit before this turn is seen by it.
        while listener.next_buffered().is_some() {}
        let store = self.store.name();
        let mut transaction = listener.begin().await?;
        let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended('aether_outbox ' || $1, 0))";
        if !sqlx::query_scalar(sql).bind(store).fetch_one(&mut *transaction).await? {
            // Postgres reports no commits inside of a transaction.
            transaction.rollback().await?;
            return Ok(Turn::Taken);
        }
        let sql = "SELECT number, wave FROM aether_outbox WHERE store = $1 AND refused IS NULL ORDER BY number LIMIT $2";
        let batch = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let waves = sqlx::query_as(sql).bind(store).bind(batch).fetch_all(&mut *transaction).await?;
        let mut turn = Ok(if waves.is_empty() { Turn::Empty } else { Turn::Emitted });
        let mut fates = Vec::new();
        for (number, row) in waves {
            let number: i64 = number;
            match self.emitting.emit(number.unsigned_abs(), stored_wave::read(row)).await {
                Ok(fate) => fates.push((number, fate)),
                // After a failure the same wave is the next one, so that the order stays.
                Err(halt) => {
                    turn = Err(halt);
                    break;
                }
            }
        }
        settle(&mut transaction, store, fates).await?;
        let ledger = read_ledger(store, &mut *transaction).await?;
        transaction.commit().await?;
        self.shown.send_replace(ledger);
        turn
    }
}

/// Removes relayed waves, keeps refused ones, and wakes the other relays, whose turn it is where this one has failed.
async fn settle(
    transaction: &mut PgTransaction<'_>,
    store: &str,
    fates: Vec<(i64, Fate)>,
) -> Result<(), sqlx::Error> {
    let mut relayed = Vec::new();
    for (number, fate) in fates {
        match fate {
            Fate::Relayed => relayed.push(number),
            Fate::Refused(reason) => {
                let sql = "WITH moved AS (UPDATE aether_outbox SET refused = $3 WHERE store = $1 AND number = $2) \
                           UPDATE aether_store SET number = number + 1 WHERE store = $1 AND name = 'refused'";
                let moved = sqlx::query(sql).bind(store).bind(number).bind(reason);
                moved.execute(&mut **transaction).await?;
            }
        }
    }
    if relayed.is_empty() {
        return Ok(());
    }
    let sql = "WITH relayed AS (DELETE FROM aether_outbox WHERE store = $1 AND number = ANY ($2) RETURNING number), \
               counted AS (UPDATE aether_store SET number = number + (SELECT count(*) FROM relayed) \
                   WHERE store = $1 AND name = 'relayed') \
               SELECT pg_notify($3, $1)";
    let removed = sqlx::query(sql).bind(store).bind(relayed).bind(CHANNEL);
    removed.execute(&mut **transaction).await.map(drop)
}
