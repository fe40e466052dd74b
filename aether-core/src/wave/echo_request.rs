//! What the source of a wave wants to be told if the wave fails. It travels as a metadata entry, alike on every medium.

/// The metadata entry with the request. Its value is a list of words, separated by commas: `told`, `payload`, `letter`.
pub const ECHO: &str = "aether-echo";

/// A request to be told if a wave fails, for [`WaveBuilder::echo`](crate::WaveBuilder::echo).
///
/// The source of a failed command or query gets an [`Echo`](crate::Echo) without asking. With a request it gets one for
/// a wave of any other kind, too, except responses; and it can have more than the echo.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aether_core::{Aether, Wave, wave::EchoRequest};
///
/// let aether = Aether::local();
/// let shop = aether.emitter("shop")?;
/// let mut echoes = shop.echoes().await?;
/// let event = Wave::builder("orders.created").key("17").text("a lamp").echo(EchoRequest::told().payload());
/// shop.emit(event.build()?).await?; // nobody hears it
/// let echo = echoes.receive().await.expect("the medium is open");
/// assert_eq!((echo.key(), echo.payload().map(|bytes| &bytes[..])), (Some("17"), Some(&b"a lamp"[..])));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "a request does nothing before a wave has it"]
pub struct EchoRequest {
    payload: bool,
    letter: bool,
}

impl EchoRequest {
    /// Be told if the wave fails.
    pub const fn told() -> Self {
        Self { payload: false, letter: false }
    }

    /// Be sent the payload with the echo, if it has at most [`MAX_ECHO_PAYLOAD`](crate::echo::MAX_ECHO_PAYLOAD) bytes.
    pub const fn payload(mut self) -> Self {
        self.payload = true;
        self
    }

    /// Have the wave kept as a [dead letter](crate::Aether::dead_letters) where it failed, although its source is told.
    pub const fn letter(mut self) -> Self {
        self.letter = true;
        self
    }

    /// Whether the payload is wanted.
    #[must_use]
    pub const fn wants_payload(self) -> bool {
        self.payload
    }

    /// Whether a dead letter is wanted.
    #[must_use]
    pub const fn wants_letter(self) -> bool {
        self.letter
    }

    /// The request in the value of a metadata entry. Words of later versions are ignored.
    pub(super) fn read(value: &str) -> Self {
        let has = |word| value.split(',').any(|other| other.trim() == word);
        Self { payload: has("payload"), letter: has("letter") }
    }

    pub(super) const fn written(self) -> &'static str {
        match (self.payload, self.letter) {
            (false, false) => "told",
            (true, false) => "told,payload",
            (false, true) => "told,letter",
            (true, true) => "told,payload,letter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wave::{MAX_METADATA_ENTRIES, Wave};

    #[test]
    fn a_request_is_read_back_and_later_words_are_ignored() {
        for request in [
            EchoRequest::told(),
            EchoRequest::told().payload(),
            EchoRequest::told().letter(),
            EchoRequest::told().payload().letter(),
        ] {
            let wave = Wave::builder("a").echo(request).build().unwrap();
            assert_eq!(wave.echo_request(), Some(request));
        }
        assert_eq!(EchoRequest::read("soon, payload"), EchoRequest::told().payload());
        assert_eq!(Wave::builder("a").metadata("k", "v").build().unwrap().echo_request(), None);
    }

    #[test]
    fn an_entry_without_room_is_an_error() {
        let full = (0..MAX_METADATA_ENTRIES)
            .fold(Wave::builder("a"), |wave, number| wave.metadata(&number.to_string(), "x"));
        assert!(full.echo(EchoRequest::told()).build().is_err());
    }
}
