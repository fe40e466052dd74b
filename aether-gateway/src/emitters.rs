//! The emitters of a channel: a bounded table of names with their waves and rates.
//!
//! [`Observed`](crate::Observed) has one for each channel. Pure: the caller ends the seconds.

use smol_str::SmolStr;

use crate::track::Smooth;

/// The maximum number of names that are kept for a channel.
const MOST: usize = 8;

/// All vibrators of one name that emit on a channel.
#[derive(Debug, Clone)]
pub(crate) struct Emitter {
    pub(crate) name: SmolStr,
    pub(crate) waves: u64,
    second: u32,
    rate: Smooth,
}

/// The emitters of a channel. Made-up names take the place of the one with the fewest waves, so they do not displace those
/// that emit much.
#[derive(Debug, Clone, Default)]
pub(crate) struct Emitters(Vec<Emitter>);

impl Emitter {
    pub(crate) fn per_second(&self) -> f64 {
        self.rate.per_second()
    }
}

impl Emitters {
    pub(crate) fn note(&mut self, name: &str) {
        if let Some(known) = self.0.iter_mut().find(|known| known.name == name) {
            known.waves += 1;
            known.second = known.second.saturating_add(1);
            return;
        }
        let new = Emitter { name: name.into(), waves: 1, second: 1, rate: Smooth::default() };
        let is_full = self.0.len() == MOST;
        match self.0.iter_mut().min_by_key(|known| known.waves) {
            Some(fewest) if is_full => *fewest = new,
            _ => self.0.push(new),
        }
    }

    pub(crate) fn end_second(&mut self) {
        for emitter in &mut self.0 {
            emitter.rate.end_second(f64::from(std::mem::take(&mut emitter.second)));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Emitter> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_emitter_has_its_own_rate_and_made_up_names_do_not_displace_it() {
        let mut emitters = Emitters::default();
        let emit = |emitters: &mut Emitters, name: &str, waves: usize| {
            (0..waves).for_each(|_| emitters.note(name));
            emitters.end_second();
        };
        emit(&mut emitters, "old", 1000);
        for _ in 0..30 {
            emit(&mut emitters, "shop", 10);
        }
        for made_up in 0..100 {
            emitters.note(&format!("made-up-{made_up}"));
        }
        let of = |name: &str| emitters.iter().find(|emitter| emitter.name == name).unwrap();
        assert!(of("old").per_second() < 0.1 && of("old").waves == 1000, "it emits no more");
        assert!((of("shop").per_second() - 10.0).abs() < 0.1 && of("shop").waves == 300);
        assert_eq!(emitters.iter().count(), MOST);
    }
}
