//! The faults are a medium: without a fault it conforms, and a fault breaks the line of the contract that it is about.

use std::time::Duration;

use aether_conformance::{self, Harness, Site, SiteError, Suite};
use aether_core::{Aether, InboxOptions};
use aether_testing::{Fault, Faults};
use futures_util::future::BoxFuture;

struct Local(Option<Fault>);

struct LocalSite(Aether);

impl Harness for Local {
    fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
        Box::pin(async {
            let faults = Faults::with_seed(1);
            if let Some(fault) = &self.0 {
                faults.add(fault.clone());
            }
            let aether = faults.around(aether::builder()).connect().await;
            let aether = aether.map_err(|error| SiteError::new("connect", error))?;
            Ok(Box::new(LocalSite(aether)) as Box<dyn Site>)
        })
    }
}

impl Site for LocalSite {
    fn connect(&self, _: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medium_without_faults_conforms() {
    let report = aether_conformance::run(&Local(None)).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_breaks_the_line_of_the_contract_that_it_is_about() {
    for (fault, case) in [
        (Fault::lose(0.1), "waves_of_one_source_channel_and_amplitude_stay_in_order"),
        (Fault::duplicate(0.1), "waves_of_one_source_channel_and_amplitude_stay_in_order"),
        (
            Fault::reorder(0.1, Duration::from_millis(1)),
            "waves_of_one_source_channel_and_amplitude_stay_in_order",
        ),
        (Fault::delay(Duration::from_millis(5)), "an_emitted_wave_is_in_the_inboxes_or_the_outbox"),
        (Fault::partition(), "the_first_answer_counts"),
    ] {
        let harness = Local(Some(fault.clone()));
        let report = Suite::default().limit(Duration::from_secs(5)).only([case]).run(&harness).await;
        assert!(!report.passed(), "{fault:?} passes {case}");
    }
}
