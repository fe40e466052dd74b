//! A message on the socket: its length, tag, number, channel and frame.

use std::io;

use aether_core::Channel;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest frame.
pub(crate) const MAX_FRAME: usize = 1 << 20;

/// The largest message: a frame plus its channel and the other header fields.
const MAX_MESSAGE: usize = MAX_FRAME + 1024;

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Waves = 1,
    Question,
    Answer,
    /// A copy of an answer, for observers.
    Seen,
    Notice,
    /// Returns to its sender once all earlier messages have reached the clients.
    Marker,
}

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) tag: Tag,
    /// The number of a question, of its answer, or of a marker.
    pub(crate) number: u64,
    pub(crate) channel: Channel,
    pub(crate) frame: Bytes,
}

impl Message {
    /// Encodes the message.
    pub(crate) fn into_bytes(self) -> Bytes {
        let name = self.channel.as_str();
        let mut bytes = BytesMut::with_capacity(10 + name.len() + self.frame.len());
        bytes.put_u8(self.tag as u8);
        bytes.put_u64(self.number);
        // A channel has at most 255 bytes.
        bytes.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.put_slice(name.as_bytes());
        bytes.put(self.frame);
        bytes.freeze()
    }

    /// Decodes a message. Returns `None` if the bytes are not a valid message.
    pub(crate) fn parse(mut bytes: Bytes) -> Option<Self> {
        use Tag::{Answer, Marker, Notice, Question, Seen, Waves};
        let tag = bytes.try_get_u8().ok()?;
        let tag =
            [Waves, Question, Answer, Seen, Notice, Marker].into_iter().find(|one| *one as u8 == tag)?;
        let number = bytes.try_get_u64().ok()?;
        let length = usize::from(bytes.try_get_u8().ok()?);
        let name = (bytes.len() >= length).then(|| bytes.split_to(length))?;
        let channel = Channel::with_reserved(str::from_utf8(&name).ok()?).ok()?;
        Some(Self { tag, number, channel, frame: bytes })
    }
}

/// Reads the bytes of one message.
pub(crate) async fn read(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let length = input.read_u32().await? as usize;
    if length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

/// Writes the bytes of one message.
pub(crate) async fn write(output: &mut (impl AsyncWrite + Unpin), bytes: &Bytes) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    output.write_all_buf(&mut Buf::chain(&length.to_be_bytes()[..], &bytes[..])).await
}
