//! The processes found on the local network, and how many others were seen that cannot be heard.

use std::fmt::Write as _;
use std::time::Duration;

use aether::lan::{LanPeer, LanSurroundings};

use crate::doctor::finding::Finding;
use crate::doctor::peers;
use crate::record::printable;

const CHECK: &str = "medium";
/// The peers that are named.
const MOST_NAMED: usize = 32;
/// The longest name that is printed, in characters: names come from the network.
const MOST_CHARACTERS: usize = 130;

fn name(LanPeer { name, machine, .. }: &LanPeer) -> String {
    let name = if name == machine { name.clone() } else { format!("{name} on {machine}") };
    printable(&name, MOST_CHARACTERS)
}

/// Those who are there, and whose clocks are wrong. Nothing if nobody is.
pub(super) fn met(peers: &[LanPeer]) -> Vec<Finding> {
    if peers.is_empty() {
        return Vec::new();
    }
    let mut text = format!("lan: {} peers", peers.len());
    for (number, peer) in peers.iter().take(MOST_NAMED).enumerate() {
        let way = match peer.round_trip {
            Some(time) => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
            None => "no answer yet".to_owned(),
        };
        let start = if number == 0 { ": " } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{start}{} ({way})", name(peer));
    }
    if peers.len() > MOST_NAMED {
        let _ = write!(text, ", and {} more", peers.len() - MOST_NAMED);
    }
    let mut findings = vec![Finding::ok(CHECK, text)];
    findings.extend(peers.iter().filter_map(|peer| {
        let round_trip = u64::try_from(peer.round_trip?.as_micros()).unwrap_or(u64::MAX);
        peers::clock(&name(peer), peer.clock_ahead_micros?, round_trip)
    }));
    findings
}

/// Those who are seen and not heard, and the routers. Something if nobody is met.
pub(super) fn unmet(seen: &LanSurroundings, met: &[LanPeer], patience: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut strangers = |processes: usize, what: &str| {
        if processes > 0 {
            findings.push(Finding::warn(
                CHECK,
                format!("{processes} processes on this network have {what}: neither side hears the other"),
                "if they belong to this system, give all machines the same secret (AETHER_LAN_SECRET_FILE)",
            ));
        }
    };
    strangers(seen.other_secret, "another secret");
    strangers(seen.no_secret, "no secret");
    if seen.other_version > 0 {
        findings.push(Finding::warn(
            CHECK,
            format!(
                "{} messages with this secret are of another version of the protocol",
                seen.other_version
            ),
            "update the programs of the older version; `aether --version` prints it on each machine",
        ));
    }
    // This process is one of them.
    let silent = seen.same_secret.saturating_sub(met.len() + 1);
    if silent > 0 {
        findings.push(Finding::warn(
            CHECK,
            format!("{silent} processes with the same secret are seen, and say nothing that this one understands"),
            "look for a stopped process, for another version (aether --version), and for a clock that is a minute off (date)",
        ));
    }
    if met.is_empty() && findings.is_empty() {
        let text = format!(
            "lan: nobody else was found in {patience:?}; connected to {} processes and {} routers",
            seen.peers, seen.routers
        );
        findings.push(Finding::warn(
            CHECK,
            text,
            "multicast may be blocked, as many Wi-Fi access points do, or TCP by a firewall: try \
             lan:?listen=0.0.0.0:7447 on one machine and lan:?peer=HOST:7447 on the other",
        ));
    }
    if seen.routers > 0 {
        findings.push(Finding::ok("routers", format!("connected to {} routers", seen.routers)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_is_told_of_other_secrets_or_of_multicast() {
        let mut seen = LanSurroundings::default();
        seen.same_secret = 1;
        let unmet = |seen: &LanSurroundings| unmet(seen, &[], Duration::from_secs(4));
        let [alone] = &unmet(&seen)[..] else { panic!("one finding") };
        assert!(alone.remedy.as_ref().unwrap().contains("multicast"), "{alone:?}");
        seen.other_secret = 2;
        let [stranger] = &unmet(&seen)[..] else { panic!("one finding") };
        assert!(stranger.text.starts_with("2 processes") && stranger.text.contains("another secret"));
        (seen.no_secret, seen.other_version, seen.same_secret, seen.routers) = (1, 1, 3, 1);
        let texts: Vec<_> = unmet(&seen).into_iter().map(|finding| finding.text).collect();
        assert_eq!(texts.len(), 5, "{texts:?}");
        assert!(
            texts[2].contains("another version") && texts[3].starts_with("2 processes with the same secret")
        );
        assert_eq!(texts[4], "connected to 1 routers");
    }
}
