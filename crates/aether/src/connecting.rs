//! Connecting by the scheme of an address to the media that are compiled in.

use aether_core::medium::addresses_in;
use aether_core::{Aether, AetherBuilder, ConnectError};

/// Connects to a medium by its address with default options: `local:`, `nats://host:port`, `lan:`, or several of them with blanks
/// between them, which are [paths](crate::paths).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let aether = aether::connect("local:").await?; // or nats://127.0.0.1:4222: the same code
/// assert!(!aether.promises().crosses_processes);
/// aether.close().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ConnectError`] if the address is not valid or the server cannot be reached.
///
/// # Cancel safety
/// Cancelled before completion, nothing stays connected.
pub async fn connect(url: &str) -> Result<Aether, ConnectError> {
    builder().url(url).connect().await
}

/// Options for connecting, with the media that are compiled in.
pub fn builder() -> AetherBuilder {
    let builder = AetherBuilder::new().several(aether_paths::connect);
    let builder = with_nats(builder);
    with_lan(builder)
}

/// Whether an address is one to which [`connect`] could connect, or several such paths with blanks between them. Nothing is
/// connected.
///
/// # Errors
/// The [`ConnectError`] with which connecting would fail at once, without secrets.
pub fn check_address(url: &str) -> Result<(), ConnectError> {
    builder().check_address(url)?;
    addresses_in(url).into_iter().try_for_each(check_medium)
}

fn scheme(url: &str) -> String {
    url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default()
}

fn check_medium(url: &str) -> Result<(), ConnectError> {
    match &*scheme(url) {
        #[cfg(feature = "nats")]
        "nats" | "tls" => aether_nats::check_address(url),
        #[cfg(not(feature = "nats"))]
        "nats" | "tls" => Err(left_out(url, "nats")),
        #[cfg(not(feature = "lan"))]
        "lan" => Err(left_out(url, "lan")),
        _ => Ok(()),
    }
}

/// The medium of an address was left out of this program.
#[cfg(not(all(feature = "nats", feature = "lan")))]
fn left_out(url: &str, feature: &'static str) -> ConnectError {
    ConnectError::Feature { url: aether_core::medium::without_secrets(url), feature }
}

#[cfg(feature = "nats")]
fn with_nats(builder: AetherBuilder) -> AetherBuilder {
    builder.scheme("nats", aether_nats::connect).scheme("tls", aether_nats::connect)
}

#[cfg(not(feature = "nats"))]
fn with_nats(builder: AetherBuilder) -> AetherBuilder {
    ["nats", "tls"].into_iter().fold(builder, |builder, scheme| {
        builder.scheme(scheme, async |request| Err(left_out(&request.url, "nats")))
    })
}

#[cfg(feature = "lan")]
fn with_lan(builder: AetherBuilder) -> AetherBuilder {
    builder.scheme("lan", async |request| {
        #[cfg(feature = "nats")]
        refuse_settings_of_nats(&request)?;
        aether_lan::connect(request).await
    })
}

#[cfg(not(feature = "lan"))]
fn with_lan(builder: AetherBuilder) -> AetherBuilder {
    builder.scheme("lan", async |request| Err(left_out(&request.url, "lan")))
}

/// A local network proves nothing and has no prefix. A program that asks for them must not run without.
#[cfg(all(feature = "lan", feature = "nats"))]
fn refuse_settings_of_nats(request: &aether_core::medium::ConnectRequest) -> Result<(), ConnectError> {
    let options: aether_nats::NatsOptions = request.options();
    if options.asks_for_proof() {
        return Err(aether_lan::LanError::Unproven.into());
    }
    // Where NATS is another path, the settings are for that one.
    match options.set_for_nats() {
        Some(setting) if aether_link::PathOutbox::of(request).is_none() => {
            Err(aether_lan::LanError::OnlyNats { setting }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "nats")]
    #[tokio::test]
    async fn errors_show_the_address_without_its_secrets() {
        for (url, shown) in [
            ("amqp://shop:secret@a:1", "amqp://***@a:1"),
            ("shop:se@cret@a", "***@a"),
            ("nats://secret@127.0.0.1:99999", "nats://***@127.0.0.1:99999"),
            // Nobody has port 1.
            ("nats://u:secret@127.0.0.1:1,nats://127.0.0.1:1", "nats://***@127.0.0.1:1,nats://127.0.0.1:1"),
        ] {
            let error = connect(url).await.unwrap_err();
            let (text, debug) = (error.to_string(), format!("{error:?}"));
            assert!(text.contains(shown), "{text}");
            assert!(!text.contains("cret") && !debug.contains("cret"), "{text} {debug}");
        }
    }
}
