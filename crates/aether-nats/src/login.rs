//! How a program proves who it is to NATS servers. All secrets come from files or from the address, and are read again
//! for each connection, so that a new one needs no restart.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use async_nats::{Auth, ServerAddr};
use nkeys::KeyPair;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use aether_files::private_file::{self, PrivateFileError};

/// The maximum size of a file with a secret. A credentials file has about 1 KiB.
const MAX_FILE: u64 = 64 << 10;

/// How a program proves who it is to NATS servers. `Debug` does not show secrets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NatsLogin {
    /// A user and a password in an address: `nats://user:password@host`. Characters that an address cannot have are
    /// percent-encoded.
    Password {
        /// The name of the user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// A token in an address: `nats://token@host`.
    Token(Zeroizing<String>),
    /// A user, and a file whose first line is the password.
    PasswordFile {
        /// The name of the user.
        user: String,
        /// The file.
        file: PathBuf,
    },
    /// A file whose first line is a token.
    TokenFile(PathBuf),
    /// A file whose first line is the seed of an NKey: `SU...`.
    NkeyFile(PathBuf),
    /// A credentials file as `nsc` writes it: a JWT and the seed of its NKey.
    CredentialsFile(PathBuf),
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsLoginError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Other users of this machine can read or write the file.
    #[error("other users of this machine can use {} (mode {mode:03o}): use chmod 600", .path.display())]
    Public {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file has no such secret.
    #[error("{} has no {expected}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The content that it should have.
        expected: &'static str,
    },
}

impl From<PrivateFileError> for NatsLoginError {
    fn from(error: PrivateFileError) -> Self {
        match error {
            PrivateFileError::Unread { path, source } => Self::Unread { path, source },
            PrivateFileError::Public { path, mode } => Self::Public { path, mode },
        }
    }
}

impl NatsLogin {
    /// The user and the password, or the token, of the first of these servers that has any.
    #[must_use]
    pub fn in_addresses(servers: &[ServerAddr]) -> Option<Self> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        servers.iter().find_map(|server| {
            let user = decoded(server.username()?);
            Some(match server.password() {
                Some(password) => Self::Password { user, password: decoded(password).into() },
                None => Self::Token(user.into()),
            })
        })
    }

    /// The name of the user, if the login has it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Password { user, .. } | Self::PasswordFile { user, .. } => Some(user),
            _ => None,
        }
    }

    pub(super) fn auth(&self, nonce: &[u8]) -> Result<Auth, NatsLoginError> {
        let mut auth = Auth::new();
        match self {
            Self::Password { user, password } => {
                auth.username = Some(user.clone());
                auth.password = Some(password.to_string());
            }
            Self::Token(token) => auth.token = Some(token.to_string()),
            Self::PasswordFile { user, file } => {
                auth.username = Some(user.clone());
                auth.password = Some(first_line(&secret(file)?, file, "password in its first line")?);
            }
            Self::TokenFile(file) => {
                auth.token = Some(first_line(&secret(file)?, file, "token in its first line")?);
            }
            Self::NkeyFile(file) => {
                let expected = "seed of an NKey in its first line";
                let seed = Zeroizing::new(first_line(&secret(file)?, file, expected)?);
                let keys = key_pair(&seed, file, expected)?;
                auth.nkey = Some(keys.public_key());
                auth.signature = Some(signature(&keys, nonce, file, expected)?);
            }
            Self::CredentialsFile(file) => {
                let text = secret(file)?;
                let malformed = |expected| NatsLoginError::Malformed { path: file.clone(), expected };
                let jwt = section(&text, "NATS USER JWT").ok_or_else(|| malformed("NATS USER JWT"))?;
                let expected = "USER NKEY SEED";
                let seed = section(&text, expected).ok_or_else(|| malformed(expected))?;
                let keys = key_pair(seed, file, expected)?;
                auth.jwt = Some(jwt.to_owned());
                auth.signature = Some(signature(&keys, nonce, file, expected)?);
            }
        }
        Ok(auth)
    }
}

impl fmt::Debug for NatsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { .. } => f.write_str("Password(..)"),
            Self::Token(_) => f.write_str("Token(..)"),
            Self::PasswordFile { user, file } => {
                f.debug_struct("PasswordFile").field("user", user).field("file", file).finish()
            }
            Self::TokenFile(file) => f.debug_tuple("TokenFile").field(file).finish(),
            Self::NkeyFile(file) => f.debug_tuple("NkeyFile").field(file).finish(),
            Self::CredentialsFile(file) => f.debug_tuple("CredentialsFile").field(file).finish(),
        }
    }
}

/// Reads a file that has a secret. One that is too long has none.
fn secret(path: &Path) -> Result<Zeroizing<String>, NatsLoginError> {
    Ok(private_file::read(path, MAX_FILE)?.unwrap_or_default())
}

fn first_line(text: &str, path: &Path, expected: &'static str) -> Result<String, NatsLoginError> {
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty());
    line.map(str::to_owned).ok_or_else(|| NatsLoginError::Malformed { path: path.to_owned(), expected })
}

/// The line below the line `-----BEGIN name-----`. The dashes of the end differ among the tools that write them.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let name_on = line.trim_matches('-').strip_prefix("BEGIN ");
        line.starts_with("---") && name_on == Some(name)
    })?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

fn key_pair(seed: &str, path: &Path, expected: &'static str) -> Result<KeyPair, NatsLoginError> {
    KeyPair::from_seed(seed).map_err(|_| NatsLoginError::Malformed { path: path.to_owned(), expected })
}

fn signature(
    keys: &KeyPair,
    nonce: &[u8],
    path: &Path,
    expected: &'static str,
) -> Result<Vec<u8>, NatsLoginError> {
    // Fails only for a key without its secret half.
    keys.sign(nonce).map_err(|_| NatsLoginError::Malformed { path: path.to_owned(), expected })
}

/// Finds the sections of a text, which are parts of it on one line.
#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    for name in ["NATS USER JWT", "USER NKEY SEED"] {
        let found = section(text, name);
        assert!(found.is_none_or(|found| !found.is_empty() && !found.contains('\n') && text.contains(found)));
        let written = format!("{text}\n-----BEGIN {name}-----\nSUAA\n------END {name}------\n");
        assert!(section(&written, name).is_some() || text.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(urls: &[&str]) -> Option<NatsLogin> {
        let servers: Vec<ServerAddr> = urls.iter().map(|url| url.parse().unwrap()).collect();
        NatsLogin::in_addresses(&servers)
    }

    #[test]
    fn the_first_address_with_credentials_has_those_of_all() {
        let password = |user: &str, password: &str| {
            Some(NatsLogin::Password { user: user.to_owned(), password: password.to_owned().into() })
        };
        assert_eq!(of(&["nats://a:4222", "nats://b:4222"]), None);
        assert_eq!(of(&["nats://a", "nats://shop:right@b", "nats://x:y@c"]), password("shop", "right"));
        assert_eq!(of(&["nats://shop:a%40b%3A@host"]), password("shop", "a@b:"));
        assert_eq!(of(&["nats://s3cret@host"]), Some(NatsLogin::Token("s3cret".to_owned().into())));
        assert_eq!(format!("{:?}", of(&["nats://shop:right@b"])), "Some(Password(..))");
    }

    #[test]
    fn the_sections_of_credentials_are_found_whatever_the_number_of_dashes() {
        let text = "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n\n\
                    ---BEGIN USER NKEY SEED---\n\n SUAA \n";
        assert_eq!(
            (section(text, "NATS USER JWT"), section(text, "USER NKEY SEED")),
            (Some("eyJ0"), Some("SUAA"))
        );
        assert_eq!(
            section("-----BEGIN NATS USER JWT-----\n------END NATS USER JWT------\n", "NATS USER JWT"),
            None
        );
        assert_eq!(section("", "NATS USER JWT"), None);
    }
}
