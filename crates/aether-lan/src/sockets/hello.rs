//! The answers by multicast: the question with which processes find each other, asked by a tool that wants to know why
//! somebody is not found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zenoh::config::WhatAmI;
use zenoh::scouting::Hello;

use super::session::{self, ZenohNet};
use crate::address::LanAddress;
use crate::error::LanError;

/// The answers that are kept for each interface. Anybody can answer as often as they like.
const MAX_HELLOS: usize = 256;
/// The endpoints of an answer that are kept: a process names one for each of its addresses.
const MAX_ENDPOINTS: usize = 16;
/// The longest endpoint that is kept, in bytes. The longest name of a host has 253 (RFC 1035).
const MAX_ENDPOINT: usize = 300;
/// The interfaces that are asked on at most.
const MAX_INTERFACES: usize = 16;

/// A process or a router that answered by multicast. It is not authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanHello {
    /// The interface on which was asked.
    pub interface: String,
    /// Its number in the network of Zenoh.
    pub id: String,
    /// Whether it is this process, which hears its own question.
    pub is_own: bool,
    /// Whether it is a router.
    pub is_router: bool,
    /// Whether this process is connected to it.
    pub is_connected: bool,
    /// Where it takes connections, such as `tcp/192.168.1.20:7447`.
    pub endpoints: Vec<String>,
}

impl LanHello {
    fn new(interface: &str, hello: &Hello) -> Self {
        let endpoints = hello.locators().iter().take(MAX_ENDPOINTS).map(|locator| {
            // Without the parameters of Zenoh.
            locator.to_string().split('?').next().unwrap_or_default().to_owned()
        });
        Self {
            interface: interface.to_owned(),
            id: hello.zid().to_string(),
            is_own: false,
            is_router: hello.whatami() == WhatAmI::Router,
            is_connected: false,
            endpoints: endpoints.filter(|endpoint| endpoint.len() <= MAX_ENDPOINT).collect(),
        }
    }
}

/// The answers by multicast on these interfaces within a time, as a process sees them.
pub(crate) async fn hellos(
    net: &ZenohNet,
    interfaces: &[String],
    within: Duration,
) -> Result<Vec<LanHello>, LanError> {
    let mut asked = ask(&net.address, interfaces, within).await?;
    let (own, connected) = (net.id(), net.connected().await);
    for hello in &mut asked {
        hello.is_own = hello.id == own;
        hello.is_connected = connected.contains(&hello.id);
    }
    Ok(asked)
}

/// Asks on each of these interfaces at once, and collects answers for a time.
async fn ask(
    address: &LanAddress,
    interfaces: &[String],
    within: Duration,
) -> Result<Vec<LanHello>, LanError> {
    let hellos: Arc<Mutex<BTreeMap<(String, String), LanHello>>> = Arc::default();
    let mut scouts = Vec::new();
    for interface in interfaces.iter().take(MAX_INTERFACES) {
        let address = LanAddress { interface: Some(interface.clone()), ..address.clone() };
        let (kept, interface) = (Arc::clone(&hellos), interface.clone());
        let scout = session::scout(&address, move |hello| {
            let hello = LanHello::new(&interface, &hello);
            let mut kept = kept.lock();
            let key = (interface.clone(), hello.id.clone());
            if kept.keys().filter(|(on, _)| *on == interface).count() < MAX_HELLOS {
                kept.entry(key).or_insert(hello);
            }
        });
        scouts.push(scout.await?);
    }
    tokio::time::sleep(within).await;
    // Stopped by dropping them.
    drop(scouts);
    let hellos = std::mem::take(&mut *hellos.lock());
    Ok(hellos.into_values().collect())
}
