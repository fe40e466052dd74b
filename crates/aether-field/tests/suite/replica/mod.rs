//! Steps that tests of replicas share.

#![allow(dead_code, clippy::unwrap_used, reason = "helpers of several test programs")]

pub(crate) mod counted;

use std::time::Duration;

use aether_core::Aether;
use aether_field::Field;
use tokio::time::timeout;

/// The longest time that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes longer than {PATIENCE:?}"))
}

/// The one in the middle: a moment in which the machine did something else is not in it.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub(crate) async fn join(aether: &Aether, replica: &str) -> Field {
    Field::builder("home").replica(replica).join(aether).await.unwrap()
}

/// Waits until a replica has heard of these others: only then can it hear that they are gone.
pub(crate) async fn knows(field: &Field, others: &[Field]) {
    let mut events = field.peer_events();
    let is_known = |other: &Field| field.peers().iter().any(|peer| peer.writer == other.writer());
    within("all peers", async {
        while !others.iter().all(is_known) {
            events.next().await.unwrap();
        }
    })
    .await;
}

/// A replica that is kept in a file.
#[cfg(feature = "store")]
pub(crate) async fn open(aether: &Aether, path: &std::path::Path) -> Field {
    Field::builder("home").store(path).join(aether).await.unwrap()
}

/// Waits until a register of a replica has this value.
pub(crate) async fn shows(field: &Field, name: &str, value: Option<&str>) {
    let mut updates = field.watch(name);
    within(name, async {
        while field.get::<String>(name).unwrap().as_deref() != value {
            updates.next().await.unwrap();
        }
    })
    .await;
}

/// Waits until a replica has the digest of another one. It wakes with every change of either.
pub(crate) async fn equal(field: &Field, other: &Field) {
    let (mut updates, mut others) = (field.watch("*"), other.watch("*"));
    within("equal digests", async {
        while field.digest() != other.digest() {
            tokio::select! {
                update = updates.next() => drop(update.unwrap()),
                update = others.next() => drop(update.unwrap()),
            }
        }
    })
    .await;
}

/// Waits until all replicas have one digest at the same moment.
pub(crate) async fn all_equal(fields: &[Field]) {
    while fields.iter().any(|field| field.digest() != fields[0].digest()) {
        for field in fields {
            equal(field, &fields[0]).await;
        }
    }
}
