//! One connection: messages in, effects out.

use aether_field::Names;
use aether_field::core::{Limits, WriterId};
use serde_json::value::RawValue;

use super::request::{Identity, Request};
use super::writing::Writing;
use super::{reply, version};
use crate::access::{FieldAccess, NoRights, Rights};
use crate::field::counts::Refused;
use crate::field::effect::{Announcement, Close, Effect, Since, Subscription};
use crate::field::json;
use crate::field::limits::SecurityLimits;
use crate::field::refusal::Refusal;
use crate::field::selection::{Selection, owner_patterns};

/// The maximum number of requests in one message.
const MAX_BATCH: usize = 1024;

/// The maximum size of the id of a client in bytes.
const MAX_CLIENT: usize = 128;

/// The maximum size of the JSON of a participant in bytes, as in the field.
const MAX_PRESENCE: usize = 4096;
/// The maximum size of the name of one of several participants, in bytes.
const MAX_AS: usize = 64;

/// One connection.
#[derive(Debug)]
pub(in crate::field) struct Session {
    field: String,
    id: String,
    access: FieldAccess,
    writing: Writing,
    token: Option<String>,
    admitted: Option<Admitted>,
    /// The number of requests in the last message.
    requests: usize,
}

/// What is known of a client after its hello.
#[derive(Debug)]
struct Admitted {
    writer: WriterId,
    rights: Rights,
    /// The names and owners that it has asked for.
    patterns: Vec<Names>,
    owners: Vec<Names>,
}

impl Session {
    pub(in crate::field) fn new(
        field: &str,
        id: &str,
        access: FieldAccess,
        limits: SecurityLimits,
        of_field: &Limits,
    ) -> Self {
        let writing = Writing::new(limits, of_field);
        let (field, id) = (field.to_owned(), id.to_owned());
        Self { field, id, access, writing, token: None, admitted: None, requests: 1 }
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
        let allowed = self.writing.limits.max_message_bytes;
        if text.len() > allowed {
            let message = format!("the message has {} bytes; {allowed} are allowed", text.len());
            return Err(Refusal::new(Refused::Message, "message-size", message));
        }
        let not_json = |error| Refusal::json(format!("the message is not JSON: {error}"));
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
            .map_err(|error| Refusal::json(format!("the request cannot be read: {error}")))
            .and_then(|request| match self.admitted.take() {
                None => self.hello(&request, now, effects),
                Some(mut admitted) => {
                    let result = self.admitted_request(&request, text, &mut admitted, now, effects);
                    self.admitted = Some(admitted);
                    result
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
        if let Some(token) = &request.token {
            self.token = Some(token.to_string());
        }
        let rights = match self.access.rights(&self.field, self.token.as_deref()) {
            Ok(rights) => rights,
            Err(no_rights) => {
                effects.extend(turned_away(no_rights));
                return Ok(());
            }
        };
        let writer = version::writer(client);
        effects.push(self.admission(writer, &rights));
        effects.push(Effect::Reply(reply::hello(&self.field, &self.id, now, &rights, &self.writing.limits)));
        self.admitted = Some(Admitted { writer, rights, patterns: Vec::new(), owners: Vec::new() });
        Ok(())
    }

    fn admission(&self, writer: WriterId, rights: &Rights) -> Effect {
        Effect::Admit { writer: Some(writer), rights: rights.clone(), token: self.token.clone() }
    }

    /// Looks up the rights of the token again: they may have changed, or the token may be gone.
    pub(in crate::field) fn check_rights(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(mut admitted) = self.admitted.take() {
            self.renew(&mut admitted, false, &mut effects);
            self.admitted = Some(admitted);
        }
        effects
    }

    /// Takes the present rights of the token.
    fn renew(&self, admitted: &mut Admitted, answers: bool, effects: &mut Vec<Effect>) {
        let rights = match self.access.rights(&self.field, self.token.as_deref()) {
            Ok(rights) => rights,
            Err(no_rights) => return effects.extend(turned_away(no_rights)),
        };
        let is_same = rights == admitted.rights;
        if !is_same || answers {
            effects.push(self.admission(admitted.writer, &rights));
            effects.push(Effect::Reply(reply::rights(&rights)));
        }
        if !is_same {
            // It may concern names that the client may not read any more.
            effects.push(Effect::Leave);
            admitted.rights = rights;
            if !admitted.patterns.is_empty() || !admitted.owners.is_empty() {
                let selection = admitted.selection();
                effects.push(Effect::Subscribe(Subscription {
                    selection,
                    since: Since::Before,
                    presence: None,
                }));
            }
        }
    }

    fn admitted_request(
        &mut self,
        request: &Request<'_>,
        text: &str,
        admitted: &mut Admitted,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        match &*request.kind {
            "subscribe" => effects.push(Effect::Subscribe(self.subscription(request, admitted)?)),
            "set" | "delete" | "count" | "insert" | "discard" => {
                let Admitted { rights, writer, .. } = admitted;
                let (write, wait) = self.writing.write(&request.kind, text, rights, *writer, now)?;
                if !wait.is_zero() {
                    effects.push(Effect::Wait(wait));
                }
                effects.push(Effect::Write(write));
            }
            "own" => effects.push(Effect::Submit(self.writing.owned(text, &admitted.rights)?)),
            "presence" => {
                let announcement = self.announcement(request, &admitted.rights)?;
                let name = request.participant.as_ref().map(ToString::to_string);
                effects.push(Effect::Announce(name, announcement));
            }
            "ping" => effects.push(Effect::Reply(reply::pong(request.id, now))),
            "token" => {
                let missing = || Refusal::json("a token has `token`");
                self.token = Some(request.token.as_ref().ok_or_else(missing)?.to_string());
                self.renew(admitted, true, effects);
            }
            "hello" => return Err(Refusal::new(Refused::Json, "hello", "there was a hello before")),
            // A message of a later version.
            _ => {}
        }
        Ok(())
    }

    fn announcement(&self, request: &Request<'_>, rights: &Rights) -> Result<Option<Announcement>, Refusal> {
        let not_json = |_| Refusal::json("the value is not JSON that all readers take");
        let value = request.value.map(json::compact).transpose().map_err(not_json)?;
        let Some(value) = value else { return Ok(None) };
        if let Some(bytes) = request.participant.as_ref().map(|name| name.len()).filter(|len| *len > MAX_AS) {
            let message = format!("`as` has {bytes} bytes; {MAX_AS} are allowed");
            return Err(Refusal::new(Refused::Presence, "key-size", message));
        }
        if value.len() > MAX_PRESENCE {
            let message = format!("the presence has {} bytes; {MAX_PRESENCE} are allowed", value.len());
            return Err(Refusal::new(Refused::Presence, "value-size", message));
        }
        let about = match &request.patterns {
            None => rights.of_participant(),
            Some(patterns) => {
                self.check_patterns(patterns.len())?;
                let wanted: Vec<_> = patterns.iter().map(|pattern| Names::of(pattern)).collect();
                rights.of_participant().and_then(|_| rights.shared(&wanted))
            }
        };
        let about = about.ok_or_else(|| {
            Refusal::new(Refused::Right, "right", "the token does not allow to be a participant there")
        })?;
        Ok(Some(Announcement { about, value }))
    }

    fn check_patterns(&self, patterns: usize) -> Result<(), Refusal> {
        let allowed = self.writing.limits.max_patterns;
        if patterns > allowed {
            let message = format!("there are {patterns} patterns; {allowed} are allowed");
            return Err(Refusal::new(Refused::Message, "patterns", message));
        }
        Ok(())
    }

    /// A new subscription, or, without `patterns` and `owners`, a change of the one before.
    fn subscription(&self, request: &Request<'_>, admitted: &mut Admitted) -> Result<Subscription, Refusal> {
        let names = |texts: &Option<Vec<String>>| -> Vec<_> {
            texts.iter().flatten().map(|pattern| Names::of(pattern)).collect()
        };
        let is_change = request.patterns.is_none() && request.owners.is_none();
        let (patterns, owners) = match is_change {
            true => {
                let removed = names(&request.remove);
                let kept = admitted.patterns.iter().filter(|names| !removed.contains(names)).cloned();
                let mut patterns: Vec<_> = kept.collect();
                for added in names(&request.add) {
                    if !patterns.contains(&added) {
                        patterns.push(added);
                    }
                }
                (patterns, admitted.owners.clone())
            }
            false => (names(&request.patterns), names(&request.owners)),
        };
        self.check_patterns(patterns.len() + owners.len())?;
        let of_owners = owner_patterns(&owners);
        let is_closed = |wanted: &&Names| !admitted.rights.read.iter().any(|read| wanted.and(read).is_some());
        if let Some(no) = patterns.iter().chain(&of_owners).find(is_closed) {
            let message = format!("the token does not allow to read {no}");
            return Err(Refusal::new(Refused::Right, "right", message));
        }
        (admitted.patterns, admitted.owners) = (patterns, owners);
        let since = match (&request.epoch, request.revision) {
            _ if is_change => Since::Before,
            (Some(epoch), Some(revision)) => Since::Cursor(epoch.to_string(), revision),
            _ => Since::Start,
        };
        let presence = if is_change { request.presence } else { Some(request.presence.unwrap_or_default()) };
        Ok(Subscription { selection: admitted.selection(), since, presence })
    }
}

impl Admitted {
    fn selection(&self) -> Selection {
        Selection::readable(&self.patterns, &self.owners, &self.rights)
    }
}

/// The end of a connection whose token gives no rights.
fn turned_away(no_rights: NoRights) -> [Effect; 2] {
    match no_rights {
        NoRights::NotKnown => [Effect::Count(Refused::Token), Effect::Close(Close::NOT_KNOWN)],
        NoRights::Nothing => [Effect::Count(Refused::Right), Effect::Close(Close::NO_RIGHT)],
    }
}
