//! Who may hear and emit waves through the gateway.
//!
//! Where there are tokens, only their holders may. Without tokens, everybody may who reaches a gateway that listens on the
//! loopback address or that asks clients for a certificate, and nobody elsewhere. Pages of other origins may not, unless the settings name them.

use std::sync::Arc;

use aether_core::Channel;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::{Access, WaveRights};
use crate::answer;
use crate::origin::{Origins, is_forwarded, is_of_the_page, is_to_an_address};

/// What decides.
#[derive(Debug)]
pub(crate) struct Gate {
    access: Arc<Access>,
    origins: Arc<Origins>,
    reach: Reach,
    emits: bool,
}

/// Who reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Programs of this machine.
    Loopback,
    /// Those whose certificate was checked.
    Certified,
    /// Everybody.
    Network,
}

/// Why a client may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GateError {
    #[error(
        "pages of this origin may not use the gateway; field_origins in [service.gateway] (--field-origin) allows them"
    )]
    Origin,
    #[error(
        "without a token, the gateway is used by its address, such as http://127.0.0.1:8080, and not by the name of a host"
    )]
    Host,
    #[error(
        "this gateway does not listen on the loopback address only, so hearing and emitting waves needs a token: set \
         AETHER_WAVES_TOKEN, or field_tokens in [service.gateway], and send it as `authorization: Bearer TOKEN`; or ask \
         for certificates with tls_clients"
    )]
    Open,
    #[error(
        "through a proxy, hearing and emitting waves needs a token: set AETHER_WAVES_TOKEN, or field_tokens in \
         [service.gateway], and send it as `authorization: Bearer TOKEN`"
    )]
    Proxy,
    #[error(
        "this gateway has tokens, so hearing and emitting waves needs one with the right to it (\"hear\", \"emit\"): send it \
         as `authorization: Bearer TOKEN`"
    )]
    NoToken,
    #[error("the token is not known")]
    Token,
    #[error("the token gives no right to hear waves")]
    Hear,
    #[error("the token gives no right to emit on {0}")]
    Emit(String),
    #[error("this gateway emits nothing: emit is false in [service.gateway]")]
    Off,
}

impl GateError {
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Host => "host",
            Self::Open | Self::Proxy | Self::NoToken => "no_token",
            Self::Token => "token",
            Self::Hear | Self::Emit(_) | Self::Off => "right",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Open | Self::Proxy | Self::NoToken | Self::Token => StatusCode::UNAUTHORIZED,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

impl IntoResponse for GateError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = answer::problem(status, self.reason(), &self.to_string());
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl Gate {
    pub(crate) fn new(access: Arc<Access>, origins: Arc<Origins>, reach: Reach, emits: bool) -> Self {
        Self { access, origins, reach, emits }
    }

    /// Whether a token is needed.
    pub(crate) fn needs_token(&self) -> bool {
        !self.access.is_open() || self.reach == Reach::Network
    }

    pub(crate) const fn emits(&self) -> bool {
        self.emits
    }

    /// Whether a page of this origin may ask at all: one that is allowed, or the gateway's own under whatever name.
    pub(crate) fn origin(&self, headers: &HeaderMap) -> Result<(), GateError> {
        let may = self.origins.allow(headers) || is_of_the_page(headers);
        if may { Ok(()) } else { Err(GateError::Origin) }
    }

    /// The rights of a request, by its own headers.
    pub(crate) fn rights_of(&self, headers: &HeaderMap) -> Result<WaveRights, GateError> {
        self.origin(headers)?;
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        self.rights(headers, token.map(|(_, token)| token.trim()))
    }

    /// The rights of a token, or those of everybody.
    pub(crate) fn rights(&self, headers: &HeaderMap, token: Option<&str>) -> Result<WaveRights, GateError> {
        let mut rights = if !self.access.is_open() {
            let token = token.ok_or(GateError::NoToken)?;
            self.access.wave_rights(token).ok_or(GateError::Token)?
        } else if self.reach == Reach::Network {
            return Err(GateError::Open);
        } else if self.reach == Reach::Certified {
            WaveRights::all()
        } else if is_forwarded(headers) {
            return Err(GateError::Proxy);
        } else if !is_to_an_address(headers) {
            return Err(GateError::Host);
        } else {
            WaveRights::all()
        };
        if !self.emits {
            rights.emit.clear();
        }
        Ok(rights)
    }

    /// Whether the holder may emit on a channel.
    pub(crate) fn may_emit(&self, rights: &WaveRights, channel: &Channel) -> Result<(), GateError> {
        match (self.emits, rights.may_emit(channel)) {
            (false, _) => Err(GateError::Off),
            (true, false) => Err(GateError::Emit(channel.to_string())),
            (true, true) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(access: Access, is_loopback: bool, emits: bool) -> Gate {
        let reach = if is_loopback { Reach::Loopback } else { Reach::Network };
        Gate::new(Arc::new(access), Arc::default(), reach, emits)
    }

    fn headers(host: &str, token: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("bearer {token}").parse().unwrap());
        }
        headers
    }

    #[test]
    fn on_loopback_everybody_may_who_uses_an_address() {
        let gate = gate(Access::default(), true, true);
        assert_eq!(gate.rights_of(&headers("127.0.0.1:8080", None)), Ok(WaveRights::all()));
        // A page of this name may have been loaded from elsewhere.
        assert_eq!(gate.rights_of(&headers("rebound.example", None)), Err(GateError::Host));
        let mut foreign = headers("127.0.0.1:8080", None);
        foreign.insert(header::ORIGIN, "https://evil.example".parse().unwrap());
        assert_eq!(gate.rights_of(&foreign), Err(GateError::Origin));
        // A proxy on this machine is on the loopback address, and those behind it are not.
        let mut forwarded = headers("127.0.0.1:8080", None);
        forwarded.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
        assert_eq!(gate.rights_of(&forwarded), Err(GateError::Proxy));
    }

    #[test]
    fn the_own_page_under_a_name_may_ask_and_hears_with_a_token_only() {
        let mut by_name = headers("bus.example:8080", None);
        by_name.insert(header::ORIGIN, "http://bus.example:8080".parse().unwrap());
        let open = gate(Access::default(), true, true);
        assert_eq!((open.origin(&by_name), open.rights_of(&by_name)), (Ok(()), Err(GateError::Host)));
        let closed = gate(Access::default().waves_token("s3cret").unwrap(), true, true);
        assert_eq!(closed.rights_of(&by_name), Err(GateError::NoToken));
        assert_eq!(closed.rights(&by_name, Some("s3cret")), Ok(WaveRights::all()));
    }

    #[test]
    fn elsewhere_and_with_tokens_a_token_is_needed() {
        let open = gate(Access::default(), false, true);
        assert_eq!(open.rights_of(&headers("192.0.2.1", Some("x"))), Err(GateError::Open));
        let closed = gate(Access::default().waves_token("s3cret").unwrap(), true, true);
        assert_eq!(closed.rights_of(&headers("127.0.0.1", None)), Err(GateError::NoToken));
        assert_eq!(closed.rights_of(&headers("127.0.0.1", Some("guess"))), Err(GateError::Token));
        assert_eq!(closed.rights_of(&headers("bus.example", Some("s3cret"))), Ok(WaveRights::all()));
        assert!(open.needs_token() && closed.needs_token());
        // A token for fields gives no right to waves, and closes them.
        let fields = gate(Access::default().token("field").unwrap(), true, true);
        assert_eq!(fields.rights_of(&headers("127.0.0.1", None)), Err(GateError::NoToken));
        let rights = fields.rights_of(&headers("127.0.0.1", Some("field"))).unwrap();
        assert_eq!(rights, WaveRights::default());
    }

    #[test]
    fn who_has_shown_a_certificate_may_under_any_name_but_not_for_another_page() {
        let gate = Gate::new(Arc::default(), Arc::default(), Reach::Certified, true);
        let mut proxied = headers("bus.example", None);
        proxied.insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
        assert_eq!(gate.rights_of(&proxied), Ok(WaveRights::all()));
        assert!(!gate.needs_token());
        proxied.insert(header::ORIGIN, "https://evil.example".parse().unwrap());
        assert_eq!(gate.rights_of(&proxied), Err(GateError::Origin));
    }

    #[test]
    fn a_gateway_that_emits_nothing_still_lets_hear() {
        let gate = gate(Access::default(), true, false);
        let rights = gate.rights_of(&headers("127.0.0.1", None)).unwrap();
        let channel = Channel::new("a").unwrap();
        assert!(rights.may_hear(&channel));
        assert_eq!(gate.may_emit(&rights, &channel), Err(GateError::Off));
    }
}
