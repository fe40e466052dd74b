//! A test of backends, for their authors.

use super::rows::{Backend, Rows};
use crate::error::{OpenError, StoreError};

/// How a backend breaks what [`Backend`] requires.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendFault {
    /// It was not opened.
    #[error("the backend was not opened")]
    Open(#[from] OpenError),
    /// An operation has failed.
    #[error("the backend has failed")]
    Store(#[from] StoreError),
    /// A requirement is broken.
    #[error("a requirement does not hold: {required}")]
    Broken {
        /// The requirement.
        required: &'static str,
    },
}

fn holds(does: bool, required: &'static str) -> Result<(), BackendFault> {
    if does { Ok(()) } else { Err(BackendFault::Broken { required }) }
}

/// Tests what [`Backend`] requires, as far as one process can see it, on a backend that has no rows yet. `open` opens
/// the same rows each time; the backend before is dropped then. Call it in a test of the crate that implements the
/// backend.
///
/// # Errors
/// [`BackendFault`]: the first requirement that does not hold.
pub fn check_backend<B: Backend>(open: impl Fn() -> Result<B, OpenError>) -> Result<(), BackendFault> {
    let backend = open()?;
    one_transaction(&backend)?;
    after_a_drop(&backend)?;
    areas_and_order(&backend)?;
    drop(backend);
    let backend = open()?;
    after_a_commit(&backend)?;
    on_another_thread(&backend)
}

fn one_transaction(backend: &impl Backend) -> Result<(), BackendFault> {
    let rows = backend.begin()?;
    holds(rows.get("a", b"1")?.is_none(), "an area without rows has no keys")?;
    holds(rows.scan("a", &[], 9)?.is_empty() && rows.count("a")? == 0, "an area without rows is empty")?;
    holds(!rows.remove("a", b"1")?, "removing a key that is not there returns false")?;
    rows.clear("a")?;
    rows.put("a", b"1", b"one")?;
    rows.put("a", b"1", b"another")?;
    holds(rows.get("a", b"1")?.as_deref() == Some(b"another"), "a transaction reads its own last value")?;
    holds(rows.count("a")? == 1, "a key that is set twice is one row")?;
    holds(rows.remove("a", b"1")? && rows.get("a", b"1")?.is_none(), "a removed key is gone at once")?;
    Ok(())
}

fn after_a_drop(backend: &impl Backend) -> Result<(), BackendFault> {
    let rows = backend.begin()?;
    rows.put("a", b"kept", b"before")?;
    rows.commit()?;
    let rows = backend.begin()?;
    rows.put("a", b"kept", b"after")?;
    rows.put("b", b"new", b"")?;
    drop(rows);
    let rows = backend.begin()?;
    rows.clear("a")?;
    drop(rows);
    let rows = backend.begin()?;
    let is_kept = rows.get("a", b"kept")?.as_deref() == Some(b"before") && rows.count("b")? == 0;
    holds(is_kept, "a transaction that is dropped has changed nothing")
}

/// Keys that are not in the order of their length, nor text.
const KEYS: [&[u8]; 6] = [b"", b"\0", b"\0\xff", b"a", b"a\0", b"\xff\xff"];
const LARGE: usize = 4 << 20;

fn areas_and_order(backend: &impl Backend) -> Result<(), BackendFault> {
    let rows = backend.begin()?;
    for key in KEYS.iter().rev() {
        rows.put("keys", key, key)?;
    }
    rows.put("keys.other", b"a", b"of another area")?;
    rows.put("large", b"1", &vec![7; LARGE])?;
    rows.commit()?;

    let rows = backend.begin()?;
    let found: Vec<_> = rows.scan("keys", &[], 100)?;
    let is_ordered = found.iter().map(|(key, value)| (&key[..], &value[..])).eq(KEYS.map(|key| (key, key)));
    holds(is_ordered, "the rows of an area are in the order of the bytes of their keys")?;
    let some = rows.scan("keys", b"\0\x01", 2)?;
    let is_some = some.iter().map(|(key, _)| &key[..]).eq([&b"\0\xff"[..], b"a"]);
    holds(is_some, "rows are read from the first key on that is not smaller, and no more than asked for")?;
    holds(
        rows.scan("keys", b"a", 1)?.first().is_some_and(|(key, _)| key == b"a"),
        "the key itself is among the rows from it on",
    )?;
    holds(rows.scan("keys", &[], usize::MAX)?.len() == KEYS.len(), "usize::MAX rows are all rows")?;
    holds(rows.count("keys")? == KEYS.len() as u64, "an area counts its own rows")?;
    let large = rows.get("large", b"1")?;
    holds(large.is_some_and(|value| value == vec![7; LARGE]), "a value of 4 MiB is kept")?;
    rows.clear("keys")?;
    let is_cleared = rows.count("keys")? == 0 && rows.count("keys.other")? == 1;
    holds(is_cleared, "an area that is cleared is empty, and no other one is")?;
    rows.commit()?;
    Ok(())
}

fn after_a_commit(backend: &impl Backend) -> Result<(), BackendFault> {
    let rows = backend.begin()?;
    let is_kept = rows.get("a", b"kept")?.as_deref() == Some(b"before") && rows.count("keys")? == 0;
    holds(is_kept, "what was committed is there when the backend is opened again")
}

/// Two threads that take turns.
fn on_another_thread(backend: &impl Backend) -> Result<(), BackendFault> {
    let other = std::thread::scope(|scope| {
        let changed = scope.spawn(|| {
            let rows = backend.begin()?;
            rows.put("a", b"kept", b"elsewhere")?;
            rows.commit()
        });
        changed.join()
    });
    let required = "a transaction may begin on another thread than the one before";
    other.map_err(|_| BackendFault::Broken { required })??;
    holds(backend.begin()?.get("a", b"kept")?.as_deref() == Some(b"elsewhere"), required)
}
