//! Channels and patterns: the address of a wave, and the filter of a receiver. Ordinary terms: subject and
//! subscription.
//!
//! Names follow the NATS rules, so that every channel is also a NATS subject: tokens of printable ASCII separated by
//! dots. Names are validated when they are made and cheap to clone afterwards. This file matches one name against one
//! pattern; the router matches one name against many.
//!
//! ```
//! use aether_core::{Channel, Pattern};
//!
//! let created = Channel::new("orders.created")?;
//! assert!(Pattern::new("orders.*")?.matches(&created)); // exactly one token
//! assert!(Pattern::new("orders.>")?.matches(&created)); // one or more tokens
//! assert!(Pattern::new("*")?.matches(&created)); // a bare `*` matches every channel
//! assert_eq!(
//!     Channel::new("orders created").unwrap_err().to_string(),
//!     "character ' ' at byte 6 of \"orders created\" is not allowed: use printable ASCII without spaces"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod recent;

use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use smol_str::SmolStr;

/// The maximum length of a channel or pattern, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The maximum number of dot-separated tokens in a channel or pattern.
pub const MAX_TOKENS: usize = 16;
/// The first token of the channels that belong to the framework.
const RESERVED_TOKEN: &str = "_aether";

/// Seeded at random for each process, so that a remote peer cannot choose names that collide in the route cache.
static NAME_HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The name a wave is sent to: dot-separated tokens such as `orders.payment.completed`.
///
/// Cloning copies a name of up to 23 bytes and bumps a reference count for a longer one. Only the name
/// counts for equality and hashing.
pub struct Channel {
    /// The two lowest bits are [`FRAMEWORK`] and [`RESERVED`].
    hash: u64,
    name: SmolStr,
}

/// The channel belongs to the framework.
const FRAMEWORK: u64 = 1;
/// The channel belongs to the framework or to NATS, so users may not name it.
const RESERVED: u64 = 2;

impl Clone for Channel {
    #[inline]
    fn clone(&self) -> Self {
        Self { hash: self.hash, name: self.name.clone() }
    }

    /// Copies each field separately. A whole-struct copy is written to the stack in parts and read back in one piece,
    /// which stalls the processor's store forwarding.
    #[inline]
    fn clone_from(&mut self, other: &Self) {
        self.name = other.name.clone();
        self.hash = other.hash;
    }
}

/// A filter over channels: a channel name in which `*` matches one token and a final `>` one or more.
///
/// A bare `*` matches every channel, like `>`. Patterns that begin with a wildcard do not match the reserved channels
/// below `_aether.`; subscribe to those by name: `_aether.>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: SmolStr,
}

/// Why a name cannot be a channel or a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The name is empty.
    #[error("the name is empty: give at least one token, such as \"orders\"")]
    Empty,
    /// More than [`MAX_NAME_BYTES`] bytes.
    #[error("the name has {bytes} bytes: at most {MAX_NAME_BYTES} are allowed")]
    TooLong {
        /// The length of the name.
        bytes: usize,
    },
    /// More than [`MAX_TOKENS`] tokens.
    #[error("{name:?} has {tokens} tokens: at most {MAX_TOKENS} are allowed")]
    TooManyTokens {
        /// The name as given.
        name: String,
        /// The number of tokens.
        tokens: usize,
    },
    /// An empty token: two dots in a row, or a dot at either end.
    #[error("token at byte {position} of {name:?} is empty: put at least one character between two dots")]
    EmptyToken {
        /// The name as given.
        name: String,
        /// The byte offset at which a token should begin.
        position: usize,
    },
    /// A space, a control character or a character outside of ASCII.
    #[error(
        "character {character:?} at byte {position} of {name:?} is not allowed: use printable ASCII without spaces"
    )]
    Character {
        /// The name as given.
        name: String,
        /// The character.
        character: char,
        /// Its byte offset.
        position: usize,
    },
    /// A misplaced `*` or `>`.
    #[error("wildcard {character:?} at byte {position} of {name:?} is not allowed: {}", if *.in_pattern {
        "'*' must be a whole token, '>' a whole token and the last one"
    } else {
        "a channel is one name, wildcards belong in patterns"
    })]
    Wildcard {
        /// The name as given.
        name: String,
        /// The wildcard.
        character: char,
        /// Its byte offset.
        position: usize,
        /// Whether the name was parsed as a pattern.
        in_pattern: bool,
    },
    /// A channel reserved for the framework (`_aether.`) or for NATS (`$…`, `_INBOX`).
    #[error("{name:?} is reserved: channels may not begin with \"_aether\", \"_INBOX\" or '$'")]
    Reserved {
        /// The name as given.
        name: String,
    },
}

impl From<Infallible> for ChannelError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Channel {
    /// Parses a channel name.
    ///
    /// # Errors
    /// [`ChannelError`] names the rule that was broken and where.
    pub fn new(name: impl AsRef<str>) -> Result<Self, ChannelError> {
        recent::channel(name.as_ref(), |channel| channel.hash & RESERVED == 0, Self::parse_public)
    }

    fn parse_public(name: &str) -> Result<Self, ChannelError> {
        let channel = Self::parse(name)?;
        if channel.hash & RESERVED != 0 {
            return Err(ChannelError::Reserved { name: name.to_owned() });
        }
        Ok(channel)
    }

    /// Like [`Channel::new`], but allows the names reserved for the framework: for media, which also deliver the
    /// framework's own messages.
    ///
    /// # Errors
    /// [`ChannelError`] names the character or the rule, its place, and what is allowed.
    pub fn with_reserved(name: &str) -> Result<Self, ChannelError> {
        recent::channel(name, |_| true, Self::parse)
    }

    fn parse(name: &str) -> Result<Self, ChannelError> {
        check_name(name, false)?;
        let first = name.split('.').next().unwrap_or_default();
        let flags = match first {
            RESERVED_TOKEN => FRAMEWORK | RESERVED,
            _ if first == "_INBOX" || first.starts_with('$') => RESERVED,
            _ => 0,
        };
        let hash = NAME_HASHER.hash_one(name) & !(FRAMEWORK | RESERVED) | flags;
        Ok(Self { hash, name: name.into() })
    }

    /// The channel of no wave.
    pub(crate) const fn none() -> Self {
        Self { hash: 0, name: SmolStr::new_inline("-") }
    }

    /// Whether the name is too long to be stored inline.
    pub(crate) const fn is_shared(&self) -> bool {
        self.name.is_heap_allocated()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The tokens between the dots.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.name.split('.')
    }

    /// Whether a pattern matches the channel: [`Pattern::matches`].
    #[must_use]
    pub fn matches(&self, pattern: &Pattern) -> bool {
        pattern.matches(self)
    }

    /// The channel's shard, out of `shards`. Uses different bits of the hash than a hash table does.
    pub(crate) fn shard(&self, shards: usize) -> usize {
        (self.hash >> 32) as usize % shards
    }

    /// Whether the channel carries messages of the framework and its programs, so that a view of a system leaves it
    /// out: reserved channels, and the channels of descriptions, dead letters, the replicas of fields and checks.
    #[must_use]
    pub fn is_plumbing(&self) -> bool {
        let mut tokens = self.as_str().split('.');
        match tokens.next() {
            Some("aether") => matches!(tokens.next(), Some("descriptions" | "letters")),
            Some("aether-doctor") => true,
            Some("field") => matches!(tokens.nth(1), Some("changes" | "beats" | "presence" | "sync")),
            _ => self.is_reserved(),
        }
    }

    /// Whether the channel belongs to the framework.
    #[must_use]
    #[inline]
    pub fn is_reserved(&self) -> bool {
        self.hash & FRAMEWORK != 0
    }
}

impl Pattern {
    /// Parses a pattern such as `orders.*` or `orders.>`.
    ///
    /// # Errors
    /// [`ChannelError`] names the rule that was broken and where.
    pub fn new(text: impl AsRef<str>) -> Result<Self, ChannelError> {
        let text = text.as_ref();
        check_name(text, true)?;
        Ok(Self { text: if text == "*" { ">" } else { text }.into() })
    }

    /// The pattern that matches every channel except the reserved ones.
    #[must_use]
    pub fn everything() -> Self {
        Self { text: SmolStr::new_inline(">") }
    }

    /// The text; a bare `*` reads `>`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it only matches channels of the framework.
    pub fn is_reserved(&self) -> bool {
        self.tokens().next() == Some(RESERVED_TOKEN)
    }

    /// The tokens between the dots, wildcards included.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.text.split('.')
    }

    /// Whether the pattern matches a channel.
    #[must_use]
    pub fn matches(&self, channel: &Channel) -> bool {
        if channel.is_reserved() && self.text.starts_with(['*', '>']) {
            return false;
        }
        let mut tokens = channel.tokens();
        for wanted in self.tokens() {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl Pattern {
    /// Whether this pattern matches every channel that the other one matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.text.starts_with(['*', '>']) && other.tokens().next() == Some(RESERVED_TOKEN) {
            return false;
        }
        let (mut ours, mut theirs) = (self.tokens(), other.tokens());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) => return true,
                (Some("*"), Some(token)) if token != ">" => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    /// Whether any channel matches both patterns.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_apart =
            |a: &Self, b: &Self| a.text.starts_with(['*', '>']) && b.tokens().next() == Some(RESERVED_TOKEN);
        if is_apart(self, other) || is_apart(other, self) {
            return false;
        }
        let (mut ours, mut theirs) = (self.tokens(), other.tokens());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl From<Channel> for Pattern {
    /// The pattern that matches only this channel.
    fn from(channel: Channel) -> Self {
        Self { text: channel.name }
    }
}

impl TryFrom<Result<Self, ChannelError>> for Channel {
    type Error = ChannelError;
    /// Takes what [`Channel::new`] returned.
    fn try_from(made: Result<Self, ChannelError>) -> Result<Self, ChannelError> {
        made
    }
}

impl TryFrom<Result<Self, ChannelError>> for Pattern {
    type Error = ChannelError;
    /// Takes what [`Pattern::new`] returned.
    fn try_from(made: Result<Self, ChannelError>) -> Result<Self, ChannelError> {
        made
    }
}

impl TryFrom<Result<Channel, ChannelError>> for Pattern {
    type Error = ChannelError;
    /// Takes what [`Channel::new`] returned. A name that only its wildcards keep from being a channel may be a pattern,
    /// so `resonate_on(Channel::new("orders.*"))` subscribes to `orders.*`.
    fn try_from(made: Result<Channel, ChannelError>) -> Result<Self, ChannelError> {
        match made {
            Ok(channel) => Ok(channel.into()),
            Err(ChannelError::Wildcard { name, in_pattern: false, .. }) => Self::new(name),
            Err(error) => Err(error),
        }
    }
}

impl From<&Channel> for Pattern {
    /// The pattern that matches only this channel.
    fn from(channel: &Channel) -> Self {
        Self { text: channel.name.clone() }
    }
}

fn check_name(name: &str, in_pattern: bool) -> Result<(), ChannelError> {
    if name.is_empty() {
        return Err(ChannelError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(ChannelError::TooLong { bytes: name.len() });
    }
    let tokens = name.split('.').count();
    if tokens > MAX_TOKENS {
        return Err(ChannelError::TooManyTokens { name: name.to_owned(), tokens });
    }
    let mut start = 0;
    for token in name.split('.') {
        if token.is_empty() {
            return Err(ChannelError::EmptyToken { name: name.to_owned(), position: start });
        }
        for (offset, character) in token.char_indices() {
            let position = start + offset;
            if !character.is_ascii_graphic() {
                return Err(ChannelError::Character { name: name.to_owned(), character, position });
            }
            let wildcard_stands_well = in_pattern
                && token.len() == 1
                && (character == '*' || (character == '>' && start + 1 == name.len()));
            if matches!(character, '*' | '>') && !wildcard_stands_well {
                return Err(ChannelError::Wildcard {
                    name: name.to_owned(),
                    character,
                    position,
                    in_pattern,
                });
            }
        }
        start += token.len() + 1;
    }
    Ok(())
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.name == other.name
    }
}

impl Eq for Channel {}

/// Writes the hash computed when the channel was made, so that a lookup does not read the name again.
impl Hash for Channel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Ord for Channel {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}

impl PartialOrd for Channel {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Conversions and formatting, identical for both name types.
macro_rules! name_conversions {
    ($name:ident, $field:ident) => {
        impl TryFrom<&str> for $name {
            type Error = ChannelError;
            fn try_from(text: &str) -> Result<Self, ChannelError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ChannelError;
            fn try_from(text: String) -> Result<Self, ChannelError> {
                Self::new(text)
            }
        }

        impl TryFrom<&String> for $name {
            type Error = ChannelError;
            fn try_from(text: &String) -> Result<Self, ChannelError> {
                Self::new(text)
            }
        }

        impl From<&$name> for $name {
            fn from(name: &$name) -> Self {
                name.clone()
            }
        }

        impl std::str::FromStr for $name {
            type Err = ChannelError;
            fn from_str(text: &str) -> Result<Self, ChannelError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.$field)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.$field)
            }
        }
    };
}

name_conversions!(Channel, name);
name_conversions!(Pattern, text);

#[cfg(test)]
mod tests;
