//! async-nats with its default subscription: first in, first out, up to 65,536 messages in the client, beyond which it
//! drops.

use std::time::Duration;

use aether_core::Channel;
use async_nats::{Client, ServerAddr, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{ContestantError, Hear, Offer};
use crate::payload::{Load, Message};
use crate::schedule::Strength;

/// The time limit for sending the end of a run.
const END_PATIENCE: Duration = Duration::from_millis(500);

async fn connect(url: &str) -> Result<Client, ContestantError> {
    let options = async_nats::ConnectOptions::new().name("aether-bench");
    options.connect(url).await.map_err(|error| nats_error(url, error))
}

fn nats_error(url: &str, error: impl std::error::Error + Send + Sync + 'static) -> ContestantError {
    // Hides the user and the password of the address.
    let url = url.parse::<ServerAddr>().map_or_else(
        |_| "the NATS server".to_owned(),
        |server| format!("{}://{}:{}", server.scheme(), server.host(), server.port()),
    );
    ContestantError::Nats { url, source: Box::new(error) }
}

/// Publishes. Waits while the client is full, which never ends while the server is away.
pub(crate) struct NatsSender {
    client: Client,
    subject: String,
    runtime: Handle,
    stop: CancellationToken,
}

impl NatsSender {
    /// Stops waiting once `stop` is cancelled.
    pub(crate) async fn connect(
        url: &str,
        channel: &Channel,
        stop: &CancellationToken,
    ) -> Result<Self, ContestantError> {
        let client = connect(url).await?;
        let (subject, stop) = (channel.as_str().to_owned(), stop.clone());
        Ok(Self { client, subject, runtime: Handle::current(), stop })
    }
}

impl Offer for NatsSender {
    fn offer(&mut self, payload: Bytes, _strength: Strength) {
        // It fails only when the client has ended. Unsent messages are then lost silently.
        let publishing = self.client.publish(self.subject.clone(), payload);
        let _ = self.runtime.block_on(self.stop.run_until_cancelled(publishing));
    }

    async fn end(&mut self) -> bool {
        let ending = async {
            let end = Message::End.to_payload(0);
            self.client.publish(self.subject.clone(), end).await.is_ok() && self.client.flush().await.is_ok()
        };
        // The client would wait for its server without limit.
        tokio::time::timeout(END_PATIENCE, ending).await.unwrap_or(false)
    }
}

/// The default subscription.
pub(crate) struct NatsReceiver {
    /// The subscription ends with its client.
    _client: Client,
    messages: Subscriber,
}

impl NatsReceiver {
    /// Subscribed once this returns.
    pub(crate) async fn connect(url: &str, channel: &Channel) -> Result<Self, ContestantError> {
        let client = connect(url).await?;
        let messages =
            client.subscribe(channel.as_str().to_owned()).await.map_err(|error| nats_error(url, error))?;
        // The server handles one client's messages in order. So any answer to this request, also that there is no
        // responder, means that the subscription is active. flush() waits only for the socket.
        let nobody = client.new_inbox();
        let _ = client.request(nobody, Bytes::new()).await;
        Ok(Self { _client: client, messages })
    }
}

impl Hear for NatsReceiver {
    async fn next(&mut self) -> Option<Load> {
        loop {
            match Message::of_payload(&self.messages.next().await?.payload) {
                Some(Message::Load(load)) => return Some(load),
                Some(Message::End) => return None,
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aether_conformance::NatsServer;

    /// The client has room for some thousand messages and then waits for its server, which stays away in this test.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_sender_that_is_stopped_does_not_wait_for_a_server_that_is_gone() {
        let mut server = NatsServer::start().await.unwrap();
        let stop = CancellationToken::new();
        let channel = Channel::new("bench.gone").unwrap();
        let mut sender = NatsSender::connect(&server.url(), &channel, &stop).await.unwrap();
        server.kill().await.unwrap();
        let sending = tokio::task::spawn_blocking(move || {
            for _ in 0..1_000_000 {
                sender.offer(Bytes::from_static(b"x"), Strength::Weak);
            }
        });
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(60), sending).await.expect("it ends").unwrap();
    }
}
