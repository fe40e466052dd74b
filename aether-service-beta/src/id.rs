//! Identifiers: of orders and of articles.
//!
//! They are checked when made or read, so that they are always valid coherence keys.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use aether_core::wave::MAX_KEY_BYTES;
use aether_service::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

/// A text that is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an identifier of {bytes} bytes is not allowed: use 1 to {MAX_KEY_BYTES}")]
pub struct IdError {
    bytes: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Makes an identifier of 1 to 255 bytes. Cloning it is cheap (reference counted).
            ///
            /// # Errors
            /// [`IdError`] for an empty text and one that is too long.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                match text.len() {
                    1..=MAX_KEY_BYTES => Ok(Self(text.into())),
                    bytes => Err(IdError { bytes }),
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

id! {
    /// The id of an order, chosen by the asker. Each change of the stock happens once per order.
    OrderId
}
id! {
    /// The id of an article (stock keeping unit).
    Sku
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_at_least_one_byte_and_fit_into_a_coherence_key() {
        assert!(Sku::new("").is_err() && OrderId::new("x".repeat(MAX_KEY_BYTES + 1)).is_err());
        assert!(OrderId::new("x".repeat(MAX_KEY_BYTES)).is_ok());
        assert!(serde_json::from_str::<Sku>("\"\"").is_err());
        let lamp = Sku::new("lamp").unwrap();
        assert_eq!(serde_json::to_string(&lamp).unwrap(), "\"lamp\"");
        assert_eq!(serde_json::from_str::<Sku>("\"lamp\"").unwrap(), lamp);
    }
}
