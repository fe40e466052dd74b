//! The effects of a new version of the files on a running program: which settings apply at once, and which need a
//! restart.

use std::sync::Arc;

use super::Configuration;
use super::mistake::ConfigError;
use super::quantity::OrOff;
use super::sources::{Setting, Values};
use crate::{error_chain, logging, service_manager};

/// How often the files of a configuration were read again.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Reloads {
    /// Changes that were applied. A change of a setting that needs a restart is one as well.
    pub applied: u64,
    /// Versions that were refused. The settings of the version before are in force.
    pub refused: u64,
    /// Why the last version was refused, unless a valid one has replaced it.
    pub mistakes: Option<Arc<ConfigError>>,
    /// The settings that differ from those in force until the program is restarted.
    pub needs_restart: Vec<String>,
}

impl Configuration {
    /// Reads the files again and applies what has changed. Blocks while it reads.
    pub(super) fn reload(&self) {
        let shared = &self.shared;
        let before = self.values();
        match shared.sources.read(&before.files) {
            Ok(values) => {
                tracing::debug!(files = ?values.files, "the configuration was read again");
                let is_live = |setting: &Setting| self.is_live(setting);
                let was_refused = shared.reloads.borrow().mistakes.is_some();
                let changed = changes(&before.settings, &values.settings, is_live);
                // Equal settings may name files whose content has changed.
                let border = values.settings().border;
                let has_other_border = before.settings().border != border;
                let has_other_files =
                    has_other_border && !changed.iter().any(|change| change.key.starts_with("border."));
                if changed.is_empty() && !was_refused && !has_other_files {
                    return;
                }
                let (live, restart): (Vec<_>, Vec<_>) = changed.iter().partition(|change| change.is_live);
                let needs_restart: Vec<_> = changes(&shared.at_start, &values.settings, is_live)
                    .into_iter()
                    .filter(|change| !change.is_live)
                    .map(|change| change.key)
                    .collect();
                self.apply(&values);
                if has_other_border {
                    border.apply(&shared.border);
                }
                *shared.current.lock() = Arc::new(values);
                self.apply_log();
                for change in live {
                    tracing::info!("{change}: applied");
                }
                for change in restart {
                    tracing::warn!("{change}: this needs a restart");
                }
                if has_other_files {
                    tracing::info!("the files of border.schemas have changed: applied");
                } else if changed.is_empty() {
                    tracing::info!("the configuration is valid again; nothing else has changed");
                }
                service_manager::status(if needs_restart.is_empty() {
                    "the changed configuration is in force"
                } else {
                    "parts of the changed configuration need a restart"
                });
                shared.reloads.send_modify(|reloads| {
                    reloads.applied += 1;
                    (reloads.mistakes, reloads.needs_restart) = (None, needs_restart);
                });
            }
            Err(error) => {
                tracing::error!(
                    error = error_chain(&error),
                    "the changed configuration is refused; the settings before stay in force"
                );
                service_manager::status(&format!("the changed configuration is refused: {error}"));
                let text = error.to_string();
                shared.reloads.send_if_modified(|reloads| {
                    // A version is read twice if the system reports its change late.
                    let is_new = reloads.mistakes.as_ref().is_none_or(|known| known.to_string() != text);
                    if is_new {
                        reloads.refused += 1;
                        reloads.mistakes = Some(Arc::new(error));
                    }
                    is_new
                });
            }
        }
    }

    /// Whether this program applies changes of a setting while it runs.
    fn is_live(&self, setting: &Setting) -> bool {
        let started_off = |key: &str| {
            let at_start = self.shared.at_start.iter().find(|setting| setting.key == key);
            at_start.is_some_and(|setting| setting.typed.as_str() == Some("off"))
        };
        setting.is_live
            && match setting.key.as_str() {
                // Handlers that started without a rate have no layer for one.
                "handlers.rate" => !started_off("handlers.rate"),
                // Emitters that started without a limit have no bucket, and a bucket is not taken away.
                "emit.rate" => !started_off("emit.rate") && setting.typed.as_str() != Some("off"),
                // A subscriber of the author has a filter of its own.
                "log.filter" | "log.format" => logging::has_filter(),
                _ => true,
            }
    }

    /// Applies the live settings, except for the border: rules that are applied again would start their rates again.
    pub(super) fn apply(&self, values: &Values) {
        let settings = values.settings();
        let inbox = &settings.inbox;
        self.shared.inbox.set_floor(inbox.floor.0);
        // The types allow no bound that this refuses.
        if let Err(error) = self.shared.inbox.set_bounds(inbox.max_waves.as_usize(), inbox.max_bytes.bytes())
        {
            tracing::error!(error = error_chain(&error), "the bounds of the inboxes were not changed");
        }
        self.shared.rate.send_if_modified(|rate| {
            let new = match settings.handlers.rate {
                OrOff::Off => None,
                OrOff::On(rate) => Some(rate.parts()),
            };
            std::mem::replace(rate, new) != new
        });
        if let (Some(emission), OrOff::On(rate)) = (&self.shared.emission, settings.emit.rate) {
            let (waves, period) = rate.parts();
            // The types allow no rate that this refuses.
            if let Err(error) = emission.set(waves, period) {
                tracing::error!(error = error_chain(&error), "the emission limit was not changed");
            }
        }
    }

    /// Brings the log in line with the settings. Not for the built-in defaults, which a library may make beside the
    /// configuration of the program.
    pub(super) fn apply_log(&self) {
        let log = self.settings().log;
        logging::set_filter(log.filter.as_str());
        logging::set_format(log.format);
    }
}

/// A changed setting.
#[derive(Debug)]
struct Change {
    key: String,
    before: String,
    now: String,
    origin: String,
    is_live: bool,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, before, now, origin, .. } = self;
        write!(f, "{key} = {now} instead of {before} ({origin})")
    }
}

/// The settings whose values differ.
fn changes(before: &[Setting], now: &[Setting], is_live: impl Fn(&Setting) -> bool) -> Vec<Change> {
    // Both have the settings of one schema, in the same order.
    let pairs = before.iter().zip(now).filter(|(before, now)| before.typed != now.typed);
    let change = |(before, now): (&Setting, &Setting)| Change {
        key: now.key.clone(),
        before: before.value.clone(),
        now: now.value.clone(),
        origin: now.origin.clone(),
        is_live: is_live(now),
    };
    pairs.map(change).collect()
}
