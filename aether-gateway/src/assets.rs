//! The files of the live pages, of the demos and of the client for browsers, which are part of the program.
//!
//! They are packed once and served with a tag of their content: a browser asks whether it has changed
//! and gets a short answer if not.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256, Sha384};

use crate::answer;

/// Scripts and styles come from the gateway only, and nothing is written into the pages: whatever a name of a channel
/// contains, it cannot run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types lit-html aether-demos";

/// The client, in one file for `<script>`.
const CLIENT: &str = "client/aether-client.min.js";

macro_rules! files {
    ($($path:literal $content_type:expr;)*) => {
        [$(File {
            path: $path,
            content_type: $content_type,
            body: include_bytes!(concat!("../", $path)),
        },)*]
    };
}

struct File {
    /// In the folder of this package, and in the address.
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

static FILES: &[File] = &files! {
    "page/index.html" HTML;
    "page/colours.css" STYLE;
    "page/style.css" STYLE;
    "page/icon.svg" IMAGE;
    "page/app.js" SCRIPT;
    "page/link.js" SCRIPT;
    "page/format.js" SCRIPT;
    "page/json.js" SCRIPT;
    "page/history.js" SCRIPT;
    "page/widgets.js" SCRIPT;
    "page/overview.js" SCRIPT;
    "page/spectrum.js" SCRIPT;
    "page/waves.js" SCRIPT;
    "page/map.js" SCRIPT;
    "page/incidents.js" SCRIPT;
    "page/playback.js" SCRIPT;
    "page/services.js" SCRIPT;
    "page/ledger.js" SCRIPT;
    "page/letters.js" SCRIPT;
    "page/queues.js" SCRIPT;
    "page/durable.js" SCRIPT;
    "page/channels.js" SCRIPT;
    "page/chain.js" SCRIPT;
    "page/confirm.js" SCRIPT;
    "page/first_wave.js" SCRIPT;
    "page/help.js" SCRIPT;
    "page/layout.js" SCRIPT;
    "page/operations.js" SCRIPT;
    "page/vendor/lit-html/lit-html.js" SCRIPT;
    "page/vendor/lit-html/directive.js" SCRIPT;
    "page/vendor/lit-html/directive-helpers.js" SCRIPT;
    "page/vendor/lit-html/directives/repeat.js" SCRIPT;
    "page/vendor/uplot.js" SCRIPT;
    "page/vendor/uplot.css" STYLE;
    "page/vendor/dagre.js" SCRIPT;
    "page/vendor/LICENSES.txt" TEXT;
    "client/aether-client.min.js" SCRIPT;
    "demos/index.html" HTML;
    "demos/common.js" SCRIPT;
    "demos/icon.svg" IMAGE;
    "demos/kanban-model.js" SCRIPT;
    "demos/kanban.html" HTML;
    "demos/kanban.js" SCRIPT;
    "demos/list.js" SCRIPT;
    "demos/markdown-model.js" SCRIPT;
    "demos/markdown-parse.js" SCRIPT;
    "demos/markdown.html" HTML;
    "demos/markdown.js" SCRIPT;
    "demos/order.js" SCRIPT;
    "demos/pages.js" SCRIPT;
    "demos/style.css" STYLE;
    "demos/sw.js" SCRIPT;
    "demos/topology-model.js" SCRIPT;
    "demos/topology.html" HTML;
    "demos/topology.js" SCRIPT;
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
    file("page/index.html", &headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// The routes of the files of the pages and of the client.
pub(crate) fn routes() -> Router {
    let page = async |Path(path): Path<String>, headers: HeaderMap| served("page/", &path, &headers);
    let client = async |headers: HeaderMap| served("", CLIENT, &headers);
    let router = Router::new().route("/page/{*path}", get(page));
    router.route("/client/", get(about_client)).route("/client/aether-client.min.js", get(client))
}

/// Where the client is, of which version, and the hash with which a page loads exactly this file.
static ABOUT_CLIENT: LazyLock<serde_json::Value> = LazyLock::new(|| {
    let body = FILES.iter().find(|file| file.path == CLIENT).map(|file| file.body);
    let hash = BASE64_STANDARD.encode(Sha384::digest(body.unwrap_or_default()));
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "script": format!("/{CLIENT}"),
        "integrity": format!("sha384-{hash}"),
    })
});

async fn about_client() -> Response {
    for_all_pages(answer::json(StatusCode::OK, &*ABOUT_CLIENT))
}

/// A file below a folder.
pub(crate) fn served(folder: &str, path: &str, headers: &HeaderMap) -> Response {
    file(&format!("{folder}{path}"), headers).unwrap_or_else(answer::not_found)
}

/// A file by its path.
fn file(path: &str, headers: &HeaderMap) -> Option<Response> {
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
    Some(if path == CLIENT { for_all_pages(response) } else { response })
}

/// Pages of all origins may load what everybody may read.
fn for_all_pages(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weight of the pages when they are loaded first, without licences.
    const MOST_BYTES: usize = 300_000;

    #[test]
    fn the_pages_are_light_and_every_file_of_the_folder_is_served() {
        assert_eq!(PACKED.len(), FILES.len());
        let loaded = PACKED.iter().filter(|packed| packed.file.path.starts_with("page/"));
        let loaded = loaded.filter(|packed| packed.file.content_type != TEXT);
        let bytes: usize = loaded.map(|packed| packed.gzip.len()).sum();
        assert!(bytes < MOST_BYTES, "{bytes}");

        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = vec![root.join("page"), root.join("client"), root.join("demos")];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                assert!(FILES.iter().any(|file| file.path == path), "{path} is not served");
                found += 1;
            }
        }
        assert_eq!(found, FILES.len());
    }

    #[test]
    fn a_browser_that_has_a_file_gets_no_second_copy() {
        let first = file("page/app.js", &HeaderMap::new()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(file("page/app.js", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
        headers.insert(header::IF_NONE_MATCH, "\"other\"".parse().unwrap());
        headers.insert(header::ACCEPT_ENCODING, "br, gzip".parse().unwrap());
        let packed = file("page/app.js", &headers).unwrap();
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(file("page/../Cargo.toml", &headers).is_none());
    }

    #[test]
    fn no_script_and_no_style_is_inline() {
        for page in FILES.iter().filter(|file| file.content_type == HTML) {
            let (path, html) = (page.path, std::str::from_utf8(page.body).unwrap());
            for never in ["<style", "style=", "onclick", "javascript:"] {
                assert!(!html.contains(never), "{path}: {never}");
            }
            let loaded = ["<script src=", "<script type=\"module\" src="];
            let loaded: usize = loaded.iter().map(|tag| html.matches(tag).count()).sum();
            assert_eq!(html.matches("<script").count(), loaded, "{path}");
        }
    }
}
