//! The writes of the relay: relayed waves leave the store, refused ones move.

use aether_core::Wave;

use crate::area::{ABOUT, REFUSED, WAVES, key, number};
use crate::backend::{Backend, Rows as _};
use crate::error::StoreError;
use crate::held::{RELAYED, count};
use crate::store::{Store, refused_row};
use crate::stored_wave;

/// How many waves are read, and removed, in one transaction.
pub(super) const BATCH: usize = 64;

/// How a wave fared.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Relayed,
    Refused(String),
}

/// Waves whose fate is known and not written yet.
#[derive(Debug, Default)]
pub(super) struct Settling(Vec<(u64, Fate)>);

impl Settling {
    pub(super) fn settle(&mut self, number: u64, fate: Fate) {
        self.0.push((number, fate));
    }
}

/// A number, and its wave if it can be read.
type Numbered = (u64, Option<Wave>);

/// Writes the settled waves, and reads the next ones, in one transaction. Settled waves that were not written come
/// back.
pub(super) async fn next_waves<B: Backend>(
    store: &Store<B>,
    settling: Settling,
    most: usize,
) -> (Settling, Result<Vec<Numbered>, StoreError>) {
    let store = store.clone();
    let written = aether_files::disk::spawn_blocking(move || match settle(&store, &settling, most) {
        Ok(waves) => (Settling::default(), Ok(waves)),
        Err(error) => (settling, Err(error)),
    });
    written.await.unwrap_or_else(|_| (Settling::default(), Err(StoreError::ShutDown)))
}

fn settle<B: Backend>(
    store: &Store<B>,
    settling: &Settling,
    most: usize,
) -> Result<Vec<Numbered>, StoreError> {
    let held = store.shared().guarded.hold()?;
    let rows = &held.rows;
    let (mut relayed, mut refused) = (0, 0);
    for (number, fate) in &settling.0 {
        let place = key(*number);
        // A relay that was dropped may have written it.
        let Some(wave) = rows.get(WAVES, &place)? else { continue };
        match fate {
            Fate::Relayed => relayed += 1,
            Fate::Refused(reason) => {
                refused += 1;
                rows.put(REFUSED, &place, &refused_row(reason, &wave))?;
            }
        }
        rows.remove(WAVES, &place)?;
    }
    let waves = rows.scan(WAVES, &key(0), most)?.into_iter();
    let waves = waves.map(|(place, row)| (number(&place).unwrap_or_default(), stored_wave::read(row)));
    let waves = waves.collect();
    if relayed + refused > 0 {
        rows.put(ABOUT, RELAYED, &key(count(rows, RELAYED)? + relayed))?;
        let gate = held.finish(|ledger| {
            ledger.waiting -= relayed + refused;
            ledger.relayed += relayed;
            ledger.refused += refused;
        })?;
        drop(gate);
    }
    Ok(waves)
}
