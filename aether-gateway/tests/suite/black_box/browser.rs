//! The page of the examples in a real browser: two profiles, and a gateway process that is killed in between.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::black_box::client::Client;
use crate::black_box::own::Own;
use crate::black_box::server::Server;

/// A Chromium; `cargo xtask tools` finds one. `none` skips what needs it.
const CHROMIUM: &str = "AETHER_CHROMIUM";
/// The longest time that the browser may take for one step.
const PATIENCE: Duration = Duration::from_secs(30);

/// By how much the clocks of two pages may differ here.
const CLOCK_ERROR: Duration = Duration::from_secs(2);

/// A browser, driven by the Chrome DevTools Protocol.
struct Browser {
    _process: Child,
    _profile: tempfile::TempDir,
    devtools: Client,
    calls: u64,
}

/// A page in a profile of its own.
struct Page {
    session: String,
}

impl Browser {
    async fn start() -> Option<Self> {
        let program = std::env::var_os(CHROMIUM).unwrap_or_else(|| {
            panic!("set {CHROMIUM} to the browser that `cargo xtask tools` prints, or to `none` to skip this")
        });
        if program == "none" {
            eprintln!("skipped: {CHROMIUM} is none");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(PathBuf::from(program));
        command.args(["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        // Its sandbox needs rights that containers do not have; it shows one page of our own.
        command.args(["--no-sandbox", "--remote-debugging-port=0", "about:blank"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let url = timeout(PATIENCE, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the browser ended");
                if let Some(url) = line.strip_prefix("DevTools listening on ") {
                    break url.to_owned();
                }
            }
        });
        let url = url.await.expect("the browser starts in time");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let devtools = Client::connect(&url).await;
        Some(Self { _process: process, _profile: profile, devtools, calls: 0 })
    }

    async fn call(&mut self, method: &str, params: Value, session: Option<&str>) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = session {
            call["sessionId"] = json!(session);
        }
        self.devtools.send(call).await;
        loop {
            let mut message = self.devtools.next().await.expect("the browser lives");
            // Everything else is an event.
            if message["id"] == self.calls {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }

    async fn open(&mut self, url: &str) -> Page {
        let context = self.call("Target.createBrowserContext", json!({}), None).await;
        let target = json!({ "url": url, "browserContextId": context["browserContextId"] });
        let target = self.call("Target.createTarget", target, None).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach, None).await;
        let page = Page { session: attached["sessionId"].as_str().unwrap().to_owned() };
        self.call("Page.enable", json!({}), Some(&page.session)).await;
        page
    }

    async fn reload(&mut self, page: &Page) {
        self.calls += 1;
        let call = json!({ "id": self.calls, "method": "Page.reload", "sessionId": page.session });
        self.devtools.send(call).await;
        // The document before is gone by then, and with it what was asked of it.
        while self.devtools.next().await.expect("the browser lives")["method"] != "Page.loadEventFired" {}
    }

    async fn run(&mut self, page: &Page, script: &str) -> Value {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let mut result = self.call("Runtime.evaluate", params, Some(&page.session)).await;
        assert!(result.get("exceptionDetails").is_none(), "{script}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until a condition holds in the page, which tells so itself when its content changes.
    async fn until(&mut self, page: &Page, condition: &str) {
        let script = format!(
            "new Promise((resolve, reject) => {{
                const holds = () => {{ try {{ return {condition}; }} catch {{ return false; }} }};
                const look = () => holds() && (observer.disconnect(), resolve(true));
                const observer = new MutationObserver(look);
                observer.observe(document, {{ childList: true, subtree: true, characterData: true }});
                setTimeout(() => reject(document.body?.innerText ?? 'empty'), {});
                look();
            }})",
            PATIENCE.as_millis() - 5000
        );
        self.run(page, &script).await;
    }

    async fn write(&mut self, page: &Page, key: &str, value: &str) {
        let script = format!(
            "document.getElementById('key').value = {}; document.getElementById('value').value = {};
             document.querySelector('#form button').click()",
            json!(key),
            json!(value)
        );
        self.run(page, &script).await;
    }
}

fn shows(key: &str, value: &str) -> String {
    let row = json!(format!("{key}\t{}", json!(value)));
    format!(
        "document.getElementById('entries').innerText.split('\\n').map((row) => row.trim()).includes({row})"
    )
}

const ALL_SENT: &str = "document.getElementById('waiting').textContent === '0'";

fn status(status: &str) -> String {
    format!("document.getElementById('status').textContent === '{status}'")
}

/// Serves the page, as any static host does. Returns its origin.
async fn static_host() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/field-page/index.html");
    let page = tokio::fs::read_to_string(path).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                page.len()
            );
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    origin
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pages_share_state_while_the_gateway_is_killed_and_started_again() {
    let Some(mut browser) = Browser::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("home.field");
    let origin = static_host().await;
    let server = Server::gateway().store(&store).origin(&origin).start().await;
    let url = server.url();
    let address = url.strip_prefix("ws://").unwrap().split('/').next().unwrap().to_owned();
    let page_url = format!("{origin}/?gateway={url}");
    let (ada, bob) = (browser.open(&page_url).await, browser.open(&page_url).await);
    for page in [&ada, &bob] {
        browser.until(page, &status("online")).await;
        browser.until(page, "document.getElementById('people').textContent === '1'").await;
    }
    browser.write(&ada, "lamp/1", "on").await;
    browser.until(&bob, &shows("lamp/1", "on")).await;
    browser.until(&ada, ALL_SENT).await;

    server.kill().await;
    for page in [&ada, &bob] {
        browser.until(page, &status("offline")).await;
    }
    // Both go on without a gateway; the one that writes the same name later wins, also if it is reloaded meanwhile.
    browser.write(&bob, "lamp/2", "written offline").await;
    browser.write(&bob, "race", "earlier").await;
    // Pages know the clock of the gateway to within half a round trip, which takes its time on a machine with much to do.
    tokio::time::sleep(CLOCK_ERROR).await;
    browser.write(&ada, "race", "later").await;
    browser.reload(&ada).await;
    browser.until(&ada, &shows("race", "later")).await;
    browser.until(&ada, &shows("lamp/1", "on")).await;

    let server = Server::gateway().store(&store).origin(&origin).listen(&address).start().await;
    for page in [&ada, &bob] {
        browser.until(page, &status("online")).await;
        browser.until(page, ALL_SENT).await;
        for (key, value) in [("lamp/1", "on"), ("lamp/2", "written offline"), ("race", "later")] {
            browser.until(page, &shows(key, value)).await;
        }
    }
    // A refusal reaches the page, and the present value is shown again.
    browser.write(&ada, &"k".repeat(300), "too long a name").await;
    browser.until(&ada, "document.getElementById('notice').textContent.includes('256 are allowed')").await;
    browser.until(&ada, ALL_SENT).await;
    let mut reader = Own::connect(&server.url(), "reader").await;
    assert_eq!(reader.subscribe(&["*"]).await.len(), 3);
    server.kill().await;
}
