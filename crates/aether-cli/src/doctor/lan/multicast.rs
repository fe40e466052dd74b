//! Whether multicast passes: the question with which processes find each other is asked on each interface, and this process
//! must hear its own.

use std::time::Duration;

use aether::lan::{LanHello, LanView};

use super::interfaces::Interface;
use crate::doctor::finding::Finding;

const CHECK: &str = "multicast";
/// Answers come within milliseconds; the question is repeated within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// The questions and the answers.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Whether the address switches the search off.
    is_off: bool,
    interfaces: Vec<String>,
    pub(super) hellos: Vec<LanHello>,
    /// Why nothing could be asked.
    failure: Option<String>,
}

pub(super) async fn ask(view: &LanView, interfaces: &[Interface]) -> Asked {
    let Some(endpoints) = view.endpoints() else { return Asked::default() };
    if !endpoints.multicast {
        return Asked { is_off: true, ..Asked::default() };
    }
    let interfaces: Vec<_> = match endpoints.interface {
        Some(named) => vec![named],
        None => interfaces.iter().filter(|one| one.has_multicast).map(|one| one.name.clone()).collect(),
    };
    if interfaces.is_empty() {
        return Asked::default();
    }
    match view.hellos(&interfaces, ANSWERS_WITHIN).await {
        Some(Ok(hellos)) => Asked { interfaces, hellos, ..Asked::default() },
        Some(Err(error)) => {
            let failure = Some(aether_service::error_chain(&error));
            Asked { interfaces, failure, ..Asked::default() }
        }
        None => Asked::default(),
    }
}

pub(super) fn findings(asked: &Asked, is_cut_off: bool) -> Vec<Finding> {
    let Asked { is_off, interfaces, hellos, failure } = asked;
    if *is_off {
        let text = "off by the address: only router=, peer= and who connects are found";
        return vec![Finding::ok(CHECK, text)];
    }
    if let Some(failure) = failure {
        return vec![Finding::fail(CHECK, failure, "correct interface= in the address")];
    }
    interfaces.iter().map(|interface| on_interface(interface, hellos, is_cut_off)).collect()
}

fn on_interface(interface: &str, hellos: &[LanHello], is_cut_off: bool) -> Finding {
    let here = || hellos.iter().filter(|hello| hello.interface == interface);
    let others = here().filter(|hello| !hello.is_own).count();
    if others > 0 {
        return Finding::ok(CHECK, format!("{others} others answer on {interface}"));
    }
    if !here().any(|hello| hello.is_own) {
        return Finding::warn(
            CHECK,
            format!("nobody answers on {interface}, not even this process"),
            "allow UDP to 224.0.0.224 port 7446 and the answers from that port's programs in the firewall of this machine, \
             and a route for multicast: ip route get 224.0.0.224",
        );
    }
    let text = format!("a question comes back to this machine on {interface}; nobody else answers");
    if !is_cut_off {
        return Finding::ok(CHECK, text);
    }
    Finding::warn(
        CHECK,
        text,
        "if others run there, the network blocks multicast between machines, as many Wi-Fi access points do, or their firewall \
         does (UDP port 7446): name one by lan:?peer=HOST:PORT, or run `aether lan router` where all reach it",
    )
}
