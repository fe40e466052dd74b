//! Shared state of a service and a WebSocket client, through a gateway that is killed and started again.
//!
//! The client needs nothing but a WebSocket (a page has `@aether-bus/client` for that). It gives each write a
//! number and the time at which it was made, keeps it until the gateway has it on its disk, and sends it again after a
//! break; sent twice, it counts once. `docs/protocol/field-websocket.md` has all messages.
//!
//! `cargo run -p aether-examples --example 11_field_in_a_page`

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aether_conformance::NatsServer;
use aether_field::Field;
use aether_gateway::{FieldOptions, Gateway, GatewayOptions};
use aether_service::CancellationToken;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().collect();
    if let [_, role, medium, listen, store] = &args[..]
        && role == "gateway"
    {
        return gateway(medium, listen, Path::new(store)).await;
    }

    // A service and a gateway, each with a replica of the field, on a NATS server.
    let nats = NatsServer::start().await?;
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("home.field");
    let aether = aether::connect(&nats.url()).await?;
    let service = Field::builder("home").replica("service").join(&aether).await?;
    let (mut process, address) = start(&nats.url(), "127.0.0.1:0", &store).await?;

    // Both write, and see each other's writes.
    let mut page = Page::default();
    page.connect(&address).await?;
    let mut changes = service.watch("*");
    page.write("thermostat", json!(21)).await?;
    page.until(|page| page.outbox.is_empty()).await?;
    let change = changes.next().await.ok_or("the field is closed")?;
    println!("the service sees {} = {:?}", change.name(), change.value::<u32>()?);
    service.set("lamp/1", "on")?;
    page.until(|page| page.entries.contains_key("lamp/1")).await?;
    println!("the page sees lamp/1 = {}", page.entries["lamp/1"]);

    // The gateway is killed (SIGKILL), and the service leaves: only the gateway's file has the field now.
    process.kill().await?;
    page.disconnected().await?;
    service.close().await?;
    page.write("lamp/1", json!("off, written offline")).await?;
    println!("the gateway is gone, {} write waits in the page", page.outbox.len());

    // It is started again, on the same address. The page connects as before.
    let (mut process, address) = start(&nats.url(), &address, &store).await?;
    page.connect(&address).await?;
    page.until(|page| page.outbox.is_empty()).await?;
    assert_eq!(page.entries["thermostat"], json!(21));

    // The service comes back, and gets both: what was acknowledged before the kill, and what was written offline.
    let service = Field::builder("home").replica("service").join(&aether).await?;
    service.agreed(1).await?;
    assert_eq!(service.get::<u32>("thermostat")?, Some(21));
    assert_eq!(service.get::<String>("lamp/1")?.as_deref(), Some("off, written offline"));
    println!("the service has {} registers after the restart", service.list("*").len());
    process.kill().await?;
    Ok(())
}

/// The gateway, as a process of its own. `aether gateway --field home=home.field` is the same as a command.
async fn gateway(medium: &str, listen: &str, store: &Path) -> Result<()> {
    let aether = aether::connect(medium).await?;
    let field = Field::builder("home").replica("gateway").store(store).join(&aether).await?;
    let fields = FieldOptions::default().field("home", field);
    let options = GatewayOptions::default().listen(listen.parse()?).physics(false).fields(fields);
    let gateway = Gateway::start(&aether, options).await?;
    println!("{}", gateway.address());
    gateway.run(CancellationToken::new()).await;
    Ok(())
}

/// Starts this program as the gateway. Returns the process, which is killed when dropped, and its address.
async fn start(medium: &str, listen: &str, store: &Path) -> Result<(Child, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["gateway", medium, listen]).arg(store).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn()?;
    let stdout = process.stdout.take().ok_or("the gateway has no output")?;
    let address = BufReader::new(stdout).lines().next_line().await?.ok_or("the gateway ended")?;
    Ok((process, address))
}

/// The page's use of the field.
#[derive(Default)]
struct Page {
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    /// The entries of the gateway.
    entries: std::collections::BTreeMap<String, Value>,
    /// The writes that are not on the disk of the gateway yet.
    outbox: Vec<Value>,
    op: u64,
}

impl Page {
    /// Connects, subscribes to everything, and sends what waits.
    async fn connect(&mut self, address: &str) -> Result<()> {
        let mut request = format!("ws://{address}/field/home/ws").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "aether.field.v1".parse()?);
        self.socket = Some(connect_async(request).await?.0);
        self.send(&json!({ "type": "hello", "client": "the page of the example" })).await?;
        self.send(&json!({ "type": "subscribe", "patterns": ["*"] })).await?;
        for write in self.outbox.clone() {
            self.send(&write).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        let socket = self.socket.as_mut().ok_or("not connected")?;
        Ok(socket.send(Message::text(message.to_string())).await?)
    }

    /// Keeps a write until it is on the disk of the gateway, and sends it if there is a connection.
    async fn write(&mut self, key: &str, value: Value) -> Result<()> {
        self.op += 1;
        // On one machine the clocks are one; a page takes the gateway's from its hello.
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1000.0;
        let write =
            json!({ "type": "set", "op": self.op, "at": at, "key": key, "value": value, "durable": true });
        self.outbox.push(write.clone());
        if self.socket.is_some() { self.send(&write).await } else { Ok(()) }
    }

    /// Takes messages in until a condition holds.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) -> Result<()> {
        while !holds(self) {
            let socket = self.socket.as_mut().ok_or("not connected")?;
            let message = tokio::time::timeout(Duration::from_secs(30), socket.next()).await?;
            let Message::Text(text) = message.ok_or("the connection ended")?? else { continue };
            self.take(&serde_json::from_str(&text)?)?;
        }
        Ok(())
    }

    fn take(&mut self, message: &Value) -> Result<()> {
        match message["type"].as_str() {
            Some("durable") => self.outbox.retain(|write| write["op"] != message["op"]),
            Some("refused" | "not-durable") => return Err(message.to_string().into()),
            Some("snapshot" | "changes") => {
                for entry in message["entries"].as_array().ok_or("no entries")? {
                    let Some(key) = entry["key"].as_str() else { continue };
                    match entry.get("value") {
                        Some(value) => drop(self.entries.insert(key.to_owned(), value.clone())),
                        None => drop(self.entries.remove(key)),
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for the end of the connection.
    async fn disconnected(&mut self) -> Result<()> {
        let mut socket = self.socket.take().ok_or("not connected")?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok(())
    }
}
