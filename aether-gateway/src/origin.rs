//! Which web pages may open a connection or change anything.

use aether_metrics::is_address;
use axum::http::{HeaderMap, header};

/// The origins of web pages that may use a field, or hear and emit waves. A browser sends the origin of the page, and other
/// programs usually do not send any; they are admitted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    allowed: Vec<String>,
}

impl Origins {
    /// These origins, such as `https://shop.example`, and the gateway's own. `*` means all.
    pub(crate) fn new(allowed: impl IntoIterator<Item = String>) -> Self {
        let allowed = allowed.into_iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase());
        Self { allowed: allowed.collect() }
    }

    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        let origin = origin.to_ascii_lowercase();
        if self.allowed.iter().any(|allowed| allowed == "*" || *allowed == origin) {
            return true;
        }
        // The page comes from the address to which it connects.
        is_to_an_address(headers) && is_of_the_page(headers)
    }
}

/// Whether a request comes from a page that was loaded under the host that it names. The owner of a name can make any
/// gateway look like that (DNS rebinding), so without a token it is enough for nothing.
pub(crate) fn is_of_the_page(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.map(str::to_ascii_lowercase);
    let page = origin
        .as_deref()
        .and_then(|origin| origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")));
    host(headers).is_some_and(|host| page == Some(&host))
}

/// Whether a request came through a proxy that declares itself. It then comes from this machine, whoever sent it.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    let tells =
        |name: &str| matches!(name, "forwarded" | "x-real-ip" | "via") || name.starts_with("x-forwarded-");
    headers.keys().any(|name| tells(name.as_str()))
}

/// Whether a request names the gateway by an address. Not by a name: the owner of a name can let it lead to this machine
/// after the page was loaded (DNS rebinding).
pub(crate) fn is_to_an_address(headers: &HeaderMap) -> bool {
    host(headers).is_some_and(|host| is_address(&host))
}

fn host(headers: &HeaderMap) -> Option<String> {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&str>, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_page_of_the_gateway_and_a_program_without_a_page_are_admitted() {
        let none = Origins::default();
        assert!(none.allow(&headers(None, "bus.example")));
        for host in ["127.0.0.1:8080", "localhost:8080", "192.0.2.1", "[::1]:8080", "[2001:db8::1]"] {
            assert!(none.allow(&headers(Some(&format!("http://{host}")), host)), "{host}");
        }
    }

    #[test]
    fn a_page_under_a_name_is_known_as_the_gateways_own_but_not_admitted() {
        let by_name = headers(Some("http://Bus.example:8080"), "bus.example:8080");
        assert!(is_of_the_page(&by_name) && !Origins::default().allow(&by_name));
        for origin in [None, Some("http://bus.example"), Some("http://evil.example:8080"), Some("null")] {
            assert!(!is_of_the_page(&headers(origin, "bus.example:8080")), "{origin:?}");
        }
    }

    #[test]
    fn other_pages_are_admitted_only_if_they_are_named() {
        let none = Origins::default();
        for origin in
            ["https://evil.example", "http://bus.example", "null", "http://bus.example:8080.evil.example"]
        {
            assert!(!none.allow(&headers(Some(origin), "bus.example:8080")), "{origin}");
        }
        // A name that leads here now, but not when the page was loaded.
        assert!(!none.allow(&headers(Some("http://rebound.example:8080"), "rebound.example:8080")));
        assert!(!none.allow(&headers(Some("http://127.0.0.1:9999"), "127.0.0.1:8080")));
        let some = Origins::new(["https://shop.example/".to_owned()]);
        assert!(some.allow(&headers(Some("https://shop.example"), "bus.example")));
        assert!(!some.allow(&headers(Some("https://shop.example.evil"), "bus.example")));
        assert!(Origins::new(["*".to_owned()]).allow(&headers(Some("null"), "bus.example")));
    }
}
