//! How a program shows a NATS server who it is, in settings and arguments: files with secrets, and certificates.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

#[cfg(feature = "nats")]
use aether::nats::NatsLogin;
use serde::{Deserialize, Serialize};

/// A text that names no files of a login or a certificate. It states what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not allowed: use {allowed}")]
pub struct LoginError {
    given: String,
    allowed: &'static str,
}

impl LoginError {
    fn new(given: &str, allowed: &'static str) -> Self {
        Self { given: given.to_owned(), allowed }
    }
}

/// A file with the secret of a program. As text `KIND:PATH`, with the kinds `credentials`, `nkey` and `token`, or
/// `password:USER:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum LoginFile {
    /// A credentials file: a JWT and the seed of its NKey.
    Credentials(PathBuf),
    /// A file whose first line is the seed of an NKey.
    Nkey(PathBuf),
    /// A file whose first line is a token.
    Token(PathBuf),
    /// A file whose first line is the password of a user.
    Password {
        /// The name of the user.
        user: String,
        /// The file.
        file: PathBuf,
    },
}

impl LoginFile {
    /// Whether the secret itself is sent to the server. An NKey and credentials only sign.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Password { .. })
    }
}

impl FromStr for LoginFile {
    type Err = LoginError;
    fn from_str(text: &str) -> Result<Self, LoginError> {
        const ALLOWED: &str = "credentials:PATH, nkey:PATH, token:PATH or password:USER:PATH";
        let login = match text.split_once(':') {
            Some((_, "")) | None => None,
            Some(("credentials", path)) => Some(Self::Credentials(path.into())),
            Some(("nkey", path)) => Some(Self::Nkey(path.into())),
            Some(("token", path)) => Some(Self::Token(path.into())),
            Some(("password", rest)) => rest
                .split_once(':')
                .filter(|(user, path)| !user.is_empty() && !path.is_empty())
                .map(|(user, path)| Self::Password { user: user.to_owned(), file: path.into() }),
            Some(_) => None,
        };
        login.ok_or_else(|| LoginError::new(text, ALLOWED))
    }
}

impl fmt::Display for LoginFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(path) => write!(f, "credentials:{}", path.display()),
            Self::Nkey(path) => write!(f, "nkey:{}", path.display()),
            Self::Token(path) => write!(f, "token:{}", path.display()),
            Self::Password { user, file } => write!(f, "password:{user}:{}", file.display()),
        }
    }
}

impl TryFrom<String> for LoginFile {
    type Error = LoginError;
    fn try_from(text: String) -> Result<Self, LoginError> {
        text.parse()
    }
}

impl From<LoginFile> for String {
    fn from(login: LoginFile) -> Self {
        login.to_string()
    }
}

#[cfg(feature = "nats")]
impl From<LoginFile> for NatsLogin {
    fn from(login: LoginFile) -> Self {
        match login {
            LoginFile::Credentials(path) => Self::CredentialsFile(path),
            LoginFile::Nkey(path) => Self::NkeyFile(path),
            LoginFile::Token(path) => Self::TokenFile(path),
            LoginFile::Password { user, file } => Self::PasswordFile { user, file },
        }
    }
}

/// The PEM files of a certificate with its chain and of its key, as text `CERTIFICATE,KEY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateFiles {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl FromStr for CertificateFiles {
    type Err = LoginError;
    fn from_str(text: &str) -> Result<Self, LoginError> {
        const ALLOWED: &str = "the paths of a certificate and of its key, such as client.pem,client-key.pem";
        let files = text.split_once(',').map(|(certificate, key)| (certificate.trim(), key.trim()));
        match files {
            Some((certificate, key)) if !certificate.is_empty() && !key.is_empty() => {
                Ok(Self { certificate: certificate.into(), key: key.into() })
            }
            _ => Err(LoginError::new(text, ALLOWED)),
        }
    }
}

impl fmt::Display for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.certificate.display(), self.key.display())
    }
}

impl TryFrom<String> for CertificateFiles {
    type Error = LoginError;
    fn try_from(text: String) -> Result<Self, LoginError> {
        text.parse()
    }
}

impl From<CertificateFiles> for String {
    fn from(files: CertificateFiles) -> Self {
        files.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_a_kind_and_a_file() {
        for text in ["credentials:/run/a.creds", "nkey:a", "token:b", "password:shop:/run/c:d"] {
            assert_eq!(text.parse::<LoginFile>().unwrap().to_string(), text);
        }
        for text in ["", "a.creds", "nkey:", "password:shop", "password::file", "password:shop:", "jwt:a"] {
            let error = text.parse::<LoginFile>().unwrap_err().to_string();
            assert!(error.contains("password:USER:PATH"), "{error}");
        }
    }

    #[test]
    fn a_certificate_has_a_key() {
        let files: CertificateFiles = "a.pem, b.pem".parse().unwrap();
        assert_eq!(files.to_string(), "a.pem,b.pem");
        for text in ["", "a.pem", "a.pem,", ",b.pem"] {
            assert!(
                text.parse::<CertificateFiles>().unwrap_err().to_string().contains("client-key.pem"),
                "{text}"
            );
        }
    }
}
