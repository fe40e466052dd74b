//! What a program shows a server about itself: a password or a token in an address.

use std::fmt;

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// The credentials in the addresses of NATS servers: `nats://user:password@host`, or `nats://token@host`. Characters that an
/// address cannot have are percent-encoded. All servers get those of the first address that has any. `Debug` does not show
/// them.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NatsCredentials {
    /// A user with a password.
    Password {
        /// The name of the user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
}

impl NatsCredentials {
    /// The credentials of the first of these servers that has any.
    #[must_use]
    pub fn of(servers: &[ServerAddr]) -> Option<Self> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        servers.iter().find_map(|server| {
            let user = decoded(server.username()?);
            Some(match server.password() {
                Some(password) => Self::Password { user, password: decoded(password) },
                None => Self::Token(user),
            })
        })
    }

    /// Adds them to the options of a client.
    #[must_use]
    pub fn add_to(self, options: ConnectOptions) -> ConnectOptions {
        match self {
            Self::Password { user, password } => options.user_and_password(user, password),
            Self::Token(token) => options.token(token),
        }
    }
}

impl fmt::Debug for NatsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(urls: &[&str]) -> Option<NatsCredentials> {
        let servers: Vec<ServerAddr> = urls.iter().map(|url| url.parse().unwrap()).collect();
        NatsCredentials::of(&servers)
    }

    #[test]
    fn the_first_address_with_credentials_has_those_of_all() {
        let password = |user: &str, password: &str| {
            Some(NatsCredentials::Password { user: user.to_owned(), password: password.to_owned() })
        };
        assert_eq!(of(&["nats://a:4222", "nats://b:4222"]), None);
        assert_eq!(of(&["nats://a", "nats://shop:right@b", "nats://x:y@c"]), password("shop", "right"));
        assert_eq!(of(&["nats://shop:a%40b%3A@host"]), password("shop", "a@b:"));
        assert_eq!(of(&["nats://s3cret@host"]), Some(NatsCredentials::Token("s3cret".to_owned())));
        assert_eq!(format!("{:?}", of(&["nats://shop:right@b"])), "Some(Password(..))");
    }
}
