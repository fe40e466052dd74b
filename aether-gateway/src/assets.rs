//! The files of the live pages, which are part of the program.
//!
//! They are packed once and served with a tag of their content: a browser asks whether it has changed
//! and gets a short answer if not.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::answer;

/// Scripts and styles come from the gateway only, and nothing is written into the pages: whatever a name of a channel
/// contains, it cannot run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types lit-html";

macro_rules! files {
    ($($path:literal $content_type:expr;)*) => {
        [$(File {
            path: $path,
            content_type: $content_type,
            body: include_bytes!(concat!("../page/", $path)),
        },)*]
    };
}

struct File {
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

static FILES: &[File] = &files! {
    "index.html" HTML;
    "style.css" STYLE;
    "icon.svg" "image/svg+xml";
    "app.js" SCRIPT;
    "link.js" SCRIPT;
    "format.js" SCRIPT;
    "json.js" SCRIPT;
    "history.js" SCRIPT;
    "widgets.js" SCRIPT;
    "overview.js" SCRIPT;
    "spectrum.js" SCRIPT;
    "waves.js" SCRIPT;
    "map.js" SCRIPT;
    "incidents.js" SCRIPT;
    "playback.js" SCRIPT;
    "services.js" SCRIPT;
    "ledger.js" SCRIPT;
    "letters.js" SCRIPT;
    "durable.js" SCRIPT;
    "channels.js" SCRIPT;
    "chain.js" SCRIPT;
    "confirm.js" SCRIPT;
    "first_wave.js" SCRIPT;
    "help.js" SCRIPT;
    "layout.js" SCRIPT;
    "operations.js" SCRIPT;
    "vendor/lit-html/lit-html.js" SCRIPT;
    "vendor/lit-html/directive.js" SCRIPT;
    "vendor/lit-html/directive-helpers.js" SCRIPT;
    "vendor/lit-html/directives/repeat.js" SCRIPT;
    "vendor/uplot.js" SCRIPT;
    "vendor/uplot.css" STYLE;
    "vendor/dagre.js" SCRIPT;
    "vendor/LICENSES.txt" TEXT;
};

/// A file with its packed form and its tag.
struct Packed {
    file: &'static File,
    gzip: Bytes,
    tag: HeaderValue,
}

static PACKED: LazyLock<Vec<Packed>> = LazyLock::new(|| FILES.iter().filter_map(Packed::of).collect());

impl Packed {
    fn of(file: &'static File) -> Option<Self> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        // Writing into memory and a tag of hexadecimal digits cannot fail.
        gzip.write_all(file.body).ok()?;
        let gzip = gzip.finish().ok()?.into();
        let tag: String =
            Sha256::digest(file.body).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        Some(Self { file, gzip, tag: HeaderValue::from_str(&format!("\"{tag}\"")).ok()? })
    }
}

/// Packs the files, which takes a moment, unless that has been done.
pub(crate) fn pack() {
    LazyLock::force(&PACKED);
}

/// The page itself.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// A file by its path.
pub(crate) fn file(path: &str, headers: &HeaderMap) -> Option<Response> {
    let packed = PACKED.iter().find(|packed| packed.file.path == path)?;
    let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tag| *tag == packed.tag);
    let mut response = match (is_known, answer::takes_gzip(headers)) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => {
            let mut response = packed.gzip.clone().into_response();
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        (false, false) => packed.file.body.into_response(),
    };
    let all = response.headers_mut();
    all.insert(header::CONTENT_TYPE, HeaderValue::from_static(packed.file.content_type));
    all.insert(header::ETAG, packed.tag.clone());
    all.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    all.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    all.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weight of the pages when they are loaded first, without licences.
    const MOST_BYTES: usize = 300_000;

    #[test]
    fn the_pages_are_light_and_every_file_of_the_folder_is_served() {
        assert_eq!(PACKED.len(), FILES.len());
        let loaded = PACKED.iter().filter(|packed| packed.file.content_type != TEXT);
        let bytes: usize = loaded.map(|packed| packed.gzip.len()).sum();
        assert!(bytes < MOST_BYTES, "{bytes}");

        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page")];
        let root = folders[0].clone();
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let path = entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                assert!(FILES.iter().any(|file| file.path == path), "{path} is not served");
                found += 1;
            }
        }
        assert_eq!(found, FILES.len());
    }

    #[test]
    fn a_browser_that_has_a_file_gets_no_second_copy() {
        let first = file("app.js", &HeaderMap::new()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(file("app.js", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
        headers.insert(header::IF_NONE_MATCH, "\"other\"".parse().unwrap());
        headers.insert(header::ACCEPT_ENCODING, "br, gzip".parse().unwrap());
        let packed = file("app.js", &headers).unwrap();
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(file("../Cargo.toml", &headers).is_none());
    }

    #[test]
    fn no_script_and_no_style_is_inline() {
        let html = std::str::from_utf8(FILES[0].body).unwrap();
        for never in ["<style", "style=", "onclick", "javascript:"] {
            assert!(!html.contains(never), "{never}");
        }
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
    }
}
