//! The local network: who is there, the round trips and clocks, and why somebody may not be seen.

use aether_chassis::config::Configuration;

#[cfg(not(feature = "lan"))]
use super::finding::Finding;
#[cfg(feature = "lan")]
pub(super) use seen::check;

/// Whether the medium of the configuration is a local network.
pub(super) fn is_it(config: &Configuration) -> bool {
    // Schemes are case-insensitive.
    config.settings().medium.url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("lan:"))
}

#[cfg(not(feature = "lan"))]
pub(super) fn check(_: &Configuration) -> std::future::Ready<Vec<Finding>> {
    std::future::ready(vec![Finding::fail(
        "medium",
        "lan: is not built into this program",
        "build aether with --features lan, or set medium.url to nats://host:port",
    )])
}

#[cfg(feature = "lan")]
mod seen {
    use std::fmt::Write as _;
    use std::time::Duration;

    use aether_chassis::config::Configuration;
    use aether_chassis::error_chain;
    use aether_core::medium::{LanPeer, LanSurroundings, LanView};
    use tokio::time::timeout;

    use crate::doctor::finding::Finding;
    use crate::doctor::peers;
    use crate::record::printable;

    const CHECK: &str = "medium";
    /// How long others have to be found and to answer a ping. Peers are pinged once a second.
    const PATIENCE: Duration = Duration::from_secs(4);
    /// The peers that are named.
    const MOST_NAMED: usize = 32;
    /// The longest name that is printed, in characters: names come from the network.
    const MOST_CHARACTERS: usize = 130;

    pub(in crate::doctor) async fn check(config: &Configuration) -> Vec<Finding> {
        let view = LanView::default();
        let options = config.settings().medium.lan("aether-doctor").view(&view);
        let aether = match config.builder("aether-doctor").options(options).connect().await {
            Ok(aether) => aether,
            Err(error) => {
                let remedy =
                    "correct medium.url, and give all machines the same secret (AETHER_LAN_SECRET_FILE)";
                return vec![Finding::fail(CHECK, error_chain(&error), remedy)];
            }
        };
        // Whoever has not answered by then is listed without a round trip.
        let _ = timeout(PATIENCE, all_answered(&view)).await;
        let surroundings = view.surroundings().await.unwrap_or_default();
        let mut findings = met(&view.peers());
        findings.extend(unmet(&surroundings, findings.is_empty()));
        // Nothing was emitted that could be lost.
        let _ = aether.close().await;
        findings
    }

    async fn all_answered(view: &LanView) {
        let Some(mut changes) = view.changes() else { return };
        loop {
            let peers = view.peers();
            if !peers.is_empty() && peers.iter().all(|peer| peer.round_trip.is_some()) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Those who are there, and whose clocks are wrong. Nothing if nobody is.
    fn met(peers: &[LanPeer]) -> Vec<Finding> {
        if peers.is_empty() {
            return Vec::new();
        }
        let mut text = format!("lan: {} peers", peers.len());
        for (number, LanPeer { name, round_trip, .. }) in peers.iter().take(MOST_NAMED).enumerate() {
            let way = match round_trip {
                Some(time) => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
                None => "no answer yet".to_owned(),
            };
            let start = if number == 0 { ": " } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{start}{} ({way})", printable(name, MOST_CHARACTERS));
        }
        if peers.len() > MOST_NAMED {
            let _ = write!(text, ", and {} more", peers.len() - MOST_NAMED);
        }
        let mut findings = vec![Finding::ok(CHECK, text)];
        findings.extend(peers.iter().filter_map(|peer| {
            let round_trip = u64::try_from(peer.round_trip?.as_micros()).unwrap_or(u64::MAX);
            peers::clock(&printable(&peer.name, MOST_CHARACTERS), peer.clock_ahead_micros?, round_trip)
        }));
        findings
    }

    /// Why somebody may not be seen.
    fn unmet(seen: &LanSurroundings, is_alone: bool) -> Vec<Finding> {
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
        if is_alone && findings.is_empty() {
            let text = format!(
                "lan: nobody else was found in {PATIENCE:?}; connected to {} processes and {} routers",
                seen.peers, seen.routers
            );
            findings.push(Finding::warn(
                CHECK,
                text,
                "multicast may be blocked, as many Wi-Fi access points do, or TCP by a firewall: try \
                 lan:?listen=0.0.0.0:7447 on one machine and lan:?peer=HOST:7447 on the other",
            ));
        }
        findings
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn who_is_alone_is_told_of_other_secrets_or_of_multicast() {
            let mut seen = LanSurroundings::default();
            let [alone] = &unmet(&seen, true)[..] else { panic!("one finding") };
            assert!(alone.remedy.as_ref().unwrap().contains("multicast"), "{alone:?}");
            assert!(unmet(&seen, false).is_empty());
            seen.other_secret = 2;
            let [stranger] = &unmet(&seen, true)[..] else { panic!("one finding") };
            assert!(stranger.text.starts_with("2 processes") && stranger.text.contains("another secret"));
            seen.no_secret = 1;
            assert_eq!(unmet(&seen, false).len(), 2);
        }
    }
}
