//! The network interfaces of this machine: whether any of them leads to others, and by multicast.

#[cfg(unix)]
use std::net::IpAddr;
use std::net::Ipv4Addr;

use aether::lan::LanView;

use crate::doctor::finding::Finding;

const CHECK: &str = "interfaces";

/// An interface that is up and has an address, other than the loopback interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    address: Ipv4Addr,
    pub(super) has_multicast: bool,
}

/// The interfaces, and what there is to say about them.
#[cfg(unix)]
pub(super) fn check() -> (Vec<Finding>, Vec<Interface>) {
    // Zenoh asks in the same way.
    let listed = pnet_datalink::interfaces().into_iter();
    let interfaces: Vec<_> = listed
        .filter(|one| one.is_up() && one.is_running() && !one.is_loopback())
        .filter_map(|one| {
            let address = one.ips.iter().find_map(|network| match network.ip() {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            });
            Some(Interface { has_multicast: one.is_multicast(), address: address?, name: one.name })
        })
        .collect();
    (findings(&interfaces), interfaces)
}

#[cfg(not(unix))]
pub(super) fn check() -> (Vec<Finding>, Vec<Interface>) {
    (vec![Finding::warn(CHECK, "interfaces are listed on Unix only", "look at them by hand")], Vec::new())
}

#[cfg(unix)]
fn findings(interfaces: &[Interface]) -> Vec<Finding> {
    if interfaces.is_empty() {
        return vec![Finding::warn(
            CHECK,
            "only the loopback interface is up: no other machine can be reached over IPv4",
            "plug in the cable or join the Wi-Fi, and get an address: ip address",
        )];
    }
    let list: Vec<_> = interfaces
        .iter()
        .map(|Interface { name, address, has_multicast }| {
            format!("{name} ({address}{})", if *has_multicast { "" } else { ", no multicast" })
        })
        .collect();
    let text = format!("up: {}", list.join(", "));
    if interfaces.iter().any(|interface| interface.has_multicast) {
        return vec![Finding::ok(CHECK, text)];
    }
    vec![Finding::warn(
        CHECK,
        text,
        "without multicast nobody is found: name one machine by lan:?peer=HOST:PORT, or a router by lan:?router=HOST:7447",
    )]
}

/// Whether the interface that the address names is missing.
pub(super) fn missing(view: &LanView, interfaces: &[Interface]) -> Option<Finding> {
    let named = view.endpoints()?.interface?;
    let is_known =
        interfaces.iter().any(|interface| interface.name == named || interface.address.to_string() == named);
    (cfg!(unix) && !is_known).then(|| {
        let names: Vec<_> = interfaces.iter().map(|interface| &*interface.name).collect();
        Finding::fail(
            CHECK,
            format!("no interface {named:?} is up with an IPv4 address"),
            format!("correct interface= in the address; up are: {}", names.join(", ")),
        )
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn a_machine_without_a_network_or_without_multicast_is_told_what_to_do() {
        let mut up =
            Interface { name: "eth0".into(), address: Ipv4Addr::new(10, 0, 0, 1), has_multicast: true };
        assert_eq!(findings(&[up.clone()]), [Finding::ok(CHECK, "up: eth0 (10.0.0.1)")]);
        up.has_multicast = false;
        let [finding] = &findings(&[up])[..] else { panic!("one finding") };
        assert!(finding.status == Status::Warn && finding.text.contains("no multicast"), "{finding:?}");
        let [finding] = &findings(&[])[..] else { panic!("one finding") };
        assert!(finding.status == Status::Warn && finding.text.contains("only the loopback"), "{finding:?}");
    }
}
