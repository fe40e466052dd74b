//! A service on a local network works as it does elsewhere.

use std::time::Duration;

use aether_conformance::free_port;
use aether_core::{Aether, Durability, Vibrator, Wave};
use aether_log::ResonateDurable;
use aether_service::CancellationToken;
use aether_service::config::{ConfigArgs, Configuration};
use tokio::time::timeout;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// Connects a service that is configured by a text.
async fn service(name: &str, text: &str) -> Aether {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("default.toml"), text).unwrap();
    let mut args = ConfigArgs::default();
    args.folder = Some(folder.path().to_owned());
    let config: Configuration = args.load_common().unwrap();
    config.connect_until(&CancellationToken::new(), name).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_a_folder_stores_what_its_service_emits_and_the_wave_reaches_other_machines() {
    let ports = [(); 2].map(|()| free_port().unwrap());
    let logs = tempfile::tempdir().unwrap();
    let address = |port: u16, peers: &str| {
        format!("medium.url = 'lan:?insecure&multicast=off&listen=127.0.0.1:{port}{peers}'\n")
    };
    let path = logs.path().to_str().unwrap();
    let durable = format!("[durable]\nfolder = {path:?}\nsynced = ['orders.>']\n");
    let there = service("stock", &address(ports[1], "")).await;
    let to_stock = address(ports[0], &format!("&peer=127.0.0.1:{}", ports[1]));
    let here = service("shop", &format!("{to_stock}{durable}")).await;
    let mut stock = Vibrator::builder("stock").create(&there).await.unwrap();
    stock.resonate_on("orders.>").await.unwrap();
    let emitter = here.emitter("shop").unwrap();
    // On a busy machine the two may meet only after connecting has stopped waiting for it.
    let heard = async {
        loop {
            let receipt = emitter.emit(Wave::from_bytes("orders.created", "a lamp").unwrap()).await.unwrap();
            assert_eq!(receipt.stored.map(|stored| stored.durability), Some(Durability::Synced));
            if let Ok(heard) = timeout(Duration::from_secs(1), stock.receive()).await {
                break heard.unwrap();
            }
        }
    };
    let heard = timeout(LONG, heard).await.unwrap();
    assert_eq!(heard.text().unwrap(), "a lamp");
    here.close().await.unwrap();
    drop((emitter, here));
    // The next process of this name on this machine finds it.
    let here = service("shop", &format!("{}{durable}", address(ports[0], ""))).await;
    let billing = here.resonate_durable("orders.>", "billing").unwrap();
    let delivery = timeout(LONG, billing.receive()).await.unwrap().unwrap();
    assert_eq!(delivery.wave().text().unwrap(), "a lamp");
    delivery.ack().await.unwrap();
    for aether in [here, there] {
        aether.close().await.unwrap();
    }
}
