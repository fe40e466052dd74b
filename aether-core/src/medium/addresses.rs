//! Addresses of media: one or several in a text, and as people may see them.

/// The addresses in a text: the parts between blanks if there are several, or else the text as it is.
#[must_use]
pub fn addresses_in(text: &str) -> Vec<&str> {
    let several: Vec<_> = text.split_whitespace().collect();
    if several.len() > 1 { several } else { vec![text] }
}

/// The address of a medium, or several separated by commas or spaces, without the password or token before an `@`. Safe to
/// display.
///
/// ```
/// use aether_core::medium::without_secrets;
///
/// assert_eq!(without_secrets("nats://shop:secret@a:4222"), "nats://***@a:4222");
/// assert_eq!(without_secrets("lan: nats://token@a,nats://b"), "lan: nats://***@a,nats://b");
/// assert_eq!(without_secrets("nats://shop:se,cret@a, nats://b"), "nats://***@a, nats://b");
/// ```
#[must_use]
pub fn without_secrets(addresses: &str) -> String {
    // A password may have a comma or a space, so an address ends only where the next one begins.
    let mut parts: Vec<String> = Vec::new();
    for part in addresses.split_inclusive([',', ' ']) {
        match parts.last_mut() {
            Some(address) if !part.contains("://") && address.contains("://") => address.push_str(part),
            _ => parts.push(part.to_owned()),
        }
    }
    let shown = parts.into_iter().map(|address| {
        let (scheme, rest) = address.find("://").map_or(("", &*address), |at| address.split_at(at + 3));
        rest.rsplit_once('@').map_or_else(|| address.clone(), |(_, host)| format!("{scheme}***@{host}"))
    });
    shown.collect()
}
