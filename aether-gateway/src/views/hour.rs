//! The last hour: everything together, each channel, and each service.

use aether_core::Channel;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::history::{Past, rounded};
use crate::pulses::NamedPast;
use crate::track::{Buckets, unix_ms};

#[derive(Debug, serde::Serialize)]
pub(crate) struct Hour {
    end_unix_ms: u64,
    #[serde(flatten)]
    past: Past,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<OfChannel>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<NamedPast>>,
}

/// Written number by number: the numbers of a thousand channels would take 12 MB.
#[derive(Debug)]
struct OfChannel {
    channel: Channel,
    buckets: Buckets,
}

/// Numbers in the order in which they come.
struct Numbers<I>(I);

impl Hour {
    pub(crate) fn of(
        past: Past,
        channels: Option<Vec<(Channel, Buckets)>>,
        services: Option<Vec<NamedPast>>,
    ) -> Self {
        let of_channel = |(channel, buckets)| OfChannel { channel, buckets };
        let channels = channels.map(|channels| channels.into_iter().map(of_channel).collect());
        Self { end_unix_ms: unix_ms(), past, channels, services }
    }
}

impl Serialize for OfChannel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_struct("OfChannel", 3)?;
        line.serialize_field("channel", self.channel.as_str())?;
        line.serialize_field("waves", &Numbers(self.buckets.waves_per_second().map(rounded)))?;
        line.serialize_field("amplitude", &Numbers(self.buckets.amplitudes().map(rounded)))?;
        line.end()
    }
}

impl<I: Iterator<Item = f64> + Clone> Serialize for Numbers<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}
