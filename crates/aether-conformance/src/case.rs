//! A case of the suite: what it checks, and what it needs of the site.

use futures_util::future::BoxFuture;

use super::harness::{Link, Site};
use super::report::Checked;
use super::stage::Stage;

/// One behaviour, and its line of the contract.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) line: u8,
    pub(crate) needs: Needs,
    pub(crate) run: for<'a> fn(&'a Stage) -> BoxFuture<'a, Checked>,
}

/// The requirements of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// A place where an emitter waits for room: an inbox in process, or the outbox of a link that is cut.
    Room,
    /// Emitters that wait for receivers, wherever these are.
    BackPressure,
    /// A connection that can be cut and restored.
    Link,
    /// The same, with waves that wait until it is restored.
    HeldWaves,
    /// A client of the broker that does not know Aether.
    Foreign,
    /// The promise of an order.
    Order,
    /// The promise of groups.
    Groups,
    /// The promise that what nobody hears is noticed at once.
    Unheard,
}

impl Needs {
    /// Whether a site has the means. Asked before anything connects to it.
    pub(crate) fn possible_at(self, site: &dyn Site) -> bool {
        match self {
            Self::Link => site.link().is_some(),
            Self::HeldWaves => site.link().is_some_and(Link::holds_waves),
            Self::Foreign => site.foreign().is_some(),
            _ => true,
        }
    }

    /// Whether what is connected does what the case checks.
    pub(crate) fn met_by(self, stage: &Stage) -> bool {
        match self {
            Self::Nothing | Self::Link | Self::HeldWaves | Self::Foreign => true,
            Self::Room => !stage.crosses() || stage.holds_waves(),
            Self::BackPressure => stage.here.promises().back_pressure,
            Self::Order => stage.here.promises().ordered,
            Self::Groups => stage.has_groups(),
            Self::Unheard => stage.here.promises().detects_unheard,
        }
    }
}

/// A table of cases; a case is named after its function.
macro_rules! cases {
    ($($line:literal $needs:ident $name:ident,)*) => {
        pub(crate) const CASES: &[$crate::case::Case] = &[$($crate::case::Case {
            name: stringify!($name),
            line: $line,
            needs: $crate::case::Needs::$needs,
            run: |stage| Box::pin($name(stage)),
        }),*];
    };
}
pub(crate) use cases;

/// A ledger as another one, with other counts: a literal of it is not possible outside of its crate.
macro_rules! ledger {
    ($base:expr; $($count:ident: $value:expr),* $(,)?) => {{
        let mut ledger = $base;
        $(ledger.$count = $value;)*
        ledger
    }};
}
pub(crate) use ledger;
