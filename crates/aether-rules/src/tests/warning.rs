//! The first refusal of each kind is a warning that names the source.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::super::{Border, Rule, Rules, Schemas};
use aether_core::medium::Sequencer;
use aether_core::{Source, Wave};

#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn the_first_refusal_of_each_kind_is_a_warning_that_names_the_source() {
    let border = Border::new(Rules::new([Rule::new("shop").emit(["orders.>"])]).unwrap());
    let order = serde_json::json!({ "required": ["items"] });
    border.check_payloads(Schemas::new([("orders.*", &order)]).unwrap());
    let shop = Sequencer::new(Source::new("shop").unwrap());
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        for channel in ["orders.created", "orders.created", "money.made", "orders.changed", "money.made"] {
            let mut wave = Wave::from_bytes(channel, "{}").unwrap();
            wave.stamp(&shop, aether_core::clock::moment_of(aether_core::clock::test_now()));
            border.admit_stored(&mut wave).unwrap_err();
        }
    });
    assert_eq!((border.refused().misfits, border.refused().arrived), (3, 2));
    let warnings = warnings.0.lock().unwrap();
    let [misfit, forbidden] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(misfit.contains("source=\"shop\"") && misfit.contains("does not fit its schema"), "{misfit}");
    assert!(
        forbidden.contains("source=\"shop\"") && forbidden.contains("may not emit on money.made"),
        "{forbidden}"
    );
}
