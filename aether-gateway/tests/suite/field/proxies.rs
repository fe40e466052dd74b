//! Clients behind a proxy: each has limits of its own where the proxy is trusted, and only there.

use std::net::SocketAddr;

use aether_core::Aether;
use aether_gateway::{Access, FieldOptions, GatewayOptions};

use super::client::{BUSY, Heard, Tab};
use super::server::Server;

const CLIENTS: usize = 40;
/// The default of `max_connections_per_source`.
const OF_ONE_SOURCE: usize = 32;

async fn server(options: GatewayOptions) -> Server {
    let access = Access::default().token("s3cret-s3cret-s3cret").unwrap();
    Server::start_with(&Aether::local(), FieldOptions::default().access(access), options).await
}

/// How many clients with these headers `X-Forwarded-For` get in while all of them stay.
async fn admitted(gateway: SocketAddr, header: impl Fn(usize) -> String) -> usize {
    let mut tabs = Vec::new();
    let mut admitted = 0;
    for client in 0..CLIENTS {
        let header = [("x-forwarded-for", &*header(client))];
        let path = "/field/home/ws?auth_token=s3cret-s3cret-s3cret";
        let mut tab = Tab::try_connect(gateway, path, &header).await.unwrap();
        match tab.hear().await {
            Heard::Json(hello) => {
                assert_eq!(hello["type"], "hello");
                admitted += 1;
            }
            Heard::Closed(why) => assert_eq!(why.map(|(code, _)| code), Some(BUSY)),
        }
        tabs.push(tab);
    }
    admitted
}

#[tokio::test]
async fn each_client_behind_a_trusted_proxy_has_places_of_its_own() {
    let trusted = GatewayOptions::default().trusted_proxies(["127.0.0.0/8".parse().unwrap()]);
    let server = server(trusted).await;
    let gateway = server.address;
    assert_eq!(admitted(gateway, |client| format!("192.0.2.{client}")).await, CLIENTS);
    // One client that writes another address before its own each time, and one network of IPv6.
    assert_eq!(admitted(gateway, |client| format!("198.51.100.{client}, 203.0.113.9")).await, OF_ONE_SOURCE);
    assert_eq!(admitted(gateway, |client| format!("2001:db8::{client:x}")).await, OF_ONE_SOURCE);
    server.stop().await;
}

#[tokio::test]
async fn without_trust_the_header_changes_nothing() {
    let others = GatewayOptions::default().trusted_proxies(["192.0.2.0/24".parse().unwrap()]);
    for options in [GatewayOptions::default(), others] {
        let server = server(options).await;
        let forged = admitted(server.address, |client| format!("192.0.2.{client}")).await;
        assert_eq!(forged, OF_ONE_SOURCE);
        server.stop().await;
    }
}
