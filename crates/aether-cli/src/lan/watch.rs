//! `aether lan peers --watch`: one line for each peer that comes, changes what it hears, or leaves.

use std::collections::BTreeMap;

use aether::lan::{LanPeer, LanView};
use aether_service::CancellationToken;

use super::columns::{record, row};
use super::joined::measured;
use crate::error::CommandError;
use crate::output::Output;

/// Prints changes until the command is interrupted.
pub(super) async fn watch(
    view: &LanView,
    is_json: bool,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    let Some(mut changes) = view.changes() else { return Ok(()) };
    let (mut output, mut known) = (Output::stdout(), BTreeMap::new());
    loop {
        changes.borrow_and_update();
        for (event, peer) in compare(&mut known, view.peers()) {
            let Some(peer) = (match event {
                "came" => {
                    let measuring = shutdown.run_until_cancelled(measured(view, vec![peer])).await;
                    measuring.and_then(|mut peers| peers.pop())
                }
                _ => Some(peer),
            }) else {
                return Ok(());
            };
            if is_json {
                let mut record = record(&peer);
                record["event"] = event.into();
                output.line(record)?;
            } else {
                let [name, machine, id, protocol, patterns, groups, round_trip, clock, seen] = row(&peer);
                output.line(format_args!(
                    "{event:<7}  {name} on {machine}  {id}  protocol {protocol}, {patterns} patterns, {groups} groups, round trip {round_trip}, clock {clock}, seen {seen}"
                ))?;
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// The differences from the known peers, which become the present ones.
fn compare(known: &mut BTreeMap<u64, LanPeer>, now: Vec<LanPeer>) -> Vec<(&'static str, LanPeer)> {
    let now: BTreeMap<u64, LanPeer> = now.into_iter().map(|peer| (peer.node, peer)).collect();
    let hears = |peer: &LanPeer| (peer.subscriptions, peer.groups);
    let mut events = Vec::new();
    for (node, peer) in &*known {
        if !now.contains_key(node) {
            events.push(("left", peer.clone()));
        }
    }
    for (node, peer) in &now {
        match known.get(node) {
            None => events.push(("came", peer.clone())),
            Some(before) if hears(before) != hears(peer) => events.push(("changed", peer.clone())),
            Some(_) => {}
        }
    }
    *known = now;
    events
}
