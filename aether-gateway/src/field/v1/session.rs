//! One connection: messages in, effects out.

use std::time::Duration;

use aether_field::Names;
use aether_field::core::{Limits, Operation, Seen, Stamp, WriterId};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::request::{Identity, Request, WriteRequest};
use super::{reply, version};
use crate::access::{FieldAccess, Rights};
use crate::field::counts::Refused;
use crate::field::effect::{About, Announcement, Close, Effect, Subscription, Write};
use crate::field::json;
use crate::field::limits::SecurityLimits;

/// The maximum number of requests in one message.
const MAX_BATCH: usize = 1024;

/// The maximum size of the id of a client in bytes.
const MAX_CLIENT: usize = 128;

/// The maximum size of the JSON of a participant in bytes, as in the field.
const MAX_PRESENCE: usize = 4096;

/// How far the time of a write may be ahead. The estimate that a client has of the gateway's clock is off by about half a
/// round trip. The write waits until its time has come, so that its stamp is the same wherever it arrives.
const MAX_AHEAD: Duration = Duration::from_secs(1);

/// A request is refused.
struct Refusal {
    refused: Refused,
    code: &'static str,
    message: String,
    /// The same write may be taken after this time.
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(refused: Refused, code: &'static str, message: impl Into<String>) -> Self {
        Self { refused, code, message: message.into(), retry_after: None }
    }
}

/// One connection.
#[derive(Debug)]
pub(in crate::field) struct Session {
    field: String,
    id: String,
    access: FieldAccess,
    limits: SecurityLimits,
    /// How old a write may be.
    horizon: Duration,
    /// How far clocks of replicas may differ.
    max_drift: Duration,
    token: Option<String>,
    admitted: Option<(Rights, WriterId)>,
    /// The number of requests in the last message.
    requests: usize,
}

impl Session {
    pub(in crate::field) fn new(
        field: &str,
        id: &str,
        access: FieldAccess,
        limits: SecurityLimits,
        of_field: Limits,
    ) -> Self {
        let Limits { horizon, max_drift, .. } = of_field;
        let (field, id) = (field.to_owned(), id.to_owned());
        Self { field, id, access, limits, horizon, max_drift, token: None, admitted: None, requests: 1 }
    }

    pub(in crate::field) const fn is_admitted(&self) -> bool {
        self.admitted.is_some()
    }

    /// The connection is open. The token is the one of the URL.
    pub(in crate::field) fn open(&mut self, token: Option<&str>) {
        self.token = token.map(str::to_owned);
    }

    /// The number of requests in the last message, for the rate.
    pub(in crate::field) const fn requests_received(&self) -> usize {
        self.requests
    }

    /// The client has not said hello in time.
    pub(in crate::field) fn timed_out() -> Vec<Effect> {
        vec![Effect::Count(Refused::Handshake), Effect::Close(Close::NO_HELLO)]
    }

    /// A message has come: a request, or an array of requests. `now` is in microseconds since 1970.
    pub(in crate::field) fn receive(&mut self, text: &str, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.requests = 1;
        match self.requests(text) {
            Ok(requests) => {
                self.requests = requests.len();
                for request in requests {
                    self.request(request, now, &mut effects);
                    if matches!(effects.last(), Some(Effect::Close(_))) {
                        break;
                    }
                }
            }
            Err(refusal) => self.refuse(None, &refusal, &mut effects),
        }
        effects
    }

    fn requests<'a>(&self, text: &'a str) -> Result<Vec<&'a RawValue>, Refusal> {
        let allowed = self.limits.max_message_bytes;
        if text.len() > allowed {
            let message = format!("the message has {} bytes; {allowed} are allowed", text.len());
            return Err(Refusal::new(Refused::Message, "message-size", message));
        }
        let not_json =
            |error| Refusal::new(Refused::Json, "json", format!("the message is not JSON: {error}"));
        if !text.trim_start().starts_with('[') {
            return serde_json::from_str(text).map(|request| vec![request]).map_err(not_json);
        }
        let requests: Vec<_> = serde_json::from_str(text).map_err(not_json)?;
        if requests.len() > MAX_BATCH {
            let message = format!("the message has {} requests; {MAX_BATCH} are allowed", requests.len());
            return Err(Refusal::new(Refused::Message, "message-size", message));
        }
        Ok(requests)
    }

    /// A message that is refused before the hello ends the connection, without a word about the field.
    fn refuse(&self, op: Option<u64>, refusal: &Refusal, effects: &mut Vec<Effect>) {
        effects.push(Effect::Count(refusal.refused));
        if self.is_admitted() {
            let Refusal { code, message, retry_after, .. } = refusal;
            effects.push(Effect::Reply(reply::refused(op, code, message, *retry_after)));
        } else {
            effects.push(Effect::Close(Close::NO_HELLO));
        }
    }

    fn request(&mut self, request: &RawValue, now: u64, effects: &mut Vec<Effect>) {
        let text = request.get();
        let op = serde_json::from_str::<Identity>(text).ok().and_then(|identity| identity.op);
        let result = serde_json::from_str::<Request<'_>>(text)
            .map_err(|error| {
                Refusal::new(Refused::Json, "json", format!("the request cannot be read: {error}"))
            })
            .and_then(|request| match &self.admitted {
                None => self.hello(&request, now, effects),
                Some((rights, writer)) => {
                    self.admitted_request(&request, text, rights, *writer, now, effects)
                }
            });
        if let Err(refusal) = result {
            self.refuse(op, &refusal, effects);
        }
    }

    fn hello(&mut self, request: &Request<'_>, now: u64, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        if request.kind != "hello" {
            return Err(Refusal::new(Refused::Json, "hello", "the first message is a hello"));
        }
        let client = request.client.as_deref().unwrap_or_default();
        if client.is_empty() || client.len() > MAX_CLIENT {
            return Err(Refusal::new(Refused::Json, "client", "the hello has a client id"));
        }
        let token = request.token.as_deref().or(self.token.as_deref());
        let rights = self.access.rights(&self.field, token);
        let token = token.map(str::to_owned);
        self.token = None;
        let Some(rights) = rights else {
            effects.extend([Effect::Count(Refused::Token), Effect::Close(Close::AUTH_FAILED)]);
            return Ok(());
        };
        let writer = version::writer(client);
        effects.push(Effect::Admit { writer: Some(writer), rights: rights.clone(), token });
        effects.push(Effect::Reply(reply::hello(&self.field, &self.id, now, &rights, &self.limits)));
        self.admitted = Some((rights, writer));
        Ok(())
    }

    fn admitted_request(
        &self,
        request: &Request<'_>,
        text: &str,
        rights: &Rights,
        writer: WriterId,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        match &*request.kind {
            "subscribe" => effects.push(Effect::Subscribe(self.subscription(request, rights)?)),
            "set" | "delete" | "count" | "insert" | "discard" => {
                let (write, wait) = self.write(&request.kind, text, rights, writer, now)?;
                if !wait.is_zero() {
                    effects.push(Effect::Wait(wait));
                }
                effects.push(Effect::Write(write));
            }
            "presence" => {
                let not_json =
                    |_| Refusal::new(Refused::Json, "json", "the value is not JSON that all readers take");
                let value = request.value.map(json::compact).transpose().map_err(not_json)?;
                let bytes = value.as_ref().map_or(0, String::len);
                if bytes > MAX_PRESENCE {
                    let message = format!("the presence has {bytes} bytes; {MAX_PRESENCE} are allowed");
                    return Err(Refusal::new(Refused::Presence, "value-size", message));
                }
                let about = match (&request.patterns, &value) {
                    (_, None) => None,
                    (None, Some(_)) => rights.of_participant(),
                    (Some(patterns), Some(_)) => {
                        self.check_patterns(patterns)?;
                        let wanted: Vec<_> = patterns.iter().map(|pattern| Names::of(pattern)).collect();
                        rights.of_participant().and_then(|_| rights.shared(&wanted))
                    }
                };
                if value.is_some() && about.is_none() {
                    let message = "the token does not allow to be a participant there";
                    return Err(Refusal::new(Refused::Right, "right", message));
                }
                let announcement = about.zip(value).map(|(about, value)| Announcement { about, value });
                effects.push(Effect::Announce(announcement));
            }
            "hello" => return Err(Refusal::new(Refused::Json, "hello", "there was a hello before")),
            // A message of a later version.
            _ => {}
        }
        Ok(())
    }

    fn check_patterns(&self, patterns: &[String]) -> Result<(), Refusal> {
        let (patterns, allowed) = (patterns.len(), self.limits.max_patterns);
        if patterns > allowed {
            let message = format!("the request has {patterns} patterns; {allowed} are allowed");
            return Err(Refusal::new(Refused::Message, "patterns", message));
        }
        Ok(())
    }

    fn subscription(&self, request: &Request<'_>, rights: &Rights) -> Result<Subscription, Refusal> {
        let patterns = request.patterns.as_deref().unwrap_or_default();
        self.check_patterns(patterns)?;
        let wanted: Vec<_> = patterns.iter().map(|pattern| Names::of(pattern)).collect();
        if let Some(no) =
            wanted.iter().find(|wanted| !rights.read.iter().any(|read| wanted.and(read).is_some()))
        {
            return Err(Refusal::new(
                Refused::Right,
                "right",
                format!("the token does not allow to read {no}"),
            ));
        }
        let cursor = request.epoch.as_ref().map(|epoch| epoch.to_string()).zip(request.revision);
        Ok(Subscription { names: rights.readable(&wanted), cursor, presence: request.presence })
    }

    fn write(
        &self,
        kind: &str,
        text: &str,
        rights: &Rights,
        writer: WriterId,
        now: u64,
    ) -> Result<(Write, Duration), Refusal> {
        let unread =
            |error| Refusal::new(Refused::Json, "json", format!("the write cannot be read: {error}"));
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
                let missing = || Refusal::new(Refused::Json, "json", "a count has `up`, and may have `down`");
                Operation::Count { up: request.up.ok_or_else(missing)?, down: request.down, key }
            }
            "insert" => Operation::Insert { member: self.member(&request)?, key },
            _ => Operation::Discard { member: self.member(&request)?, key },
        };
        Ok((Write { operation, about }, wait))
    }

    fn key(&self, key: &str) -> Result<String, Refusal> {
        let allowed = self.limits.max_key_bytes;
        match key.len() {
            0 => Err(Refusal::new(Refused::Key, "key-size", "a key has at least one byte")),
            bytes if bytes > allowed => {
                let message = format!("the key has {bytes} bytes; {allowed} are allowed");
                Err(Refusal::new(Refused::Key, "key-size", message))
            }
            _ => Ok(key.to_owned()),
        }
    }

    fn value(&self, value: Option<&RawValue>) -> Result<Bytes, Refusal> {
        let missing = || Refusal::new(Refused::Json, "json", "a set has a value");
        let value = json::compact(value.ok_or_else(missing)?).map_err(|json::NotJson| {
            let message =
                "the value has half of a surrogate pair, a number out of range, or more than 127 levels";
            Refusal::new(Refused::Json, "json", message)
        })?;
        if value == "null" {
            return Err(Refusal::new(Refused::Json, "null", "a field holds no null; delete the key instead"));
        }
        let (bytes, allowed) = (value.len(), self.limits.max_value_bytes);
        if bytes > allowed {
            let message = format!("the value has {bytes} bytes; {allowed} are allowed");
            return Err(Refusal::new(Refused::Value, "value-size", message));
        }
        Ok(value.into())
    }

    fn member(&self, request: &WriteRequest<'_>) -> Result<Bytes, Refusal> {
        let wrong = || Refusal::new(Refused::Json, "json", r#"`member` is a string, or {"base64": "..."}"#);
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
