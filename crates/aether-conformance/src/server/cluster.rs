//! Servers with JetStream, alone and as a cluster of real processes on loopback ports.

use std::io;
use std::path::Path;

use super::{NatsServer, ServerError, ServerOptions, free_port};

impl ServerOptions {
    /// Keeps streams in a folder, which outlives the server.
    #[must_use]
    pub fn jetstream(self, folder: &Path) -> Self {
        self.arg("--jetstream").arg("--store_dir").arg(folder)
    }
}

/// A cluster of NATS servers with JetStream: real processes with routes between them, killed on drop.
///
/// That all servers run does not mean that the cluster has a leader yet: a client tries again until it has.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts servers, named `s0`, `s1` and so on, that keep their streams in folders of these names below `folder`.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    ///
    /// # Cancel safety
    /// If cancelled before completion, the servers that were started are killed.
    pub async fn start(count: usize, folder: &Path) -> Result<Self, ServerError> {
        // Servers must know the ports of each other before they start.
        let ports = (0..count).map(|_| free_port()).collect::<io::Result<Vec<_>>>();
        let ports = ports.map_err(ServerError::Process)?;
        let routes: Vec<_> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let routes = routes.join(",");
        let mut servers = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let name = format!("s{number}");
            let options = ServerOptions::default()
                .jetstream(&folder.join(&name))
                .arg("--name")
                .arg(&name)
                .arg("--cluster_name")
                .arg("aether")
                .arg("--cluster")
                .arg(format!("nats://127.0.0.1:{port}"))
                .arg("--routes")
                .arg(&routes);
            servers.push(NatsServer::start_with(options).await?);
        }
        Ok(Self { servers })
    }

    /// The addresses of all servers, separated by commas.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<_> = self.servers.iter().map(NatsServer::url).collect();
        urls.join(",")
    }

    /// A server by its name, as JetStream names leaders.
    #[must_use]
    pub fn server(&mut self, name: &str) -> Option<&mut NatsServer> {
        let number: usize = name.strip_prefix('s')?.parse().ok()?;
        self.servers.get_mut(number)
    }
}
