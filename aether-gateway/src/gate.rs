//! The gate: the rights to hear and emit waves through the gateway, to read its names and numbers, and to connect to
//! its fields.
//!
//! As soon as there is any token, only holders of one may: to read, any; to hear and to emit, one that has this right.
//! Without tokens, everybody may who reaches a gateway that listens on the loopback address, and nobody elsewhere;
//! through a proxy and under the name of a host, that needs a token, too, because such a request may come from
//! anywhere. Where the gateway asks clients for a certificate, all of them read, and the listed ones hear and emit what
//! is listed. Pages of other origins may not, unless the settings name them.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use aether_core::Channel;
use aether_metrics::{ClientAddress, ClientCertificate};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::{Access, Fingerprint, WaveRights};
use crate::answer;
use crate::origin::{Origins, is_forwarded, is_of_the_page, is_to_an_address};

/// The state that a decision depends on.
#[derive(Debug)]
pub(crate) struct Gate {
    access: Arc<Access>,
    origins: Arc<Origins>,
    reach: Reach,
    is_insecure: bool,
    emits: bool,
}

/// The networks from which the gateway can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Programs of this machine.
    Loopback,
    /// Those whose certificate was checked.
    Certified,
    /// Everybody.
    Network,
}

/// A requester: the headers of a request, and the certificate that its connection has shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    headers: HeaderMap,
    certificate: Option<Fingerprint>,
    address: Option<IpAddr>,
}

impl Caller {
    pub(crate) fn new(headers: HeaderMap, extensions: &Extensions) -> Self {
        let certificate = extensions.get::<ClientCertificate>();
        let certificate = certificate.map(|certificate| Fingerprint::of(certificate.der()));
        Self { headers, certificate, address: address(extensions) }
    }

    pub(crate) const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub(crate) const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) const fn certificate(&self) -> Option<Fingerprint> {
        self.certificate
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::new(parts.headers.clone(), &parts.extensions))
    }
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
        "through a proxy, the gateway is used with a token only: set AETHER_WAVES_TOKEN, or field_tokens in \
         [service.gateway], and send it as `authorization: Bearer TOKEN`; for fields, set AETHER_FIELD_TOKEN, and send it as \
         ?auth_token=TOKEN"
    )]
    Proxy,
    #[error(
        "this gateway has tokens, so hearing and emitting waves needs one with the right to it (\"hear\", \"emit\"): send it \
         as `authorization: Bearer TOKEN`"
    )]
    NoToken,
    #[error(
        "this gateway has tokens, so reading needs one, whatever it is for: send it as `authorization: Bearer TOKEN`"
    )]
    Read,
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
            Self::Open | Self::Proxy | Self::NoToken | Self::Read => "no_token",
            Self::Token => "token",
            Self::Hear | Self::Emit(_) | Self::Off => "right",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Open | Self::Proxy | Self::NoToken | Self::Read | Self::Token => StatusCode::UNAUTHORIZED,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

impl IntoResponse for GateError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = answer::problem(status, self.reason(), &self.to_string());
        response.extensions_mut().insert(self.clone());
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl Gate {
    pub(crate) fn new(access: Arc<Access>, origins: Arc<Origins>, reach: Reach, emits: bool) -> Self {
        Self { access, origins, reach, is_insecure: false, emits }
    }

    /// Lets everybody who connects read names and numbers, and use fields that have neither tokens nor certificates.
    pub(crate) fn insecure(mut self, is_insecure: bool) -> Self {
        self.is_insecure = is_insecure;
        self
    }

    /// Whether a request may read names and numbers, by its own headers.
    pub(crate) fn may_read_of(&self, headers: &HeaderMap) -> Result<(), GateError> {
        self.may_read(headers, bearer(headers))
    }

    /// Whether the holder of a token, or of none, may read names and numbers.
    pub(crate) fn may_read(&self, headers: &HeaderMap, token: Option<&str>) -> Result<(), GateError> {
        if self.is_insecure || self.reach == Reach::Certified {
            return Ok(());
        }
        match (self.everybody_may(headers), token) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(token)) if self.access.knows(token) => Ok(()),
            (Err(GateError::NoToken), Some(_)) => Err(GateError::Token),
            (Err(GateError::NoToken), None) => Err(GateError::Read),
            (Err(error), _) => Err(error),
        }
    }

    /// Whether a client may connect to a field. Where there are tokens or certificates, the connection asks for one.
    pub(crate) fn may_connect_to_field(&self, headers: &HeaderMap) -> Result<(), GateError> {
        if self.access.is_open() { self.may_read(headers, None) } else { Ok(()) }
    }

    /// Whether a client that shows nothing may do what everybody may who reaches the gateway.
    fn everybody_may(&self, headers: &HeaderMap) -> Result<(), GateError> {
        match self.reach {
            _ if !self.access.is_open() => Err(GateError::NoToken),
            Reach::Network => Err(GateError::Open),
            Reach::Certified => Ok(()),
            Reach::Loopback if is_forwarded(headers) => Err(GateError::Proxy),
            Reach::Loopback if !is_to_an_address(headers) => Err(GateError::Host),
            Reach::Loopback => Ok(()),
        }
    }

    /// Whether a client needs a token to hear and to emit.
    pub(crate) fn needs_token(&self, caller: &Caller) -> bool {
        let is_listed = || self.access.wave_rights(None, caller.certificate.as_ref()).is_some();
        self.reach == Reach::Network || !self.access.is_open() && !is_listed()
    }

    pub(crate) const fn emits(&self) -> bool {
        self.emits
    }

    /// Whether a page of this origin may ask at all: one that is allowed, or the gateway's own under whatever name.
    pub(crate) fn origin(&self, caller: &Caller) -> Result<(), GateError> {
        let may = self.origins.allow(&caller.headers) || is_of_the_page(&caller.headers);
        if may { Ok(()) } else { Err(GateError::Origin) }
    }

    /// The rights of a request, by its own headers.
    pub(crate) fn rights_of(&self, caller: &Caller) -> Result<WaveRights, GateError> {
        self.origin(caller)?;
        self.rights(caller, bearer(&caller.headers))
    }

    /// The rights of a token, or those without one.
    pub(crate) fn rights(&self, caller: &Caller, token: Option<&str>) -> Result<WaveRights, GateError> {
        let mut rights = match self.everybody_may(&caller.headers) {
            Ok(()) => WaveRights::all(),
            Err(GateError::NoToken) => self
                .access
                .wave_rights(token, caller.certificate.as_ref())
                .ok_or(if token.is_some() { GateError::Token } else { GateError::NoToken })?,
            Err(error) => return Err(error),
        };
        if !self.emits {
            rights.emit.clear();
        }
        Ok(rights)
    }

    /// Whether the holder may emit at all.
    pub(crate) fn may_emit_anything(&self, rights: &WaveRights) -> Result<(), GateError> {
        match (self.emits, rights.emit.is_empty()) {
            (false, _) => Err(GateError::Off),
            (true, true) => Err(GateError::Emit("any channel".to_owned())),
            (true, false) => Ok(()),
        }
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

/// The address from which a request came, which the server knows of each.
pub(crate) fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ClientAddress>().map(|client| client.0.ip())
}

/// The token that a request was sent with.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(access: Access, reach: Reach, emits: bool) -> Gate {
        Gate::new(Arc::new(access), Arc::default(), reach, emits)
    }

    /// A request to this host, with this token and these headers.
    fn caller(host: &str, token: Option<&str>, more: &[(&'static str, &str)]) -> Caller {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("bearer {token}").parse().unwrap());
        }
        for (name, value) in more {
            headers.insert(*name, value.parse().unwrap());
        }
        Caller { headers, ..Caller::default() }
    }

    fn here() -> Caller {
        caller("127.0.0.1:8080", None, &[])
    }

    #[test]
    fn on_loopback_everybody_may_who_uses_an_address() {
        let gate = gate(Access::default(), Reach::Loopback, true);
        assert_eq!(
            (gate.rights_of(&here()), gate.may_read_of(&here().headers)),
            (Ok(WaveRights::all()), Ok(()))
        );
        // A page of this name may have been loaded from elsewhere.
        let rebound = caller("rebound.example", None, &[]);
        assert_eq!(gate.rights_of(&rebound), Err(GateError::Host));
        assert_eq!(gate.may_read_of(&rebound.headers), Err(GateError::Host));
        let foreign = caller("127.0.0.1:8080", None, &[("origin", "https://evil.example")]);
        assert_eq!(gate.rights_of(&foreign), Err(GateError::Origin));
        // A proxy on this machine is on the loopback address, and those behind it are not.
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=192.0.2.7"),
            ("x-real-ip", "192.0.2.7"),
            ("via", "1.1 proxy"),
        ] {
            let forwarded = caller("127.0.0.1:8080", None, &[(name, value)]);
            assert_eq!(gate.rights_of(&forwarded), Err(GateError::Proxy), "{name}");
            assert_eq!(gate.may_read_of(&forwarded.headers), Err(GateError::Proxy), "{name}");
        }
    }

    #[test]
    fn the_own_page_under_a_name_may_ask_and_reads_and_hears_with_a_token_only() {
        let by_name = caller("bus.example:8080", None, &[("origin", "http://bus.example:8080")]);
        let open = gate(Access::default(), Reach::Loopback, true);
        assert_eq!((open.origin(&by_name), open.rights_of(&by_name)), (Ok(()), Err(GateError::Host)));
        let closed = gate(Access::default().waves_token("s3cret").unwrap(), Reach::Loopback, true);
        assert_eq!(closed.rights_of(&by_name), Err(GateError::NoToken));
        assert_eq!(closed.rights(&by_name, Some("s3cret")), Ok(WaveRights::all()));
        assert_eq!(closed.may_read(&by_name.headers, Some("s3cret")), Ok(()));
    }

    #[test]
    fn elsewhere_and_with_tokens_a_token_is_needed() {
        let open = gate(Access::default(), Reach::Network, true);
        assert_eq!(open.rights_of(&caller("192.0.2.1", Some("x"), &[])), Err(GateError::Open));
        let closed = gate(Access::default().waves_token("s3cret").unwrap(), Reach::Loopback, true);
        assert_eq!(closed.rights_of(&here()), Err(GateError::NoToken));
        assert_eq!(closed.rights_of(&caller("127.0.0.1", Some("guess"), &[])), Err(GateError::Token));
        assert_eq!(closed.rights_of(&caller("bus.example", Some("s3cret"), &[])), Ok(WaveRights::all()));
        assert!(open.needs_token(&here()) && closed.needs_token(&here()));
        // A token for fields gives no right to waves, and closes them.
        let fields = gate(Access::default().token("field").unwrap(), Reach::Loopback, true);
        assert_eq!(fields.rights_of(&here()), Err(GateError::NoToken));
        let rights = fields.rights_of(&caller("127.0.0.1", Some("field"), &[])).unwrap();
        assert_eq!(rights, WaveRights::default());
    }

    #[test]
    fn where_there_is_a_token_names_and_numbers_need_one_whatever_it_is_for() {
        let access = || Access::default().token("field").unwrap();
        // Not every proxy declares itself, so there is no exception for the loopback address.
        for reach in [Reach::Loopback, Reach::Network] {
            let gate = gate(access(), reach, true);
            assert_eq!(gate.may_read_of(&here().headers), Err(GateError::Read));
            assert_eq!(
                gate.may_read_of(&caller("127.0.0.1", Some("guess"), &[]).headers),
                Err(GateError::Token)
            );
            let proxied = caller("bus.example", Some("field"), &[("via", "1.1 proxy")]);
            assert_eq!(gate.may_read_of(&proxied.headers), Ok(()));
            assert_eq!(gate.insecure(true).may_read_of(&here().headers), Ok(()));
        }
        assert_eq!(gate(access(), Reach::Certified, true).may_read_of(&here().headers), Ok(()));
    }

    #[test]
    fn who_has_shown_a_certificate_may_under_any_name_but_not_for_another_page() {
        let gate = gate(Access::default(), Reach::Certified, true);
        let proxied = caller("bus.example", None, &[("x-forwarded-for", "192.0.2.7")]);
        assert_eq!(
            (gate.rights_of(&proxied), gate.may_read_of(&proxied.headers)),
            (Ok(WaveRights::all()), Ok(()))
        );
        assert!(!gate.needs_token(&proxied));
        let foreign = caller("bus.example", None, &[("origin", "https://evil.example")]);
        assert_eq!(gate.rights_of(&foreign), Err(GateError::Origin));
    }

    #[test]
    fn a_certificate_that_is_not_listed_beside_others_reads_and_neither_hears_nor_emits() {
        let gate = gate(Access::default().waves_token("s3cret").unwrap(), Reach::Certified, true);
        let mut certified = caller("bus.example", None, &[]);
        certified.certificate = Some(Fingerprint([1; 32]));
        assert_eq!(gate.may_read_of(&certified.headers), Ok(()));
        assert_eq!(gate.rights_of(&certified), Err(GateError::NoToken));
        assert!(gate.needs_token(&certified));
        assert_eq!(gate.rights(&certified, Some("s3cret")), Ok(WaveRights::all()));
    }

    #[test]
    fn a_gateway_that_emits_nothing_still_lets_hear() {
        let gate = gate(Access::default(), Reach::Loopback, false);
        let rights = gate.rights_of(&here()).unwrap();
        let channel = Channel::new("a").unwrap();
        assert!(rights.may_hear(&channel));
        assert_eq!(gate.may_emit(&rights, &channel), Err(GateError::Off));
    }
}
