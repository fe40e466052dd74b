//! The refusals of a server.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::sealing::NotSealed;

/// Why something failed at a NATS server. Nothing that was acknowledged before is lost.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JetStreamError {
    /// The name cannot name a stream.
    #[error("{name:?} cannot name a stream: use 1 to 64 letters, digits, '-' and '_'")]
    Name {
        /// The name.
        name: String,
    },
    /// There is no such log on the server.
    #[error("there is no durable log {name} on the server")]
    NoLog {
        /// The name.
        name: String,
    },
    /// The address is none of a NATS server.
    #[error("{url:?} is not an address of NATS servers: write nats://HOST:PORT, several with commas")]
    Url {
        /// The address, without its password.
        url: String,
    },
    /// A stream cannot have this number of replicas.
    #[error("Replicated({replicas}) is not possible: a stream has 2 to 5 replicas")]
    Replicas {
        /// The number that was asked for.
        replicas: u8,
    },
    /// A file with a secret or a certificate cannot be used.
    #[error("cannot log in to the servers")]
    Login(#[source] Arc<dyn Error + Send + Sync>),
    /// The keys cannot be used, or the operating system gave no random numbers to seal with.
    #[error("cannot seal what is stored")]
    Keys(#[source] Arc<dyn Error + Send + Sync>),
    /// No server answered, or it refused the connection.
    #[error("cannot connect to {url}")]
    Unreachable {
        /// The address, without its password.
        url: String,
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The connection is down.
    #[error("not connected to {url}; waves are stored when it is back")]
    NotConnected {
        /// The address, without its password.
        url: String,
    },
    /// The server keeps no streams.
    #[error(
        "{url} has no JetStream for this user: start nats-server with --jetstream, and enable it for the account"
    )]
    NoJetStream {
        /// The address, without its password.
        url: String,
    },
    /// The user of the connection lacks a permission.
    #[error("the user may not use the subject {subject}: allow it in the permissions of the server")]
    NotPermitted {
        /// The subject.
        subject: String,
    },
    /// A stream or a consumer exists with other settings. It was not changed.
    #[error(
        "the {kind} {name} exists with {setting} = {found}, and {wanted} is wanted: use another name, or change it \
         with `nats {kind} edit`"
    )]
    OtherSettings {
        /// `stream` or `consumer`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The setting, as NATS names it.
        setting: &'static str,
        /// Its value.
        found: String,
        /// The value that was asked for.
        wanted: String,
    },
    /// There are fewer servers than replicas.
    #[error("the stream {stream} needs {replicas} servers with JetStream in one cluster")]
    TooFewServers {
        /// The stream.
        stream: String,
        /// The number of servers.
        replicas: usize,
        /// The error of the server.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The wave is larger than the server takes for this stream.
    #[error("the wave has {bytes} bytes, and the stream {stream} takes less than {limit}")]
    TooLarge {
        /// The stream.
        stream: String,
        /// The size of the wave with what is sent beside it.
        bytes: usize,
        /// It must have fewer bytes than this.
        limit: usize,
    },
    /// The stream takes no more waves.
    #[error(
        "the stream {stream} has no room: raise its max_bytes or the storage of the server, or remove waves with \
         `nats stream purge`"
    )]
    Full {
        /// The stream.
        stream: String,
        /// The error of the server.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// An operator has deleted the consumer. Used again, it starts over.
    #[error("the consumer {consumer} was deleted at the server: use it again to start over")]
    Deleted {
        /// The consumer.
        consumer: String,
    },
    /// Nobody answered in time. A wave that was published meanwhile may have been stored.
    #[error(
        "no server answered for {name} within {after:?}: it has no leader, was deleted, or cannot be reached"
    )]
    NoAnswer {
        /// The stream or the consumer.
        name: String,
        /// The time waited.
        after: Duration,
    },
    /// The server delivers nothing later.
    #[error("waves for later need nats-server {needs} or newer, and this one is {version}")]
    TooOld {
        /// The version of the server.
        version: String,
        /// The version that has it.
        needs: &'static str,
    },
    /// The server refused for another reason.
    #[error("the server refused to {doing} {name}")]
    Refused {
        /// The attempted operation.
        doing: &'static str,
        /// The stream or the consumer.
        name: String,
        /// The error of the server.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl From<NotSealed> for JetStreamError {
    fn from(NotSealed(reason): NotSealed) -> Self {
        Self::Keys(reason)
    }
}

impl JetStreamError {
    /// Whether the same may succeed later without a change of the program.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::NotConnected { .. } | Self::Full { .. } | Self::NoAnswer { .. }
        )
    }
}
