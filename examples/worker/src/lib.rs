//! A job queue behind an HTTP address. Customers get an answer as soon as an order and its jobs are kept. A worker makes the
//! invoices, for each customer one after the other, reminds of those that are not paid, and adds up each day at night.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use aether::log::{ConsumerOptions, DurableLog, Schedule};
use aether::{Aether, Wave};
use aether_outbox::{OpenError, Sqlite, Store, StoreError};
use aether_service::{Durable, Json, Service, ServiceBuilder, State};
use axum::Router;
use axum::extract::{Path as Of, State as Shared};
use axum::http::StatusCode;
use axum::routing::{get, post};
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};

/// When an order is to be paid.
const TO_PAY: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, customer TEXT NOT NULL, cents INTEGER NOT NULL,
        invoice INTEGER UNIQUE, paid INTEGER NOT NULL DEFAULT 0, reminders INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE IF NOT EXISTS reports (invoices INTEGER NOT NULL, cents INTEGER NOT NULL)";
const ORDER: &str = "INSERT INTO orders (id, customer, cents) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const SHOW: &str = "SELECT coalesce(CAST(invoice AS TEXT), 'none') FROM orders WHERE id = ?1";
const INVOICE: &str = "UPDATE orders SET invoice = (SELECT coalesce(max(invoice), 0) + 1 FROM orders) WHERE id = ?1 AND invoice IS NULL";
const REMIND: &str = "UPDATE orders SET reminders = reminders + 1 WHERE id = ?1 AND paid = 0";
const REPORT: &str =
    "INSERT INTO reports SELECT count(*), coalesce(sum(cents), 0) FROM orders WHERE invoice IS NOT NULL";

/// The orders, the waves that are to be emitted, and the jobs that are done.
pub type Orders = Store<Sqlite>;

/// A job is done, or comes again after a pause.
type Done = Result<(), StoreError>;

/// An order of a customer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Its name, given by who places it.
    pub id: String,
    /// The one to pay for it.
    pub customer: String,
    /// Its price.
    pub cents: u32,
}

/// Opens the database, or makes it.
pub fn open(path: &Path) -> Result<Orders, OpenError> {
    let orders = Store::builder("orders").open_sqlite(path)?;
    let change = orders.begin()?;
    change.sql().execute_batch(TABLES).map_err(StoreError::from)?;
    change.commit()?;
    Ok(orders)
}

/// `POST /orders` and `GET /orders/ID`.
pub fn http(orders: Orders) -> Router {
    Router::new().route("/orders", post(accept)).route("/orders/{id}", get(show)).with_state(orders)
}

/// Keeps an order and its jobs, or none of them. A second one of the same id changes nothing.
pub async fn place(orders: &Orders, order: Order) -> Done {
    let placed = orders.write(move |change| {
        if change.sql().execute(ORDER, (&order.id, &order.customer, order.cents))? == 1 {
            change.emit(Wave::builder("jobs.invoice").key(&order.customer).json(&order))?;
            change.emit(Wave::builder("jobs.remind").key(&order.customer).after(TO_PAY).json(&order))?;
        }
        Ok(())
    });
    placed.await
}

async fn accept(Shared(orders): Shared<Orders>, axum::Json(order): axum::Json<Order>) -> StatusCode {
    place(&orders, order).await.map_or(StatusCode::SERVICE_UNAVAILABLE, |()| StatusCode::ACCEPTED)
}

/// The number of the invoice, or `none` as long as there is none.
async fn show(Shared(orders): Shared<Orders>, Of(id): Of<String>) -> Result<String, StatusCode> {
    let found = orders.write(move |change| {
        let found = change.sql().query_row(SHOW, [id], |row| row.get(0)).optional();
        Ok::<_, StoreError>(found?)
    });
    found.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?.ok_or(StatusCode::NOT_FOUND)
}

/// The worker: an invoice for each order. Customers are served at once, the orders of each in turn.
pub fn worker(orders: Orders) -> ServiceBuilder<Orders> {
    let pauses = ConsumerOptions::default().pauses(Duration::from_secs(1), Duration::from_secs(300));
    let durable = |name| Durable::consumer(name).options(pauses);
    Service::builder("worker")
        .state(orders)
        .on_durable("jobs.invoice", durable("invoices").by_key(16), invoice)
        .on_durable("jobs.remind", durable("reminders"), remind)
        .on_durable("jobs.report", durable("reports"), report)
}

/// Lets a report be made each night. Every process may do so, as the key is the same.
pub async fn every_night(aether: &Aether) -> Result<(), Box<dyn Error>> {
    let log = DurableLog::of(aether).ok_or("set durable.folder or durable.log")?;
    let report = Wave::builder("jobs.report").build()?;
    Ok(log.schedules().put("nightly", Schedule::cron("0 3 * * *", "Europe/Berlin")?, report).await?)
}

async fn invoice(State(orders): State<Orders>, wave: Wave, Json(order): Json<Order>) -> Done {
    orders.once(&wave.id(), move |change| Ok(change.sql().execute(INVOICE, [&order.id])?)).await.map(drop)
}

async fn remind(State(orders): State<Orders>, wave: Wave, Json(order): Json<Order>) -> Done {
    orders.once(&wave.id(), move |change| Ok(change.sql().execute(REMIND, [&order.id])?)).await.map(drop)
}

async fn report(State(orders): State<Orders>, wave: Wave) -> Done {
    orders.once(&wave.id(), |change| Ok(change.sql().execute(REPORT, [])?)).await.map(drop)
}
