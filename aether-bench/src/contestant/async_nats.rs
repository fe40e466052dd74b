//! async-nats with its default subscription: first in, first out, 65,536 messages in the client, what is more it drops.

use aether_core::Channel;
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::Handle;

use super::{ContestantError, Hear, Offer};
use crate::payload::{Load, Message};
use crate::schedule::Strength;

async fn connect(url: &str) -> Result<Client, ContestantError> {
    let options = async_nats::ConnectOptions::new().name("aether-bench");
    options.connect(url).await.map_err(|error| nats_error(url, error))
}

fn nats_error(url: &str, error: impl std::error::Error + Send + Sync + 'static) -> ContestantError {
    ContestantError::Nats { url: url.to_owned(), source: Box::new(error) }
}

/// Publishes; waits where the client has no room.
pub(crate) struct NatsSender {
    client: Client,
    subject: String,
    runtime: Handle,
}

impl NatsSender {
    pub(crate) async fn connect(url: &str, channel: &Channel) -> Result<Self, ContestantError> {
        let client = connect(url).await?;
        Ok(Self { client, subject: channel.as_str().to_owned(), runtime: Handle::current() })
    }
}

impl Offer for NatsSender {
    fn offer(&mut self, payload: Bytes, _strength: Strength) {
        // It fails only when the client has ended; what was not sent is missing then, and nobody was told.
        let _ = self.runtime.block_on(self.client.publish(self.subject.clone(), payload));
    }

    async fn end(&mut self) {
        let _ = self.client.publish(self.subject.clone(), Message::End.to_payload(0)).await;
        let _ = self.client.flush().await;
    }
}

/// The default subscription.
pub(crate) struct NatsReceiver {
    /// The subscription ends with its client.
    _client: Client,
    messages: Subscriber,
}

impl NatsReceiver {
    /// Hears the channel once this returns.
    pub(crate) async fn connect(url: &str, channel: &Channel) -> Result<Self, ContestantError> {
        let client = connect(url).await?;
        let messages =
            client.subscribe(channel.as_str().to_owned()).await.map_err(|error| nats_error(url, error))?;
        // The server handles what one client sends in order: an answer to this request, be it that nobody is there,
        // means that the subscription is in force. flush() waits for the socket only.
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
