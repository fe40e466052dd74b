//! A peer as text and as JSON.

use aether::lan::LanPeer;
use serde_json::{Value, json};

use super::joined::{clock, id, micros, millis, safe};

const HEAD: [&str; 9] =
    ["NAME", "MACHINE", "ID", "PROTOCOL", "PATTERNS", "GROUPS", "ROUND TRIP", "CLOCK", "SEEN"];

/// The columns of a peer.
pub(super) fn row(peer: &LanPeer) -> [String; 9] {
    let unknown = || "?".to_owned();
    [
        safe(&peer.name),
        safe(&peer.machine),
        id(peer),
        peer.protocol.to_string(),
        peer.subscriptions.to_string(),
        peer.groups.to_string(),
        peer.round_trip.map_or_else(unknown, |time| millis(time).to_string()),
        peer.clock_ahead_micros.map_or_else(unknown, |ahead| clock(ahead).to_string()),
        format!("{:.1?}", peer.since),
    ]
}

/// The same for programs.
pub(super) fn record(peer: &LanPeer) -> Value {
    json!({
        "name": peer.name,
        "machine": peer.machine,
        "id": id(peer),
        "protocol": peer.protocol,
        "patterns": peer.subscriptions,
        "groups": peer.groups,
        "round_trip_micros": peer.round_trip.map(micros),
        "clock_ahead_micros": peer.clock_ahead_micros,
        "seen_micros": micros(peer.since),
    })
}

/// A table of peers, with a line of heads.
pub(super) fn table(peers: &[LanPeer]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(peers.iter().map(row));
    // Behind name, machine and id there are numbers.
    crate::table::table(&rows, &(3..=8))
}
