//! Which web pages may open a connection.

use axum::http::{HeaderMap, header};

/// The origins of web pages that may use a field. A browser sends the origin of the page, and other programs usually do
/// not send any; they are admitted.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    allowed: Vec<String>,
}

impl Origins {
    /// These origins, such as `https://shop.example`, beside the gateway's own. `*` stands for all.
    pub(super) fn new(allowed: impl IntoIterator<Item = String>) -> Self {
        let allowed = allowed.into_iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase());
        Self { allowed: allowed.collect() }
    }

    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        let origin = origin.to_ascii_lowercase();
        if self.allowed.iter().any(|allowed| allowed == "*" || *allowed == origin) {
            return true;
        }
        // The page comes from the address to which it connects.
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let of_page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        host.is_some() && of_page == host.map(str::to_ascii_lowercase).as_deref()
    }
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
        assert!(none.allow(&headers(Some("http://bus.example:8080"), "bus.example:8080")));
        assert!(none.allow(&headers(Some("https://Bus.example"), "bus.example")));
    }

    #[test]
    fn other_pages_are_admitted_only_if_they_are_named() {
        let none = Origins::default();
        for origin in
            ["https://evil.example", "http://bus.example", "null", "http://bus.example:8080.evil.example"]
        {
            assert!(!none.allow(&headers(Some(origin), "bus.example:8080")), "{origin}");
        }
        let some = Origins::new(["https://shop.example/".to_owned()]);
        assert!(some.allow(&headers(Some("https://shop.example"), "bus.example")));
        assert!(!some.allow(&headers(Some("https://shop.example.evil"), "bus.example")));
        assert!(Origins::new(["*".to_owned()]).allow(&headers(Some("null"), "bus.example")));
    }
}
