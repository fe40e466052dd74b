//! A proxy whose connections can be cut, for tests over a NATS server.
#![allow(dead_code, unreachable_pub)] // each test uses a part of it

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy between one client and the server, which tells a test when the client has noticed a broken connection.
pub struct Proxy {
    port: u16,
    /// Whether connections are allowed.
    open: watch::Sender<bool>,
    traffic: watch::Receiver<Traffic>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Traffic {
    connections: usize,
    refused: usize,
}

impl Proxy {
    pub async fn new(server: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let open = watch::Sender::new(true);
        let gate = open.subscribe();
        let traffic_sender = Arc::new(watch::Sender::new(Traffic::default()));
        let traffic = traffic_sender.subscribe();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !*gate.borrow() {
                    traffic_sender.send_modify(|traffic| traffic.refused += 1);
                    continue;
                }
                traffic_sender.send_modify(|traffic| traffic.connections += 1);
                let (gate, traffic) = (gate.clone(), Arc::clone(&traffic_sender));
                tokio::spawn(async move {
                    // How a connection ends does not matter.
                    let _ = Self::pass(client, server, gate).await;
                    traffic.send_modify(|traffic| traffic.connections -= 1);
                });
            }
        });
        Ok(Self { port, open, traffic, accepting })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn pass(
        mut client: TcpStream,
        server: u16,
        mut gate: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            _ = gate.wait_for(|open| !open) => {}
        }
        // The client sees the end of the stream. It may keep its end open until it has another connection.
        client.shutdown().await?;
        while client.read(&mut [0; 4096]).await? > 0 {}
        Ok(())
    }

    /// Cuts the connection. Returns once the client has closed it or has tried to make another one.
    pub async fn cut(&self) {
        let refused = self.traffic.borrow().refused;
        self.open.send_replace(false);
        let noticed = |traffic: &Traffic| traffic.connections == 0 || traffic.refused > refused;
        let _ = self.traffic.clone().wait_for(noticed).await;
    }
}

impl Proxy {
    /// Allows connections again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }

    /// Waits until there is no connection.
    pub async fn unused(&self) {
        self.traffic.clone().wait_for(|traffic| traffic.connections == 0).await.expect("the proxy lives");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
