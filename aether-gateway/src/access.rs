//! Tokens, and what their holders may do: read and write fields, hear and emit waves.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aether_core::{Channel, Pattern};
use aether_field::Names;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The names that a client may read, and those that it may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) read: Vec<Names>,
    pub(crate) write: Vec<Names>,
}

impl Rights {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self { read: vec![Names::of("*")], write: vec![Names::of("*")] }
    }

    pub(crate) fn may_write(&self, name: &str) -> bool {
        self.write.iter().any(|names| names.has(name))
    }

    /// The part of the names that may be read, without names that others of the result include.
    pub(crate) fn readable(&self, wanted: &[Names]) -> Vec<Names> {
        let mut readable: Vec<Names> = Vec::new();
        let all = wanted.iter().flat_map(|wanted| self.read.iter().filter_map(|read| wanted.and(read)));
        for names in all {
            if readable.iter().any(|known| known.and(&names).as_ref() == Some(&names)) {
                continue;
            }
            readable.retain(|known| names.and(known).as_ref() != Some(known));
            readable.push(names);
        }
        readable
    }
}

/// The channels that a client may hear through a gateway, and those on which it may emit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WaveRights {
    pub(crate) hear: Vec<Pattern>,
    pub(crate) emit: Vec<Pattern>,
}

impl WaveRights {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self { hear: vec![Pattern::everything()], emit: vec![Pattern::everything()] }
    }

    pub(crate) fn may_hear(&self, channel: &Channel) -> bool {
        self.hear.iter().any(|pattern| pattern.matches(channel))
    }

    pub(crate) fn may_emit(&self, channel: &Channel) -> bool {
        self.emit.iter().any(|pattern| pattern.matches(channel))
    }

    fn is_empty(&self) -> bool {
        self.hear.is_empty() && self.emit.is_empty()
    }
}

/// Who may use the fields of a gateway, and who may hear and emit waves through it.
///
/// Without tokens everybody may read and write all fields, and hear and emit waves on a loopback address. As soon as there is
/// one, whatever it is for, every client needs one with the right to what it does. Tokens are kept as SHA-256 only, and
/// compared in constant time.
#[derive(Debug, Clone, Default)]
pub struct Access {
    tokens: Vec<Token>,
}

#[derive(Clone)]
struct Token {
    digest: [u8; 32],
    /// The field; `None` stands for all.
    field: Option<String>,
    rights: Rights,
    waves: WaveRights,
}

/// The file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The file cannot be read.
    #[error("the tokens in {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Every user of the machine can read the file.
    #[error("every user can read the tokens in {}; make the file private with: chmod 600 {}", path.display(), path.display())]
    Public {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the JSON that it must be.
    #[error(
        "the tokens in {} must be a JSON array of objects such as {}",
        path.display(),
        r#"{"token": "a secret", "field": "home", "read": ["*"], "write": ["room/7/*"], "hear": [">"], "emit": ["orders.>"]}"#
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// A pattern of channels is invalid.
    #[error("{pattern:?} in {} is no pattern of channels such as orders.* or orders.>", path.display())]
    Pattern {
        /// The file.
        path: PathBuf,
        /// The text in it.
        pattern: String,
    },
    /// There is no token in the file, so it would protect nothing.
    #[error("{} has no token: write one, or set no file", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// A token is empty, so everybody knows it.
    #[error("a token is empty; write a secret, for example from: openssl rand -hex 32")]
    Empty,
}

/// An entry of the file of tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    token: String,
    field: Option<String>,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    hear: Vec<String>,
    #[serde(default)]
    emit: Vec<String>,
}

impl Access {
    /// The maximum size of a file of tokens: 1 MiB.
    const MAX_FILE: u64 = 1 << 20;

    /// Reads the tokens of a JSON file: `[{"token": "a secret", "field": "home", "read": ["*"], "write": []}]`. Without
    /// `field`, a token is for all fields. Patterns are names, or beginnings of names and `*`. `hear` and `emit` are patterns
    /// of channels: the waves that its holder may hear and emit through the gateway. What is left out gives no right.
    ///
    /// # Errors
    /// [`AccessError`] if the file cannot be read, every user can read it, it is not such JSON, has no token, or one that is
    /// empty.
    pub fn load(path: &Path) -> Result<Self, AccessError> {
        let unread = |source| AccessError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unread)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            if file.metadata().map_err(unread)?.permissions().mode() & 0o004 != 0 {
                return Err(AccessError::Public { path: path.to_owned() });
            }
        }
        let mut text = String::new();
        file.take(Self::MAX_FILE).read_to_string(&mut text).map_err(unread)?;
        let lines: Vec<Line> = serde_json::from_str(&text)
            .map_err(|source| AccessError::Json { path: path.to_owned(), source })?;
        let mut access = Self::default();
        let names = |patterns: Vec<String>| patterns.iter().map(|pattern| Names::of(pattern)).collect();
        let channels = |patterns: Vec<String>| -> Result<Vec<Pattern>, AccessError> {
            let read = |pattern: String| {
                Pattern::new(&pattern).map_err(|_| AccessError::Pattern { path: path.to_owned(), pattern })
            };
            patterns.into_iter().map(read).collect()
        };
        for Line { token, field, read, write, hear, emit } in lines {
            let rights = Rights { read: names(read), write: names(write) };
            let waves = WaveRights { hear: channels(hear)?, emit: channels(emit)? };
            access.add(&token, field, rights, waves)?;
        }
        if access.is_open() {
            return Err(AccessError::NoToken { path: path.to_owned() });
        }
        Ok(access)
    }

    /// Adds a token whose holder may read and write everything in all fields.
    ///
    /// # Errors
    /// [`AccessError::Empty`] if it is empty.
    pub fn token(mut self, token: &str) -> Result<Self, AccessError> {
        self.add(token, None, Rights::all(), WaveRights::default())?;
        Ok(self)
    }

    /// Adds a token whose holder may hear and emit everything through the gateway. It gives no right in fields.
    ///
    /// # Errors
    /// [`AccessError::Empty`] if it is empty.
    pub fn waves_token(mut self, token: &str) -> Result<Self, AccessError> {
        let none = Rights { read: Vec::new(), write: Vec::new() };
        self.add(token, None, none, WaveRights::all())?;
        Ok(self)
    }

    fn add(
        &mut self,
        token: &str,
        field: Option<String>,
        rights: Rights,
        waves: WaveRights,
    ) -> Result<(), AccessError> {
        if token.is_empty() {
            return Err(AccessError::Empty);
        }
        self.tokens.push(Token { digest: digest(token), field, rights, waves });
        Ok(())
    }

    /// Whether there is no token, so that none is needed. A token for waves closes the fields, too, and one for fields the
    /// waves: who made a token does not expect that others need none.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether any token gives a right in fields.
    pub(crate) fn has_field_rights(&self) -> bool {
        self.tokens.iter().any(|token| !token.rights.read.is_empty() || !token.rights.write.is_empty())
    }

    /// Whether any token gives a right to hear or to emit waves.
    pub(crate) fn has_wave_rights(&self) -> bool {
        self.tokens.iter().any(|token| !token.waves.is_empty())
    }

    /// What the holder of a token may hear and emit; `None` if the token is not known. All tokens are compared, each in
    /// constant time.
    pub(crate) fn wave_rights(&self, token: &str) -> Option<WaveRights> {
        let presented = digest(token);
        let mut rights: Option<WaveRights> = None;
        for known in &self.tokens {
            let is_same: bool = known.digest.ct_eq(&presented).into();
            if is_same {
                let all = rights.get_or_insert_default();
                all.hear.extend(known.waves.hear.iter().cloned());
                all.emit.extend(known.waves.emit.iter().cloned());
            }
        }
        rights
    }

    /// The rights of the holder of a token in a field. All tokens are compared, each in constant time.
    pub(crate) fn rights(&self, field: &str, token: &str) -> Option<Rights> {
        let presented = digest(token);
        let mut rights = None;
        for known in &self.tokens {
            let is_same: bool = known.digest.ct_eq(&presented).into();
            if is_same && known.field.as_deref().is_none_or(|known| known == field) {
                rights = Some(known.rights.clone());
            }
        }
        rights
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("field", &self.field)
            .field("rights", &self.rights)
            .field("waves", &self.waves)
            .finish_non_exhaustive()
    }
}

/// Of one length, so that a comparison tells nothing about the length of a token.
fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(patterns: &[&str]) -> Vec<Names> {
        patterns.iter().map(|pattern| Names::of(pattern)).collect()
    }

    #[test]
    fn the_readable_part_of_a_subscription_is_the_narrower_of_both() {
        let rights = Rights { read: names(&["room/7/*", "lamp"]), write: vec![] };
        assert_eq!(rights.readable(&names(&["*"])), names(&["room/7/*", "lamp"]));
        assert_eq!(rights.readable(&names(&["room/7/a", "room/7/*", "room/7/b*"])), names(&["room/7/*"]));
        assert_eq!(rights.readable(&names(&["room/*", "lamps"])), names(&["room/7/*"]));
        assert_eq!(rights.readable(&names(&["room/8/*", "room/7"])), []);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_tokens_is_private_and_gives_rights_by_field() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let line = r#"[{"token": "s3cret", "field": "home", "read": ["*"], "write": ["room/7/*"]}]"#;
        fs::write(&path, line).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Access::load(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let access = Access::load(&path).unwrap();
        let rights = access.rights("home", "s3cret").unwrap();
        assert!(rights.may_write("room/7/lamp") && !rights.may_write("room/8/lamp"));
        assert_eq!(access.rights("home", "s3creT"), None);
        assert_eq!(access.rights("office", "s3cret"), None);
        assert!(
            Access::default().is_open() && !access.is_open() && !format!("{access:?}").contains("s3cret")
        );
        assert!(!access.has_wave_rights(), "a token for fields emits nothing");

        fs::write(&path, "[]").unwrap();
        assert!(matches!(Access::load(&path), Err(AccessError::NoToken { .. })), "it would protect nothing");
        fs::write(&path, r#"[{"token": "", "read": [], "write": []}]"#).unwrap();
        assert!(matches!(Access::load(&path), Err(AccessError::Empty)));
        fs::write(&path, r#"[{"token": "x", "emit": ["orders.>"]}, {"token": "x", "hear": ["a.*"]}]"#)
            .unwrap();
        let access = Access::load(&path).unwrap();
        let rights = access.wave_rights("x").unwrap();
        let channel = |name| Channel::new(name).unwrap();
        assert!(rights.may_emit(&channel("orders.created")) && !rights.may_emit(&channel("a.b")));
        assert!(rights.may_hear(&channel("a.b")) && !rights.may_hear(&channel("orders.created")));
        assert!(access.wave_rights("y").is_none() && access.has_wave_rights());
        assert!(!access.is_open(), "a token for waves closes the fields");
        assert_eq!(access.rights("home", "x").unwrap(), Rights { read: vec![], write: vec![] });

        fs::write(&path, r#"[{"token": "x", "emit": ["a..b"]}]"#).unwrap();
        assert!(Access::load(&path).unwrap_err().to_string().contains("a..b"));
        fs::write(&path, r#"[{"token": "x", "reads": []}]"#).unwrap();
        assert!(Access::load(&path).unwrap_err().to_string().contains("JSON array"));
    }
}
