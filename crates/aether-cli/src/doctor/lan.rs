//! The local network: who is there, the round trips and clocks, and why somebody may not be seen.

#[cfg(feature = "lan")]
mod found;
#[cfg(feature = "lan")]
mod interfaces;
#[cfg(feature = "lan")]
mod multicast;
#[cfg(feature = "lan")]
mod ports;

#[cfg(not(feature = "lan"))]
use aether_service::config::Configuration;

#[cfg(not(feature = "lan"))]
use super::finding::Finding;
#[cfg(feature = "lan")]
pub(super) use checking::check;

#[cfg(not(feature = "lan"))]
pub(super) fn check(_: &Configuration, _: &str) -> std::future::Ready<Vec<Finding>> {
    std::future::ready(vec![Finding::fail(
        "medium",
        "lan: is not built into this program",
        "build aether with --features lan, or set medium.url to nats://host:port",
    )])
}

#[cfg(feature = "lan")]
mod checking {
    use std::time::Duration;

    use aether::lan::{LanError, LanView};
    use aether::nats::NatsOptions;
    use aether_core::ConnectError;
    use aether_service::config::Configuration;
    use aether_service::error_chain;
    use futures_util::future::join_all;
    use tokio::time::timeout;

    use super::{found, interfaces, multicast, ports};
    use crate::doctor::finding::{Finding, Status};
    use crate::doctor::sealing;

    const CHECK: &str = "medium";
    /// How long others have to be found.
    const PATIENCE: Duration = Duration::from_secs(4);
    /// How long a peer that was found has to answer a ping.
    const ANSWER_WITHIN: Duration = Duration::from_secs(1);

    /// `url` is the medium of the configuration, or one of its paths.
    pub(in crate::doctor) async fn check(config: &Configuration, url: &str) -> Vec<Finding> {
        let (mut findings, interfaces) = interfaces::check();
        let view = LanView::default();
        let options = config.settings().medium.args().lan("aether-doctor").view(&view);
        let mut builder = config.builder("aether-doctor").url(url).options(options);
        if config.settings().medium.args().addresses().nth(1).is_some() {
            // Those are for another path.
            builder = builder.options(NatsOptions::default());
        }
        let aether = match builder.connect().await {
            Ok(aether) => aether,
            Err(error) => {
                findings.push(refused(&error));
                return findings;
            }
        };
        findings.extend(interfaces::missing(&view, &interfaces));
        let (asked, ()) = tokio::join!(multicast::ask(&view, &interfaces), met(&view));
        let peers = view.peers();
        let surroundings = view.surroundings().await.unwrap_or_default();
        let mut about_peers = found::met(&peers);
        about_peers.extend(found::unmet(&surroundings, &peers, PATIENCE));
        let is_well =
            about_peers.iter().all(|finding| finding.check != CHECK || finding.status == Status::Ok);
        findings.extend(about_peers);
        // Those with another secret are connected as well.
        let is_cut_off = surroundings.peers + surroundings.routers == 0;
        findings.extend(multicast::findings(&asked, is_cut_off));
        findings.extend(ports::check(&view, &asked, is_cut_off).await);
        if !is_well {
            // Otherwise those who look at the services say it.
            findings.extend(sealing::refused_here(&aether));
        }
        // Nothing was emitted that could be lost.
        let _ = aether.close().await;
        findings
    }

    /// Waits for others, and measures how far they are.
    async fn met(view: &LanView) {
        let waiting = async {
            let Some(mut changes) = view.changes() else { return };
            while view.peers().is_empty() && changes.changed().await.is_ok() {}
        };
        // A process that has not come by then is not there.
        let _ = timeout(PATIENCE, waiting).await;
        // Whoever does not answer is listed without a round trip.
        let peers = view.peers();
        join_all(peers.iter().map(|peer| view.ping(peer.node, ANSWER_WITHIN))).await;
    }

    /// Why this process cannot join.
    fn refused(error: &ConnectError) -> Finding {
        let remedy = match error.of_medium() {
            Some(LanError::NoSecret) => {
                "make a secret and copy it to all machines: head -c 24 /dev/urandom | base64 > ~/aether-secret && \
                 chmod 600 ~/aether-secret; then AETHER_LAN_SECRET_FILE=~/aether-secret"
            }
            Some(LanError::OnlyNats { .. }) => {
                "remove the setting; `aether config show --changed` shows where it comes from"
            }
            Some(LanError::Network { .. }) => {
                "another program may use the port of listen=, or the address or the interface is not one of this machine: \
                 correct medium.url"
            }
            _ => "correct medium.url, and give all machines the same secret (AETHER_LAN_SECRET_FILE)",
        };
        Finding::fail(CHECK, error_chain(error), remedy)
    }
}
