//! The account of one field: clients, and what was refused, coalesced and dropped.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::audit::Audit;
use crate::gate::GateError;

/// Why something of a client was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// A page of another origin.
    Origin,
    /// The name of a host instead of an address, where there is no token.
    Host,
    /// Through a proxy, where there is no token.
    NoToken,
    /// Too many connections.
    Total,
    /// Too many connections of one source.
    Source,
    /// No token in time.
    Handshake,
    /// A wrong token.
    Token,
    /// A frame over the bound.
    Frame,
    /// A message over the bound.
    Message,
    /// Not JSON, or not of the protocol.
    Json,
    /// No key, an empty one, or one over the bound.
    Key,
    /// A value over the bound.
    Value,
    /// The token does not give the right.
    Right,
    /// A time in the future, or older than the horizon.
    Time,
    /// The field refused it.
    Field,
    /// The holder of the token, or the address, has its share of the entries.
    Share,
    /// Presence over the bound.
    Presence,
    /// Requests over plain HTTP beyond the rate.
    Rate,
}

impl Refused {
    pub(super) const ALL: [(Self, &'static str); 18] = [
        (Self::Origin, "origin"),
        (Self::Host, "host"),
        (Self::NoToken, "no_token"),
        (Self::Total, "connections_total"),
        (Self::Source, "connections_per_source"),
        (Self::Handshake, "handshake_timeout"),
        (Self::Token, "token"),
        (Self::Frame, "frame_size"),
        (Self::Message, "message_size"),
        (Self::Json, "json"),
        (Self::Key, "key"),
        (Self::Value, "value_size"),
        (Self::Right, "right"),
        (Self::Time, "time"),
        (Self::Field, "field"),
        (Self::Share, "share"),
        (Self::Presence, "presence"),
        (Self::Rate, "rate"),
    ];

    /// The counter of clients that the gate refuses for this reason.
    pub(super) const fn of(error: &GateError) -> Self {
        match error {
            GateError::Host => Self::Host,
            _ => Self::NoToken,
        }
    }
}

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It did not read.
    Stalled,
    /// It gave no sign of life.
    Silent,
}

impl Dropped {
    pub(super) const ALL: [(Self, &'static str); 2] = [(Self::Stalled, "stalled"), (Self::Silent, "silent")];
}

/// The account, since the gateway started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) admitted: AtomicU64,
    pub(super) refused: [AtomicU64; Refused::ALL.len()],
    pub(super) dropped: [AtomicU64; Dropped::ALL.len()],
    pub(super) coalesced: AtomicU64,
    pub(super) resynced: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) superseded: AtomicU64,
    pub(super) unreadable: AtomicU64,
    audit: Audit,
}

/// One reading of an account.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FieldLine {
    pub(crate) field: String,
    pub(crate) entries: u64,
    pub(crate) replicas: usize,
    pub(crate) clients: usize,
    pub(crate) queued_changes: usize,
    pub(crate) admitted_clients: u64,
    pub(crate) writes: u64,
    pub(crate) superseded_writes: u64,
    pub(crate) coalesced_changes: u64,
    pub(crate) resynced_clients: u64,
    pub(crate) unreadable_values: u64,
    /// Changes of other replicas that the replica of the gateway refused.
    pub(crate) refused_changes: BTreeMap<&'static str, u64>,
    /// Events of the replica of the gateway.
    pub(crate) events: BTreeMap<&'static str, u64>,
    pub(crate) refused: BTreeMap<&'static str, u64>,
    pub(crate) dropped_clients: BTreeMap<&'static str, u64>,
}

impl FieldLine {
    /// The refusals and the clients given up, by reason, without zeros.
    pub(crate) fn troubles(&self) -> Vec<(String, &u64)> {
        let all = self.refused.iter().chain(&self.dropped_clients).filter(|(_, number)| **number > 0);
        all.map(|(reason, number)| (reason.replace('_', " "), number)).collect()
    }
}

impl Counts {
    pub(super) fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, refused: Refused) {
        Self::one(&self.refused[refused as usize]);
    }

    /// Counts what a client may not do, and names it in the log.
    pub(super) fn refuse_client(&self, refused: Refused, client: IpAddr, field: &str) {
        self.refuse(refused);
        let (reason, error) = match refused {
            Refused::Token => ("token", "the token is not known"),
            Refused::Right => ("right", "the token does not give the right"),
            _ => return,
        };
        self.audit.refused(reason, Some(client), field, error);
    }

    pub(super) fn give_up(&self, dropped: Dropped) {
        Self::one(&self.dropped[dropped as usize]);
    }

    pub(super) fn read(&self, field: &str) -> FieldLine {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let refused = Refused::ALL.map(|(refused, name)| (name, number(&self.refused[refused as usize])));
        let dropped = Dropped::ALL.map(|(dropped, name)| (name, number(&self.dropped[dropped as usize])));
        FieldLine {
            field: field.to_owned(),
            entries: 0,
            replicas: 0,
            clients: 0,
            queued_changes: 0,
            admitted_clients: number(&self.admitted),
            writes: number(&self.written),
            superseded_writes: number(&self.superseded),
            coalesced_changes: number(&self.coalesced),
            resynced_clients: number(&self.resynced),
            unreadable_values: number(&self.unreadable),
            refused_changes: BTreeMap::new(),
            events: BTreeMap::new(),
            refused: refused.into(),
            dropped_clients: dropped.into(),
        }
    }
}
