//! Gateways for tests, in this process.

use std::net::SocketAddr;

use aether_core::Aether;
use aether_field::Field;
use aether_gateway::{FieldOptions, Gateway, GatewayOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A gateway that serves the field `home`.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) field: Field,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(aether: &Aether, options: FieldOptions) -> Self {
        Self::start_with(aether, options, GatewayOptions::default()).await
    }

    pub(crate) async fn start_with(aether: &Aether, options: FieldOptions, gateway: GatewayOptions) -> Self {
        let field =
            Field::builder("home").replica("gateway").join(aether).await.expect("the field is joined");
        Self::serving(aether, options, gateway, field).await
    }

    pub(crate) async fn serving(
        aether: &Aether,
        options: FieldOptions,
        gateway: GatewayOptions,
        field: Field,
    ) -> Self {
        Self::serving_at(aether, options, gateway, field, ([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) async fn serving_at(
        aether: &Aether,
        options: FieldOptions,
        gateway: GatewayOptions,
        field: Field,
        address: SocketAddr,
    ) -> Self {
        let options = gateway.listen(address).physics(false).fields(options.field("home", field.clone()));
        let gateway = Gateway::start(aether, options).await.expect("the gateway starts");
        let (address, stop) = (gateway.address(), CancellationToken::new());
        let running = tokio::spawn(gateway.run(stop.clone()));
        Self { address, field, stop, running }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("the gateway ends");
        self.field.close().await.expect("the field is closed");
    }

    /// The line of the field in the status.
    pub(crate) async fn line(&self) -> serde_json::Value {
        let status: serde_json::Value = serde_json::from_str(&self.get("/api/status").await).expect("JSON");
        status["fields"][0].clone()
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address);
        let get = move || ureq::get(&url).call().expect("an answer").body_mut().read_to_string();
        tokio::task::spawn_blocking(get).await.expect("no panic").expect("text")
    }
}
