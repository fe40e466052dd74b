//! Whether TCP passes: the endpoints that the address names, and the endpoints of processes that answered by multicast
//! and are not connected.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use aether::lan::{LanHello, LanView};
use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::multicast::Asked;
use crate::doctor::finding::Finding;
use crate::record::printable;

const CHECK: &str = "ports";
/// A lost packet is repeated after 1 s (RFC 6298).
const CONNECTS_WITHIN: Duration = Duration::from_millis(1500);
/// The processes that are tried at most. Their answers come from the network.
const MOST_TRIED: usize = 32;
/// The longest endpoint that is printed, in characters.
const MOST_CHARACTERS: usize = 120;

/// The outcome of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reached {
    Open,
    Refused,
    Silent,
    Failed(String),
    /// With certificates, over UDP: only who has some can try.
    NotTried,
}

async fn reach(endpoint: &str) -> Reached {
    let (protocol, place) = endpoint.split_once('/').unwrap_or(("tcp", endpoint));
    if protocol != "tcp" {
        return Reached::NotTried;
    }
    match timeout(CONNECTS_WITHIN, TcpStream::connect(place)).await {
        Ok(Ok(_)) => Reached::Open,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Reached::Refused,
        Ok(Err(error)) if error.kind() == ErrorKind::TimedOut => Reached::Silent,
        Ok(Err(error)) => Reached::Failed(error.to_string()),
        Err(_) => Reached::Silent,
    }
}

pub(super) async fn check(view: &LanView, asked: &Asked, is_cut_off: bool) -> Vec<Finding> {
    let Some(endpoints) = view.endpoints() else { return Vec::new() };
    let own = asked.hellos.iter().find(|hello| hello.is_own).map(|hello| &hello.endpoints);
    let mut findings = Vec::new();
    if !endpoints.by_router {
        findings.push(listening(own, &endpoints.listen, is_cut_off));
    }
    let named = endpoints.connect.iter().map(|endpoint| async move {
        let reached = reach(endpoint).await;
        named(endpoint, &reached)
    });
    // One process may have answered on several interfaces.
    let unmet: BTreeMap<&str, &LanHello> = asked
        .hellos
        .iter()
        .filter(|hello| !hello.is_own && !hello.is_connected)
        .map(|hello| (&*hello.id, hello))
        .collect();
    let unmet = unmet.into_values().take(MOST_TRIED).map(|hello| async move {
        let reached = join_all(hello.endpoints.iter().map(|endpoint| reach(endpoint))).await;
        unconnected(hello, &reached)
    });
    let (named, unmet) = tokio::join!(join_all(named), join_all(unmet));
    findings.extend(named);
    findings.extend(unmet);
    findings
}

/// Where this process takes connections, which a firewall must let through.
fn listening(own: Option<&Vec<String>>, listen: &[String], is_cut_off: bool) -> Finding {
    let text = match own {
        Some(endpoints) => format!("this process takes connections at {}", list(endpoints)),
        None if listen.is_empty() => "this process takes connections at any free TCP port".to_owned(),
        None => format!("this process takes connections at {}", list(listen)),
    };
    if is_cut_off && listen.is_empty() {
        let remedy = "a firewall that blocks such a port hides this machine: fix the port by lan:?listen=0.0.0.0:7447 in each \
                      program, and open it";
        return Finding::warn(CHECK, text, remedy);
    }
    Finding::ok(CHECK, text)
}

/// An endpoint that the address names.
fn named(endpoint: &str, reached: &Reached) -> Finding {
    let shown = printable(endpoint, MOST_CHARACTERS);
    let port = endpoint.rsplit(':').next().unwrap_or_default();
    match reached {
        Reached::Open => Finding::ok(CHECK, format!("{shown} takes connections")),
        Reached::NotTried => Finding::ok(CHECK, format!("{shown} was not tried: it is not a TCP port")),
        Reached::Refused => Finding::warn(
            CHECK,
            format!("{shown} refuses connections: no program listens there"),
            format!("start the program there with lan:?listen=0.0.0.0:{port}, or correct the address"),
        ),
        Reached::Silent => Finding::warn(
            CHECK,
            format!("{shown} does not answer within {CONNECTS_WITHIN:?}"),
            format!("correct the address, switch on the machine, or open TCP port {port} in its firewall"),
        ),
        Reached::Failed(error) => {
            Finding::warn(CHECK, format!("{shown} cannot be reached: {error}"), "correct the address")
        }
    }
}

/// A process that answered by multicast and is not connected.
fn unconnected(hello: &LanHello, reached: &[Reached]) -> Finding {
    let kind = if hello.is_router { "a router" } else { "a process" };
    let places = list(&hello.endpoints);
    if reached.contains(&Reached::Open) {
        return Finding::warn(
            CHECK,
            format!("{kind} answers by multicast and takes connections at {places}, and is not connected"),
            "it may just have started; otherwise AETHER_LOG=info,zenoh=debug logs the reason there",
        );
    }
    if !reached.is_empty() && reached.iter().all(|reached| *reached == Reached::NotTried) {
        return Finding::warn(
            CHECK,
            format!(
                "{kind} answers by multicast, connects with certificates only, and is not connected: {places}"
            ),
            "give this program a certificate of the same authority (medium.ca and medium.certificate), and open these UDP \
             ports in the firewall of that machine",
        );
    }
    Finding::warn(
        CHECK,
        format!("{kind} answers by multicast, and none of its TCP ports can be reached: {places}"),
        "open them in the firewall of that machine, or let it listen on a port that is open: lan:?listen=0.0.0.0:7447",
    )
}

fn list(endpoints: &[String]) -> String {
    printable(&endpoints.join(", "), MOST_CHARACTERS * 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[tokio::test]
    async fn a_port_is_open_or_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("tcp/{}", listener.local_addr().unwrap());
        assert_eq!(reach(&endpoint).await, Reached::Open);
        // The system gives this port to nobody else, as it may one that was closed a moment ago.
        let nobody = format!("tcp/127.0.0.1:{}", aether_conformance::free_port().unwrap());
        assert_eq!(reach(&nobody).await, Reached::Refused);
        assert_eq!(reach("quic/127.0.0.1:1?multistream=0").await, Reached::NotTried);
        assert!(matches!(reach("tcp/no.such.host.invalid:1").await, Reached::Failed(_) | Reached::Silent));
    }

    #[test]
    fn an_endpoint_that_cannot_be_reached_names_its_port() {
        for reached in [Reached::Refused, Reached::Silent] {
            let finding = named("tcp/10.0.0.2:7447", &reached);
            assert!(finding.status == Status::Warn && finding.remedy.unwrap().contains("7447"));
        }
        assert_eq!(named("tcp/10.0.0.2:7447", &Reached::Open).status, Status::Ok);
        assert_eq!(named("quic/10.0.0.2:7447", &Reached::NotTried).status, Status::Ok);
        let free = listening(None, &[], true);
        assert!(free.status == Status::Warn && free.remedy.unwrap().contains("lan:?listen="));
        assert_eq!(listening(None, &["tcp/0.0.0.0:7447".to_owned()], true).status, Status::Ok);
    }
}
