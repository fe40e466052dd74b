//! The names of versions that lost: the same on every machine that keeps one, so that it is kept once.

use std::time::{Duration, UNIX_EPOCH};

use crate::hash::Hash;
use crate::path::{FilePath, MAX_NAME, PathError};

/// `name (conflict, machine, time)`: the machine that wrote the version, and when, in UTC to the millisecond. `hash` is
/// added where another file has that name.
pub(crate) fn conflict_name(
    path: &FilePath,
    machine: &str,
    micros: u64,
    hash: Option<&Hash>,
) -> Result<FilePath, PathError> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let machine: String = machine.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    // The last time that has a name is in the year 9999.
    let time = UNIX_EPOCH + Duration::from_micros(micros.min(253_402_300_799_000_000));
    let time = humantime::format_rfc3339_millis(time).to_string().replace(':', "-");
    let hash = hash.map(|hash| format!(", {}", &hash.to_string()[..8])).unwrap_or_default();
    let suffix = format!(" (conflict, {machine}, {time}{hash})");
    let name = path.name();
    let room = MAX_NAME.saturating_sub(suffix.len());
    path.with_name(&format!("{}{suffix}", &name[..name.floor_char_boundary(room.min(name.len()))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_lost_has_a_name_that_is_safe_and_not_too_long() {
        let path = FilePath::new("a/notes.txt").unwrap();
        let named = |path: &FilePath, machine: &str, micros| {
            conflict_name(path, machine, micros, None).unwrap().as_str().to_owned()
        };
        assert_eq!(
            named(&path, "pi-2", 1_700_000_000_123_456),
            "a/notes.txt (conflict, pi-2, 2023-11-14T22-13-20.123Z)"
        );
        assert!(named(&path, "../..\\x:\0", u64::MAX).contains(" (conflict, ..-..-x--, 9999-12-31T23-59-59"));
        let long = FilePath::new(&"ä".repeat(127)).unwrap();
        let name = named(&long, &"m".repeat(64), 0);
        assert!(name.len() <= MAX_NAME && name.starts_with('ä'), "{name}");
        let hash = Hash::of_block(b"x");
        let other = conflict_name(&path, "pi-2", 0, Some(&hash)).unwrap();
        assert!(other.as_str().ends_with(&format!("Z, {})", &hash.to_string()[..8])), "{other}");
    }
}
