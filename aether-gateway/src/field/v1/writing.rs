//! The writes of clients: from JSON to operations within the bounds.

use std::time::Duration;

use aether_field::core::{Change, Entry, Key, Limits, Operation, Seen, Stamp, WriterId};
use base64::Engine as _;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::request::{OwnedRequest, WriteRequest};
use super::version;
use crate::access::Rights;
use crate::field::counts::Refused;
use crate::field::effect::{About, OwnedWrite, Write};
use crate::field::limits::SecurityLimits;
use crate::field::refusal::{Refusal, check_key, value_of};
use crate::field::selection::owner_pattern;

/// How far the time of a write may be ahead. The estimate that a client has of the gateway's clock is off by about half a
/// round trip. The write waits until its time has come, so that its stamp is the same wherever it arrives.
const MAX_AHEAD: Duration = Duration::from_secs(1);

/// The bounds of a write.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) limits: SecurityLimits,
    /// How old a write may be.
    horizon: Duration,
    /// How far clocks of replicas may differ.
    max_drift: Duration,
}

impl Writing {
    pub(super) fn new(limits: SecurityLimits, of_field: &Limits) -> Self {
        Self { limits, horizon: of_field.horizon, max_drift: of_field.max_drift }
    }

    /// A write, and how long it has to wait for its time. `now` is in microseconds since 1970.
    pub(super) fn write(
        &self,
        kind: &str,
        text: &str,
        rights: &Rights,
        writer: WriterId,
        now: u64,
    ) -> Result<(Write, Duration), Refusal> {
        let unread = |error| Refusal::json(format!("the write cannot be read: {error}"));
        let request: WriteRequest<'_> = serde_json::from_str(text).map_err(unread)?;
        let key = self.key(&request.key)?;
        if !rights.may_write(&key) {
            return Err(Refusal::new(
                Refused::Right,
                "right",
                format!("the token does not allow to write {key:?}"),
            ));
        }
        let (micros, wait) = self.time(request.at, now)?;
        // Of the writes of one millisecond the later one has the greater number.
        let logical = (request.op & u64::from(u32::MAX)) as u32;
        let seen = match &request.replaces {
            None => Seen::Unsaid,
            Some(None) => Seen::Nothing,
            Some(Some(text)) => Seen::Version(version::read(text).ok_or_else(|| {
                Refusal::new(
                    Refused::Json,
                    "version",
                    "`replaces` is null or a version that the gateway has sent",
                )
            })?),
        };
        let stamp = Stamp { micros, logical, writer };
        let about = Some(About { op: request.op, stamp, seen, durable: request.durable });
        let operation = match kind {
            "set" => Operation::Set { value: self.value(request.value)?, key },
            "delete" => Operation::Delete { key },
            "count" => {
                let missing = || Refusal::json("a count has `up`, and may have `down`");
                Operation::Count { up: request.up.ok_or_else(missing)?, down: request.down, key }
            }
            "insert" => Operation::Insert { member: self.member(&request)?, key },
            _ => Operation::Discard { member: self.member(&request)?, key },
        };
        Ok((Write { operation, about }, wait))
    }

    /// An entry that its owner has signed, in the bytes of `docs/protocol/field-owned.md`. The field checks the signature.
    pub(super) fn owned(&self, text: &str, rights: &Rights) -> Result<OwnedWrite, Refusal> {
        let unread = |error| Refusal::json(format!("the entry cannot be read: {error}"));
        let request: OwnedRequest<'_> = serde_json::from_str(text).map_err(unread)?;
        let owner = self.key(&request.owner)?;
        if !rights.may_write(&owner_pattern(&owner)) {
            let message = format!("the token does not allow to pass on what {owner:?} writes");
            return Err(Refusal::new(Refused::Right, "right", message));
        }
        let stamp = version::read(&request.version).ok_or_else(|| {
            Refusal::new(
                Refused::Json,
                "version",
                "`version` is the stamp of the statement as MICROS.COUNTER@WRITER",
            )
        })?;
        let decoded = |text: &str| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).map(Bytes::from);
            bytes.map_err(|_| Refusal::json("`entry` and `certificate` are base64"))
        };
        let (key, value) = match (&request.entry, &request.certificate, &request.key) {
            (Some(entry), None, Some(key)) => {
                (Key::Owned(owner.into(), self.key(key)?.into()), decoded(entry)?)
            }
            (Some(floor), None, None) => (Key::Floor(owner.into()), decoded(floor)?),
            (None, Some(certificate), None) => (Key::Binding(owner.into()), decoded(certificate)?),
            _ => {
                return Err(Refusal::json(
                    "an own has `entry` with `key`, `entry` alone for a floor, or `certificate` alone",
                ));
            }
        };
        let entry = Entry { stamp, replaces: None, value: Some(value) };
        Ok(OwnedWrite { op: request.op, change: Change { key, entry }, durable: request.durable })
    }

    fn key(&self, key: &str) -> Result<String, Refusal> {
        check_key(key, &self.limits).map(|()| key.to_owned())
    }

    fn value(&self, value: Option<&RawValue>) -> Result<Bytes, Refusal> {
        value_of(value.ok_or_else(|| Refusal::json("a set has a value"))?, &self.limits)
    }

    fn member(&self, request: &WriteRequest<'_>) -> Result<Bytes, Refusal> {
        let wrong = || Refusal::json(r#"`member` is a string, or {"base64": "..."}"#);
        let member = request.member.as_ref().and_then(|member| member.to_bytes()).ok_or_else(wrong)?;
        let (bytes, allowed) = (member.len(), self.limits.max_key_bytes);
        if bytes > allowed {
            let message = format!("the member has {bytes} bytes; {allowed} are allowed");
            return Err(Refusal::new(Refused::Key, "key-size", message));
        }
        Ok(member)
    }

    /// The time of a write in microseconds since 1970, and how long it has to wait for it.
    fn time(&self, at: f64, now: u64) -> Result<(u64, Duration), Refusal> {
        let micros = (at * 1000.0).round();
        if !(0.0..9.0e15).contains(&micros) {
            return Err(Refusal::new(Refused::Time, "time", "`at` is in milliseconds since 1970"));
        }
        let micros = micros as u64;
        let ahead = Duration::from_micros(micros.saturating_sub(now));
        if ahead > MAX_AHEAD {
            let message = format!(
                "the write is {ahead:?} ahead of the clock of the gateway; {MAX_AHEAD:?} are allowed"
            );
            // A client that comes from a gateway with a faster clock need not give its writes up.
            let retry_after = (ahead <= self.max_drift).then(|| ahead - MAX_AHEAD);
            let refusal = Refusal::new(Refused::Time, "time-ahead", message);
            return Err(Refusal { retry_after, ..refusal });
        }
        let age = Duration::from_micros(now.saturating_sub(micros));
        if age > self.horizon {
            let message = format!("the write is {age:?} old; {:?} are allowed", self.horizon);
            return Err(Refusal::new(Refused::Time, "time-old", message));
        }
        Ok((micros, ahead))
    }
}
