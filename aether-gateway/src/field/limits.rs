//! Bounds on what clients of a field may cost.

use std::time::Duration;

/// The requests of an array that count as one message: a message costs more than a request in it.
pub(super) const REQUESTS_PER_MESSAGE: u64 = 25;

/// The bounds of the WebSocket side of a gateway, for each field. The names and the defaults of the first nine are the
/// same as in the sync engine whose protocol is spoken.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SecurityLimits {
    /// The maximum size of a WebSocket frame and of a message of several frames, in bytes; beyond it the connection is
    /// closed with code 1009. Default: 262,144.
    pub max_frame_bytes: usize,
    /// The maximum size of a message in bytes; a longer one is refused, and the connection stays. Default: 65,536.
    pub max_message_bytes: usize,
    /// The maximum size of a key, or of a member of a set, in bytes of UTF-8. Default: 256.
    pub max_key_bytes: usize,
    /// The maximum size of a value as compact JSON, in bytes. Default: 32,768.
    pub max_value_bytes: usize,
    /// The maximum number of connections to a field. Default: 256.
    pub max_connections_total: usize,
    /// The maximum number of connections from one IPv4 address, or from one IPv6 network of 64 bits. Default: 32.
    pub max_connections_per_source: usize,
    /// The rate at which the messages of one connection are taken; 25 requests of an array count as one. Default: 100.
    pub messages_per_second: f64,
    /// How many messages one connection may send at once. Default: 200.
    pub messages_burst: u32,
    /// The time that a client has to authenticate. It does not concern clients that are quiet afterwards. Default: 5 s.
    pub handshake_timeout: Duration,
    /// The number of keys whose last change a gateway remembers for clients that come back. Default: 10,000.
    pub max_oplog_size: usize,
    /// The maximum size of the changes that wait for one client, in bytes. Beyond it the client gets a new snapshot
    /// instead. Default: 1 MiB.
    pub max_queue_bytes: usize,
    /// The maximum number of patterns in one subscription. Default: 64.
    pub max_patterns: usize,
    /// How often a client is asked for a sign of life. Default: 20 s.
    pub ping_interval: Duration,
    /// The time without any sign of life after which a client is given up. Default: 60 s.
    pub max_silence: Duration,
    /// The time that a client may take to read 512 KiB, or what is left. One that takes less is given up. Default: 30 s.
    pub max_stall: Duration,
    /// Whether a change is passed on only when it is on the disk of the gateway, so that a client that sees its own write
    /// again knows that it is kept. Default: `false`.
    pub durable_echo: bool,
}

impl Default for SecurityLimits {
    fn default() -> Self {
        Self {
            max_frame_bytes: 262_144,
            max_message_bytes: 65_536,
            max_key_bytes: 256,
            max_value_bytes: 32_768,
            max_connections_total: 256,
            max_connections_per_source: 32,
            messages_per_second: 100.0,
            messages_burst: 200,
            handshake_timeout: Duration::from_secs(5),
            max_oplog_size: 10_000,
            max_queue_bytes: 1 << 20,
            max_patterns: 64,
            ping_interval: Duration::from_secs(20),
            max_silence: Duration::from_secs(60),
            max_stall: Duration::from_secs(30),
            durable_echo: false,
        }
    }
}

/// A limit cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The text is not `NAME=VALUE`.
    #[error("use NAME=VALUE, such as max_connections_per_source=1000")]
    Form,
    /// There is no limit of this name.
    #[error("there is no limit {name:?}; the limits are: {}", NAMES.join(", "))]
    Name {
        /// The name.
        name: String,
    },
    /// The value is not a positive number, or, for `durable_echo`, neither `true` nor `false`.
    #[error("{value:?} is not a positive number, or, for durable_echo, true or false")]
    Value {
        /// The value.
        value: String,
    },
}

const NAMES: [&str; 16] = [
    "max_frame_bytes",
    "max_message_bytes",
    "max_key_bytes",
    "max_value_bytes",
    "max_connections_total",
    "max_connections_per_source",
    "messages_per_second",
    "messages_burst",
    "handshake_timeout_s",
    "max_oplog_size",
    "max_queue_bytes",
    "max_patterns",
    "ping_interval_s",
    "max_silence_s",
    "max_stall_s",
    "durable_echo",
];

impl SecurityLimits {
    /// Sets one limit from a text such as `max_connections_per_source=1000`. Times are in seconds and their names end
    /// with `_s`.
    ///
    /// # Errors
    /// [`LimitError`] if there is no such limit, or the value is not a positive number.
    pub fn set(&mut self, text: &str) -> Result<(), LimitError> {
        let (name, value) = text.split_once('=').ok_or(LimitError::Form)?;
        let bad = || LimitError::Value { value: value.to_owned() };
        let number = || value.parse::<u32>().ok().filter(|&number| number > 0).ok_or_else(bad);
        let size = || number().map(|number| number as usize);
        let real =
            || value.parse::<f64>().ok().filter(|real| real.is_finite() && *real > 0.0).ok_or_else(bad);
        let time = || real().and_then(|seconds| Duration::try_from_secs_f64(seconds).map_err(|_| bad()));
        match name {
            "max_frame_bytes" => self.max_frame_bytes = size()?,
            "max_message_bytes" => self.max_message_bytes = size()?,
            "max_key_bytes" => self.max_key_bytes = size()?,
            "max_value_bytes" => self.max_value_bytes = size()?,
            "max_connections_total" => self.max_connections_total = size()?,
            "max_connections_per_source" => self.max_connections_per_source = size()?,
            "messages_per_second" => self.messages_per_second = real()?,
            "messages_burst" => self.messages_burst = number()?,
            "handshake_timeout_s" => self.handshake_timeout = time()?,
            "max_oplog_size" => self.max_oplog_size = size()?,
            "max_queue_bytes" => self.max_queue_bytes = size()?,
            "max_patterns" => self.max_patterns = size()?,
            "ping_interval_s" => self.ping_interval = time()?,
            "max_silence_s" => self.max_silence = time()?,
            "max_stall_s" => self.max_stall = time()?,
            "durable_echo" => self.durable_echo = value.parse().map_err(|_| bad())?,
            _ => return Err(LimitError::Name { name: name.to_owned() }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_can_be_set_by_its_name() {
        for name in NAMES {
            let mut limits = SecurityLimits::default();
            let value = if name == "durable_echo" { "true" } else { "7" };
            limits.set(&format!("{name}={value}")).unwrap();
            assert_ne!(limits, SecurityLimits::default(), "{name}");
        }
        let mut limits = SecurityLimits::default();
        limits.set("max_silence_s=0.5").unwrap();
        assert_eq!(limits.max_silence, Duration::from_millis(500));
    }

    #[test]
    fn a_client_has_five_seconds_to_authenticate_unless_it_is_given_more() {
        assert_eq!(SecurityLimits::default().handshake_timeout, Duration::from_secs(5));
    }

    #[test]
    fn a_limit_that_cannot_be_set_says_what_can() {
        let set = |text| SecurityLimits::default().set(text).unwrap_err();
        assert_eq!(set("max_frame_bytes"), LimitError::Form);
        assert!(set("max_frames=1").to_string().contains("max_frame_bytes"));
        for text in [
            "max_frame_bytes=0",
            "max_frame_bytes=-1",
            "messages_per_second=NaN",
            "max_stall_s=x",
            "durable_echo=7",
        ] {
            assert!(matches!(set(text), LimitError::Value { .. }), "{text}");
        }
    }
}
