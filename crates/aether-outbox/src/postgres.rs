//! A store in a service's own Postgres: what is done once, and the outbox, in the transactions of the service.
//!
//! The rows are in tables of their own, so the statements are written for Postgres and several processes may share a
//! store. Its relay is in `relay/postgres.rs`. Projections, sagas and [`Table`](crate::Table) need a
//! [`Store`](crate::Store).

use aether_core::wave::Origin;
use aether_core::{Source, Wave, WaveId};
use sqlx::Row as _;
use sqlx::postgres::{PgPool, PgTransaction};

use crate::error::{OpenError, StoreError, VERSION};
use crate::ledger::OutboxLedger;
use crate::once::OnceKey;
use crate::shared::Limits;
use crate::store::{RefusedWave, StoreBuilder};
use crate::stored_wave;

/// The tables.
const SCHEMA: &str = include_str!("postgres/schema.sql");
/// The channel of Postgres on which commits wake the relays.
pub(crate) const CHANNEL: &str = "aether_outbox";

/// A service's outbox and its memory of what was done [once](PostgresStore::once), in its own Postgres. Several
/// processes may open the store of a name, each with a relay. Cloning it bumps reference counts.
///
/// ```no_run
/// # async fn serve(pool: sqlx::PgPool, aether: aether_core::Aether, wave: aether_core::Wave)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::Wave;
/// use aether_outbox::{Relay, Store};
///
/// let store = Store::builder("shop").open_postgres(&pool).await?;
/// let relay = Relay::spawn_postgres(&store, &aether)?;
///
/// let mut transaction = pool.begin().await?;
/// if store.once(&mut transaction, &wave.id()).await? {
///     sqlx::query("INSERT INTO orders (id, goods) VALUES (17, 'a lamp')").execute(&mut *transaction).await?;
///     store.emit(&mut transaction, Wave::builder("orders.created").key("17"), Some(&wave)).await?;
/// }
/// transaction.commit().await?; // the order, the wave, and that it was done: all of them, or nothing
/// # drop(relay); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
    name: String,
    limits: Limits,
}

impl StoreBuilder {
    /// Opens a store in a Postgres database, or makes one in the first schema of the connection's `search_path`. The
    /// tables `aether_store`, `aether_outbox` and `aether_once` are created where they are missing.
    ///
    /// [`remember`](StoreBuilder::remember) bounds the time only. A database that was restored from a backup, or has
    /// lost commits when a replica took over, needs [`restored_from_backup`](StoreBuilder::restored_from_backup) in one
    /// process.
    ///
    /// # Errors
    /// [`OpenError`]: a newer program wrote it, the name cannot name a source, or the database cannot be read or
    /// written.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the store is there or not, and can be opened.
    pub async fn open_postgres(self, pool: &PgPool) -> Result<PostgresStore, OpenError> {
        let instance = Source::new(&self.name)?.instance();
        let mut transaction = pool.begin().await.map_err(StoreError::from)?;
        let version = prepare(&mut transaction, &self.name, instance, self.is_restored).await?;
        if version != i64::from(VERSION) {
            let version = u8::try_from(version).unwrap_or(u8::MAX);
            return Err(OpenError::Version { path: "the table aether_store".into(), version });
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(PostgresStore { pool: pool.clone(), name: self.name, limits: self.limits })
    }
}

/// Creates what is missing, and returns the version of the store.
async fn prepare(
    transaction: &mut PgTransaction<'_>,
    store: &str,
    instance: u64,
    is_restored: bool,
) -> Result<i64, StoreError> {
    // Two processes may start at once.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('aether_store', 0))")
        .execute(&mut **transaction)
        .await?;
    let is_new: bool =
        sqlx::query_scalar("SELECT to_regclass('aether_once') IS NULL").fetch_one(&mut **transaction).await?;
    if is_new {
        sqlx::raw_sql(SCHEMA).execute(&mut **transaction).await?;
    }
    let sql = "INSERT INTO aether_store (store, name, number) VALUES ($1, 'version', $2), ($1, 'instance', $3), \
               ($1, 'committed', 0), ($1, 'relayed', 0), ($1, 'refused', 0), ($1, 'dropped', 0) ON CONFLICT DO NOTHING";
    let version = i64::from(VERSION);
    let instance = instance.cast_signed();
    sqlx::query(sql).bind(store).bind(version).bind(instance).execute(&mut **transaction).await?;
    if is_restored {
        let sql = "UPDATE aether_store SET number = $2 WHERE store = $1 AND name = 'instance'";
        sqlx::query(sql).bind(store).bind(instance).execute(&mut **transaction).await?;
    }
    let sql = "SELECT number FROM aether_store WHERE store = $1 AND name = 'version'";
    Ok(sqlx::query_scalar(sql).bind(store).fetch_one(&mut **transaction).await?)
}

impl PostgresStore {
    /// Whether a job is done for the first time: true in one committed transaction for each identity of a wave and for
    /// each key, within the time that the store [remembers](StoreBuilder::remember). [`OnceKey`] has when to give
    /// which. While another transaction has the same job, the call waits for its end: after a rollback the job is this
    /// one's.
    ///
    /// # Errors
    /// [`StoreError`] if the wave has no identity, the key is empty or longer than 512 bytes, or the statement fails;
    /// then the transaction can only be rolled back.
    ///
    /// # Cancel safety
    /// Cancelled before completion, roll the transaction back.
    pub async fn once<'k>(
        &self,
        transaction: &mut PgTransaction<'_>,
        job: impl Into<OnceKey<'k>>,
    ) -> Result<bool, StoreError> {
        let job = job.into();
        let (area, id) = (job.area(), job.bytes()?);
        // Forgets at most two jobs at a time, so that no call takes long.
        let sql = "WITH old AS (SELECT ctid FROM aether_once WHERE store = $1 AND done_at < now() - $4 * interval '1 s' \
                       ORDER BY done_at LIMIT 2 FOR UPDATE SKIP LOCKED), \
                   forgotten AS (DELETE FROM aether_once WHERE ctid IN (SELECT ctid FROM old)) \
                   INSERT INTO aether_once (store, area, job) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let noted =
            sqlx::query(sql).bind(&self.name).bind(area).bind(id).bind(self.limits.once.age.as_secs_f64());
        Ok(noted.execute(&mut **transaction).await?.rows_affected() > 0)
    }

    /// Commits a wave with the transaction, and returns its identity. A relay emits it after the commit, in the order
    /// of the commits. With a cause, the wave follows from it, as by the emitter of a handler.
    ///
    /// From here to its commit, other transactions that emit by this store wait, which makes the order. So emit last.
    ///
    /// # Errors
    /// [`StoreError`] if the wave cannot be built or stored, its channel is reserved, or too many waves wait for the
    /// relay. If the statement fails, the transaction can only be rolled back.
    ///
    /// # Cancel safety
    /// Cancelled before completion, roll the transaction back.
    pub async fn emit<W>(
        &self,
        transaction: &mut PgTransaction<'_>,
        wave: W,
        cause: Option<&Wave>,
    ) -> Result<WaveId, StoreError>
    where
        W: TryInto<Wave>,
        StoreError: From<W::Error>,
    {
        let wave = stored_wave::own(wave)?;
        let sql = "UPDATE aether_store SET number = number + 1 WHERE store = $1 AND name = 'committed' RETURNING number, \
                   (SELECT number FROM aether_store WHERE store = $1 AND name = 'instance'), \
                   (SELECT sum(number)::bigint FROM aether_store \
                       WHERE store = $1 AND name IN ('relayed', 'refused', 'dropped'))";
        let numbers = sqlx::query_as(sql).bind(&self.name).fetch_one(&mut **transaction).await?;
        match self.row(numbers, wave, cause) {
            Ok((id, row)) => {
                let sql = "WITH kept AS (INSERT INTO aether_outbox (store, number, wave) VALUES ($1, $2, $3)) \
                           SELECT pg_notify($4, $1)";
                let kept = sqlx::query(sql).bind(&self.name).bind(numbers.0).bind(row).bind(CHANNEL);
                kept.execute(&mut **transaction).await?;
                Ok(id)
            }
            Err(error) => {
                // The transaction may commit all the same.
                let sql =
                    "UPDATE aether_store SET number = number - 1 WHERE store = $1 AND name = 'committed'";
                sqlx::query(sql).bind(&self.name).execute(&mut **transaction).await?;
                Err(error)
            }
        }
    }

    /// The row of a wave by its number, the instance of the source, and how many waves do not wait any more.
    fn row(
        &self,
        (number, instance, settled): (i64, i64, i64),
        wave: Wave,
        cause: Option<&Wave>,
    ) -> Result<(WaveId, Vec<u8>), StoreError> {
        let waiting = (number - 1).saturating_sub(settled).unsigned_abs();
        let most = self.limits.max_waiting;
        if waiting >= most {
            return Err(StoreError::Full { waiting, most });
        }
        let source =
            Source::with_instance(&self.name, instance.cast_unsigned()).map_err(StoreError::other)?;
        let id = WaveId { source, sequence: number.unsigned_abs() };
        let wave = wave.identified(id.clone(), cause.map(Origin::from).as_ref());
        Ok((id, stored_wave::write(&wave)?))
    }

    /// The account of the outbox now, of all processes.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    ///
    /// # Cancel safety
    /// Cancelled at any time, nothing has changed.
    pub async fn ledger(&self) -> Result<OutboxLedger, StoreError> {
        read_ledger(&self.name, &self.pool).await
    }

    /// The waves that the bus will never take, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    ///
    /// # Cancel safety
    /// Cancelled at any time, nothing has changed.
    pub async fn refused(&self) -> Result<Vec<RefusedWave>, StoreError> {
        let sql = "SELECT number, wave, refused FROM aether_outbox WHERE store = $1 AND refused IS NOT NULL ORDER BY number";
        let rows: Vec<(i64, Vec<u8>, String)> =
            sqlx::query_as(sql).bind(&self.name).fetch_all(&self.pool).await?;
        let read = rows.into_iter().map(|(number, wave, reason)| RefusedWave {
            number: number.unsigned_abs(),
            wave: stored_wave::read(wave),
            reason,
        });
        Ok(read.collect())
    }

    /// Gives a refused wave to the relays again, under its identity, in front of what waits. Returns whether there is
    /// such a wave.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be written.
    ///
    /// # Cancel safety
    /// Cancelled before completion, it was done or not.
    pub async fn retry_refused(&self, number: u64) -> Result<bool, StoreError> {
        let sql = "WITH moved AS (UPDATE aether_outbox SET refused = NULL \
                       WHERE store = $1 AND number = $2 AND refused IS NOT NULL RETURNING pg_notify($3, $1)) \
                   UPDATE aether_store SET number = number - 1 \
                       WHERE store = $1 AND name = 'refused' AND EXISTS (SELECT FROM moved)";
        let moved = sqlx::query(sql).bind(&self.name).bind(number.cast_signed()).bind(CHANNEL);
        Ok(moved.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// Drops a refused wave for good. Returns whether there is such a wave.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be written.
    ///
    /// # Cancel safety
    /// Cancelled before completion, it was done or not.
    pub async fn drop_refused(&self, number: u64) -> Result<bool, StoreError> {
        let sql = "WITH dropped AS (DELETE FROM aether_outbox \
                       WHERE store = $1 AND number = $2 AND refused IS NOT NULL RETURNING 1) \
                   UPDATE aether_store SET number = number + CASE name WHEN 'dropped' THEN 1 ELSE -1 END \
                       WHERE store = $1 AND name IN ('dropped', 'refused') AND EXISTS (SELECT FROM dropped)";
        let dropped = sqlx::query(sql).bind(&self.name).bind(number.cast_signed());
        Ok(dropped.execute(&self.pool).await?.rows_affected() > 0)
    }

    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// The account of a store.
pub(crate) async fn read_ledger(
    store: &str,
    database: impl sqlx::PgExecutor<'_>,
) -> Result<OutboxLedger, StoreError> {
    let sql = "SELECT name, number FROM aether_store WHERE store = $1";
    let numbers = sqlx::query(sql).bind(store).fetch_all(database).await?;
    let mut ledger = OutboxLedger::default();
    for row in numbers {
        let number = row.try_get::<i64, _>("number")?.unsigned_abs();
        match row.try_get("name")? {
            "committed" => ledger.committed = number,
            "relayed" => ledger.relayed = number,
            "refused" => ledger.refused = number,
            "dropped" => ledger.dropped = number,
            _ => {}
        }
    }
    let settled = ledger.relayed + ledger.refused + ledger.dropped;
    ledger.waiting = ledger.committed.saturating_sub(settled);
    Ok(ledger)
}
