//! One request to a field over plain HTTP: who asks, and what it may do.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aether_field::Names;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;

use super::counts::Refused;
use super::denied::Denied;
use super::hub::Hub;
use super::hubs::Hubs;
use super::selection::Selection;
use super::shares::Holder;
use crate::access::{FieldAccess, NoRights, Rights};
use crate::admission::{Busy, Permit};
use crate::answer;
use crate::gate::{Caller, GateError, address, bearer};

/// A client that was admitted to a field for one request.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) hub: Arc<Hub>,
    pub(super) rights: Rights,
    pub(super) holder: Holder,
    pub(super) headers: HeaderMap,
    query: Query,
    access: FieldAccess,
    token: Option<String>,
    source: IpAddr,
}

impl FromRequestParts<Hubs> for Visit {
    type Rejection = Denied;

    /// Admits the sender of a request: by the origin of its page, by its token (`authorization: Bearer`, or `auth_token`
    /// in the address), and at the rate of the field.
    async fn from_request_parts(parts: &mut Parts, hubs: &Hubs) -> Result<Self, Denied> {
        let params = Path::<BTreeMap<String, String>>::from_request_parts(parts, hubs).await;
        let Path(params) = params.map_err(|rejection| rejection.into_response())?;
        // The server knows the address of every client.
        let source = address(&parts.extensions).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let caller = Caller::new(parts.headers.clone(), &parts.extensions);
        let field = params.get("name").map_or("", String::as_str);
        Self::admit(hubs, field, caller, source, Query::of(parts.uri.query())?)
    }
}

impl Visit {
    fn admit(hubs: &Hubs, field: &str, caller: Caller, source: IpAddr, query: Query) -> Result<Self, Denied> {
        let hub = hubs.hub(field, caller.headers())?;
        let token = bearer(caller.headers()).or(query.token.as_deref()).map(str::to_owned);
        let access = FieldAccess::new(Arc::clone(&hub.access), caller.certificate());
        let rights = match access.rights(field, token.as_deref()) {
            Ok(rights) => rights,
            // It is answered after a pause, and logged.
            Err(NoRights::NotKnown) if token.is_some() => {
                hub.counts.refuse(Refused::Token);
                return Err(GateError::Token.into_response().into());
            }
            Err(NoRights::NotKnown) => {
                hub.counts.refuse(Refused::NoToken);
                let text = "this field needs a token: send it as `authorization: Bearer TOKEN`";
                let mut response = answer::problem(StatusCode::UNAUTHORIZED, "no_token", text);
                let scheme = header::HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
                return Err(response.into());
            }
            Err(NoRights::Nothing) => {
                hub.counts.refuse_client(Refused::Right, source, field);
                return Err(forbidden("the token gives no right in this field"));
            }
        };
        let holder = Holder::of(token.as_deref(), source);
        let headers = caller.headers().clone();
        let visit = Self { hub, rights, holder, headers, query, access, token, source };
        if let Err(wait) = visit.hub.visits.take(source) {
            visit.hub.counts.refuse(Refused::Rate);
            let text =
                "this address asks faster than messages_per_second; WebSocket takes arrays of requests";
            let mut response = answer::problem(StatusCode::TOO_MANY_REQUESTS, "rate", text);
            let seconds = header::HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            return Err(response.into());
        }
        Ok(visit)
    }

    /// The part of the field that the request asks for.
    pub(super) fn selection(&self) -> Result<Selection, Denied> {
        let (query, allowed) = (&self.query, self.hub.limits.max_patterns);
        if query.patterns.len() + query.owners.len() > allowed {
            self.hub.counts.refuse(Refused::Message);
            let text = format!("at most {allowed} patterns and owners are allowed");
            return Err(Denied::new(StatusCode::BAD_REQUEST, "patterns", &text));
        }
        let selection = Selection::readable(&query.patterns, &query.owners, &self.rights);
        match selection.is_empty() {
            true => Err(self.no_right("the token does not allow to read this")),
            false => Ok(selection),
        }
    }

    /// Refuses what the token does not allow.
    pub(super) fn no_right(&self, text: &str) -> Denied {
        self.hub.counts.refuse_client(Refused::Right, self.source, &self.hub.name);
        forbidden(text)
    }

    /// Whether the token still gives the same rights.
    pub(super) fn still_may(&self) -> bool {
        self.access.rights(&self.hub.name, self.token.as_deref()).as_ref() == Ok(&self.rights)
    }

    /// A place for an answer that lasts, among the connections to the field.
    pub(super) fn enter(&self) -> Result<Permit, Denied> {
        self.hub.admission.enter(self.source).map_err(|busy| {
            self.hub.counts.refuse(if busy == Busy::Total { Refused::Total } else { Refused::Source });
            let text = "too many clients are connected to the field; close one, or ask again later";
            Denied::new(StatusCode::SERVICE_UNAVAILABLE, busy.as_str(), text)
        })
    }
}

fn forbidden(text: &str) -> Denied {
    Denied::new(StatusCode::FORBIDDEN, "right", text)
}

/// The parameters of a request.
#[derive(Debug, Default)]
struct Query {
    patterns: Vec<Names>,
    owners: Vec<Names>,
    token: Option<String>,
}

impl Query {
    /// Reads `pattern` and `owner`, each any number of times, and `auth_token`. Without the first two, all names are meant.
    fn of(query: Option<&str>) -> Result<Self, Denied> {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "pattern" => read.patterns.push(Names::of(&value)),
                "owner" => read.owners.push(Names::of(&value)),
                "auth_token" => read.token = Some(value.into_owned()),
                _ => {
                    let text = "use pattern and owner, each any number of times, and auth_token";
                    return Err(Denied::new(StatusCode::BAD_REQUEST, "parameter", text));
                }
            }
        }
        if read.patterns.is_empty() && read.owners.is_empty() {
            read.patterns.push(Names::of("*"));
        }
        Ok(read)
    }
}
