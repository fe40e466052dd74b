//! The layer below the files: defaults that follow from the limits of the container or the service manager.

use super::file::{Entry, Layer, Raw};
use super::mistake::Origin;
use super::quantity::Size;
use super::settings::Settings;

/// The share of the memory limit that one inbox, and the outbox, may fill by default: a program has a few of them, and needs
/// memory for more than what waits.
const SHARE: u64 = 8;

/// The least default: an inbox that holds less sheds in every burst.
const LEAST: u64 = 1 << 20;

/// The default sizes of inboxes and outbox where the built-in ones are more than an eighth of the memory limit.
pub(super) fn memory_bounds(limit: Option<u64>) -> Layer {
    let mut layer = Layer::default();
    let Some(limit) = limit else { return layer };
    // Whole KiB are shorter to read.
    let Some(share) = Size::new((limit / SHARE).max(LEAST) >> 10 << 10) else { return layer };
    let defaults = Settings::default();
    for (section, built_in) in [("inbox", defaults.inbox.max_bytes), ("outbox", defaults.outbox.max_bytes)] {
        if share.bytes() < built_in.bytes() {
            layer.entries.push(Entry {
                path: vec![section.to_owned(), "max_bytes".to_owned()],
                value: Raw::Text(share.to_string()),
                origin: Origin::MemoryLimit { bytes: limit },
            });
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::super::schema::{NoSection, Schema};
    use super::super::sources::Sources;
    use super::*;

    fn sizes(limit: Option<u64>) -> (usize, usize, String) {
        let schema = Schema::new().with::<NoSection>();
        let below_files = memory_bounds(limit);
        let sources = Sources { schema, below_files, ..Sources::default() };
        let values = sources.read(&[]).unwrap();
        let settings = values.settings();
        let inbox = values.settings.iter().find(|setting| setting.key == "inbox.max_bytes").unwrap();
        (settings.inbox.max_bytes.bytes(), settings.outbox.max_bytes.bytes(), inbox.origin.clone())
    }

    #[test]
    fn defaults_are_bounded_by_the_memory_limit() {
        let built_in = (64 << 20, 64 << 20, "built-in".to_owned());
        assert_eq!(sizes(None), built_in);
        assert_eq!(sizes(Some(1 << 30)), built_in);
        let origin = "an eighth of the memory limit of 128 MiB".to_owned();
        assert_eq!(sizes(Some(128 << 20)), (16 << 20, 16 << 20, origin));
        assert_eq!(sizes(Some(1)).0, 1 << 20);
    }
}
