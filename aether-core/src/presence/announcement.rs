//! Announcements of vibrators and their encoding; see `docs/protocol/README.md`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::amplitude::Floor;
use crate::channel::{Channel, Pattern};
use crate::router::Heard;
use crate::source::{Source, WaveId};

/// The channel on which vibrators announce themselves to rosters and to senders that respect floors.
pub(super) const ANNOUNCEMENTS: &str = "_aether.vibrators";
/// The channel on which all vibrators are asked to announce themselves.
pub(super) const CALLS: &str = "_aether.vibrators.call";
/// A receiver with more patterns than this announces that it hears everything, at any strength.
pub(super) const MAX_PATTERNS: usize = 256;
/// The maximum number of patterns in one message: with the longest names it stays below any server's limit.
const PATTERNS_IN_A_MESSAGE: usize = 512;

/// A vibrator's announcement: its identity, its subscriptions, and its floor. Ordinary term: a service registration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Announcement {
    /// Its name and instance.
    pub vibrator: Source,
    /// Its subscriptions. A vibrator with more than 256 patterns announces that it hears everything.
    pub heard: Vec<Heard>,
    /// Its floor in effect: the configured one, or the one raised by overload.
    pub effective_floor: Floor,
    /// A number for who has proven to announce it; 0 where nothing is proven, and for a vibrator of this process. For
    /// sharing out what is bounded: names may be as many as a signer likes.
    pub principal: u64,
    /// The floor raised by overload, which senders may respect; open while it is not overloaded.
    pub(super) floor: Floor,
    /// Whether rosters list it.
    pub(super) is_listed: bool,
}

#[derive(Serialize, Deserialize)]
struct AnnouncementRecord<'a> {
    vibrator: Cow<'a, str>,
    hears: Vec<HeardRecord<'a>>,
    floor: f32,
    effective_floor: f32,
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    listed: bool,
}

#[derive(Serialize, Deserialize)]
struct HeardRecord<'a> {
    pattern: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<Cow<'a, str>>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
fn is_true(listed: &bool) -> bool {
    *listed
}

/// Encodes announcements as payloads, each below any server's limit.
pub(super) fn write_all(announcements: &[Announcement]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let (mut from, mut patterns) = (0, 0);
    for (place, announcement) in announcements.iter().enumerate() {
        // A receiver without patterns takes some room as well.
        let more = 1 + announcement.heard.len().min(MAX_PATTERNS);
        if patterns + more > PATTERNS_IN_A_MESSAGE {
            messages.push(write(&announcements[from..place]));
            (from, patterns) = (place, 0);
        }
        patterns += more;
    }
    if from < announcements.len() {
        messages.push(write(&announcements[from..]));
    }
    messages
}

fn write(announcements: &[Announcement]) -> Vec<u8> {
    let written: Vec<_> = announcements
        .iter()
        .map(|announcement| {
            let is_long = announcement.heard.len() > MAX_PATTERNS;
            let all = HeardRecord { pattern: ">".into(), group: None };
            let heard = announcement.heard.iter().map(|heard| HeardRecord {
                pattern: heard.pattern.as_str().into(),
                group: heard.group.as_deref().map(Cow::from),
            });
            AnnouncementRecord {
                vibrator: announcement.vibrator.to_string().into(),
                hears: if is_long { vec![all] } else { heard.collect() },
                floor: if is_long { 0.0 } else { announcement.floor.as_f32() },
                effective_floor: announcement.effective_floor.as_f32(),
                listed: announcement.is_listed,
            }
        })
        .collect();
    // Text and finite numbers can always be encoded.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// Decodes the announcements of a payload. `None` if any part is malformed.
pub(super) fn read(payload: &[u8]) -> Option<Vec<Announcement>> {
    let written: Vec<AnnouncementRecord<'_>> = serde_json::from_slice(payload).ok()?;
    written.into_iter().map(understand).collect()
}

fn understand(written: AnnouncementRecord<'_>) -> Option<Announcement> {
    // A source is encoded like a wave id without its number.
    let vibrator = format!("{}/0", written.vibrator).parse::<WaveId>().ok()?.source;
    if written.hears.len() > MAX_PATTERNS {
        return None;
    }
    let heard: Option<Vec<_>> = written
        .hears
        .iter()
        .map(|heard| {
            let group = match &heard.group {
                Some(group) => Some(Channel::new(group).ok()?.as_str().into()),
                None => None,
            };
            Some(Heard { pattern: Pattern::new(&heard.pattern).ok()?, group })
        })
        .collect();
    Some(Announcement {
        vibrator,
        heard: heard?,
        floor: Floor::new(written.floor).ok()?,
        effective_floor: Floor::new(written.effective_floor).ok()?,
        principal: 0,
        is_listed: written.listed,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::amplitude::Amplitude;
    use proptest::prelude::*;

    const DOCUMENTED: &str = r#"[{"vibrator":"stock@1f9a3c5b7d2e4f60","hears":[{"pattern":"orders.*"},{"pattern":"stock.>","group":"stock"}],"floor":0.25,"effective_floor":0.5}]"#;

    fn announcement(heard: Vec<Heard>, floor: Floor) -> Announcement {
        let vibrator = Source::new("a@b/c").unwrap();
        Announcement { vibrator, heard, floor, effective_floor: floor, principal: 0, is_listed: false }
    }

    fn heard(pattern: &str) -> Heard {
        Heard { pattern: Pattern::new(pattern).unwrap(), group: None }
    }

    #[test]
    fn the_payload_is_encoded_as_documented() {
        assert!(include_str!("../../../docs/protocol/README.md").contains(DOCUMENTED));
        let announcements = read(DOCUMENTED.as_bytes()).unwrap();
        let [announcement] = &announcements[..] else { panic!("{announcements:?}") };
        assert_eq!(announcement.floor, Floor::new(0.25).unwrap());
        assert_eq!(announcement.effective_floor, Floor::new(0.5).unwrap());
        assert_eq!(announcement.heard[1].group.as_deref(), Some("stock"));
        assert!(announcement.is_listed);
        assert_eq!(write(&announcements), DOCUMENTED.as_bytes());
    }

    #[test]
    fn a_malformed_payload_is_rejected_as_a_whole() {
        for (from, to) in [
            ("0.25", "2"),
            ("0.25", "-1"),
            ("0.25", "null"),
            ("0.5", "1e40"),
            ("orders.*", "orders..*"),
            ("\"stock\"", "\"a b\""),
            ("@", ""),
        ] {
            assert_eq!(read(DOCUMENTED.replace(from, to).as_bytes()), None, "{to}");
        }
        let many = vec![heard("a"); MAX_PATTERNS + 1];
        let many = many.iter().map(|heard| format!(r#"{{"pattern":"{}"}}"#, heard.pattern.as_str()));
        let many = many.collect::<Vec<_>>().join(",");
        let text = format!(r#"[{{"vibrator":"a@1","hears":[{many}],"floor":0,"effective_floor":0}}]"#);
        assert_eq!(read(text.as_bytes()), None);
    }

    #[test]
    fn too_many_patterns_are_announced_as_everything() {
        let all = (0..300).map(|n| heard(&format!("p{n}"))).collect();
        let said = read(&write(&[announcement(all, Floor::new(0.5).unwrap())])).unwrap();
        assert_eq!((&*said[0].heard, said[0].floor), (&[heard(">")][..], Floor::OPEN));
    }

    #[test]
    fn messages_stay_below_any_servers_limit() {
        let longest = format!("{}.*", "x".repeat(crate::channel::MAX_NAME_BYTES - 2));
        let all: Vec<_> = (0..7).map(|_| announcement(vec![heard(&longest); 256], Floor::OPEN)).collect();
        let messages = write_all(&all);
        assert!(messages.iter().all(|message| message.len() < 512 << 10), "a server allows 1 MiB");
        let back: Vec<_> = messages.iter().flat_map(|message| read(message).unwrap()).collect();
        assert_eq!(back, all);
        assert!(write_all(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn encoded_payloads_are_read_back(levels in prop::collection::vec(0..128_u16, 0..8)) {
            let announcements: Vec<_> = levels
                .iter()
                .map(|level| {
                    let floor = Floor::at(Amplitude::from_loss(level * 511));
                    let group = (level % 2 == 0).then(|| Arc::from("workers"));
                    announcement(vec![Heard { group, ..heard("a.*") }], floor)
                })
                .collect();
            prop_assert_eq!(read(&write(&announcements)), Some(announcements));
        }
    }
}
