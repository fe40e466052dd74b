//! Joining the network to look at it, and waiting for others.

use std::fmt::Display;
use std::time::Duration;

use aether::lan::{LanPeer, LanView};
use aether_core::Aether;
use aether_service::{CancellationToken, MediumArgs};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::connect::connected_with;
use crate::error::{CommandError, LanCommandError};
use crate::record::printable;

/// The longest name that is printed, in characters. Names come from the network.
const MOST_CHARACTERS: usize = 64;
/// A peer has gone after 3.5 s of silence; one that is there and not stopped answers much sooner.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Joins the network of the arguments, which is `lan:` where they name none.
pub(super) async fn joined(
    medium: &MediumArgs,
    name: &str,
    shutdown: &CancellationToken,
) -> Result<(Aether, LanView), CommandError> {
    let mut medium = medium.clone();
    if medium.is_local() {
        medium.medium = "lan:".to_owned();
    }
    // Of several paths, only this one is of interest.
    let Some(address) = medium.lan_address().map(str::to_owned) else {
        return Err(LanCommandError::OtherMedium { medium: medium.to_string() }.into());
    };
    medium.medium = address;
    let view = LanView::default();
    let options = medium.lan(name).view(&view);
    let builder = medium.builder(name).options(options);
    let aether = connected_with(&medium, builder, shutdown).await?;
    Ok((aether, view))
}

/// Waits until the peers are as expected, for a bounded time. Returns those who are there then.
pub(super) async fn met(
    view: &LanView,
    patience: Duration,
    is_enough: impl Fn(&[LanPeer]) -> bool,
) -> Vec<LanPeer> {
    let waiting = async {
        let Some(mut changes) = view.changes() else { return };
        loop {
            changes.borrow_and_update();
            if is_enough(&view.peers()) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    // A process that has not come by then is not there.
    let _ = timeout(patience, waiting).await;
    view.peers()
}

/// Measures the way to peers that has not been measured yet, and lists them again. Those that have left meanwhile stay
/// as they were.
pub(super) async fn measured(view: &LanView, peers: Vec<LanPeer>) -> Vec<LanPeer> {
    let unmeasured = peers.iter().filter(|peer| peer.round_trip.is_none());
    // A lost ping leaves the peer without a round trip.
    join_all(unmeasured.map(|peer| view.ping(peer.node, ANSWER_WITHIN))).await;
    let now = view.peers();
    let again = |peer: LanPeer| now.iter().find(|same| same.node == peer.node).cloned().unwrap_or(peer);
    peers.into_iter().map(again).collect()
}

/// The number of a peer as it is printed and as arguments name it.
pub(super) fn id(peer: &LanPeer) -> String {
    format!("{:016x}", peer.node)
}

/// A text from the network in a column.
pub(super) fn safe(text: &str) -> String {
    printable(text, MOST_CHARACTERS)
}

/// A time in milliseconds.
pub(super) fn millis(time: Duration) -> impl Display {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// How far a clock is ahead of this one.
pub(super) fn clock(ahead_micros: i64) -> impl Display {
    format!("{:+.2} ms", ahead_micros as f64 / 1000.0)
}

/// Microseconds for JSON.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
