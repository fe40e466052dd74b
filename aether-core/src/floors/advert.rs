//! What a receiver says of itself, as it is written: see `protocol/README.md`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::amplitude::Floor;
use crate::channel::Pattern;
use crate::source::{Source, WaveId};

/// Where receivers advertise, and senders who respect floors listen.
pub(super) const ADVERTS: &str = "_aether.floor";
/// Where senders ask all receivers to advertise.
pub(super) const CALLS: &str = "_aether.floor.call";
/// Who hears more patterns than this advertises that it hears everything, at any strength.
const MAX_PATTERNS: usize = 256;

/// One receiver: what it hears, and from which strength on. Without any pattern it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advert {
    pub(super) receiver: Source,
    pub(super) patterns: Vec<Pattern>,
    pub(super) floor: Floor,
}

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    receiver: Cow<'a, str>,
    patterns: Vec<Cow<'a, str>>,
    floor: f32,
}

pub(super) fn write(adverts: &[Advert]) -> Vec<u8> {
    let written: Vec<_> = adverts
        .iter()
        .map(|advert| {
            let is_long = advert.patterns.len() > MAX_PATTERNS;
            let patterns = advert.patterns.iter().map(|pattern| pattern.as_str().into());
            Written {
                receiver: advert.receiver.to_string().into(),
                patterns: if is_long { vec![">".into()] } else { patterns.collect() },
                floor: if is_long { 0.0 } else { advert.floor.as_f32() },
            }
        })
        .collect();
    // A list of texts and finite numbers can always be written.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// The adverts in a payload; nothing if it is malformed. Taken whole or refused whole.
pub(super) fn read(payload: &[u8]) -> Option<Vec<Advert>> {
    let written: Vec<Written<'_>> = serde_json::from_slice(payload).ok()?;
    written
        .into_iter()
        .map(|advert| {
            // A source reads as the id of a wave does, without its number.
            let receiver = format!("{}/0", advert.receiver).parse::<WaveId>().ok()?.source;
            let floor = Floor::new(advert.floor).ok()?;
            if advert.patterns.len() > MAX_PATTERNS {
                return None;
            }
            let patterns: Option<Vec<_>> =
                advert.patterns.iter().map(|pattern| Pattern::new(pattern).ok()).collect();
            Some(Advert { receiver, patterns: patterns?, floor })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amplitude::Amplitude;
    use proptest::prelude::*;

    const DOCUMENTED: &str =
        r#"[{"receiver":"stock@1f9a3c5b7d2e4f60","patterns":["orders.*","stock.>"],"floor":0.25}]"#;

    #[test]
    fn the_payload_is_written_as_the_protocol_says() {
        assert!(include_str!("../../../protocol/README.md").contains(DOCUMENTED));
        let adverts = read(DOCUMENTED.as_bytes()).unwrap();
        assert_eq!(adverts[0].floor, Floor::new(0.25).unwrap());
        assert_eq!(write(&adverts), DOCUMENTED.as_bytes());
    }

    #[test]
    fn what_is_malformed_is_refused_whole() {
        for (from, to) in
            [("0.25", "2"), ("0.25", "-1"), ("0.25", "null"), ("orders.*", "orders..*"), ("@", "")]
        {
            assert_eq!(read(DOCUMENTED.replace(from, to).as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn who_hears_too_much_to_say_hears_everything() {
        let patterns = (0..300).map(|n| Pattern::new(format!("p{n}")).unwrap()).collect();
        let receiver = Source::new("a").unwrap();
        let said = read(&write(&[Advert { receiver, patterns, floor: Floor::new(0.5).unwrap() }])).unwrap();
        assert_eq!((&*said[0].patterns, said[0].floor), (&[Pattern::everything()][..], Floor::OPEN));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(levels in prop::collection::vec(0..128_u16, 0..8)) {
            let adverts: Vec<_> = levels
                .iter()
                .map(|level| Advert {
                    receiver: Source::new("a@b/c").unwrap(),
                    patterns: vec![Pattern::new("a.*").unwrap()],
                    floor: Floor::at(Amplitude::from_loss(level * 511)),
                })
                .collect();
            prop_assert_eq!(read(&write(&adverts)), Some(adverts));
        }
    }
}
