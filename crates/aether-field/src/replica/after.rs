//! Waves that must not be seen before a write: a wave carries where a register stood, and its receiver waits for that.

use std::fmt;
use std::str::FromStr;

use super::error::FieldError;
use super::field::Field;
use crate::core::{Key, Stamp, WriterId};

/// The metadata entry of a wave that was emitted after a write: the text of an [`After`].
pub const AFTER: &str = "aether-field-after";

/// Where a register stood when it was asked for with [`Field::after`]. Its text fits into the metadata of a wave unless
/// the name has control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    name: String,
    stamp: Stamp,
}

/// A text cannot be read as an [`After`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected MICROSECONDS.COUNTER@WRITER NAME, the writer as 16 hexadecimal digits")]
pub struct AfterError;

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.stamp, self.name)
    }
}

impl FromStr for After {
    type Err = AfterError;

    fn from_str(text: &str) -> Result<Self, AfterError> {
        let (stamp, name) = text.split_once(' ').ok_or(AfterError)?;
        let (time, writer) = stamp.split_once('@').ok_or(AfterError)?;
        let (micros, logical) = time.split_once('.').ok_or(AfterError)?;
        let stamp = Stamp {
            micros: micros.parse().map_err(|_| AfterError)?,
            logical: logical.parse().map_err(|_| AfterError)?,
            writer: WriterId(u64::from_str_radix(writer, 16).map_err(|_| AfterError)?),
        };
        Ok(Self { name: name.to_owned(), stamp })
    }
}

impl Field {
    /// The position of a register now, also after a removal; `None` if it never was. A wave that carries it in the
    /// metadata entry [`AFTER`] lets its receiver wait with [`Field::reached`].
    #[must_use]
    pub fn after(&self, name: &str) -> Option<After> {
        let state = self.shared().state();
        let stamp = state.entry(&Key::Register(name.into()))?.stamp;
        Some(After { name: name.to_owned(), stamp })
    }

    /// Waits until this replica has the state that the writer had when it called [`Field::after`], or something newer.
    /// A change lost on the way comes with the next reconciliation. The text is not checked, so bound the wait for
    /// waves of strangers with a time-out.
    ///
    /// # Errors
    /// [`FieldError::Closed`] if the field is closed meanwhile.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing is lost.
    pub async fn reached(&self, after: &After) -> Result<(), FieldError> {
        let key = Key::Register(after.name.as_str().into());
        let mut updates = self.watch(&after.name);
        loop {
            {
                let state = self.shared().state();
                // Without a mark, a removal that is old enough counts for everything before it.
                let stands = state.entry(&key).map_or_else(|| state.collected(), |entry| entry.stamp);
                if stands >= after.stamp {
                    return Ok(());
                }
            }
            updates.next().await.ok_or(FieldError::Closed)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_place_is_read_back() {
        let stamp = Stamp { micros: 17, logical: 3, writer: WriterId(0xabc) };
        let after = After { name: "room/7 lamp".to_owned(), stamp };
        assert_eq!(after.to_string(), "17.3@0000000000000abc room/7 lamp");
        assert_eq!(after.to_string().parse(), Ok(after));
        for bad in ["", "x", "1.2@3", "1@2 n", "a.2@3 n", "1.b@3 n", "1.2@g n"] {
            assert_eq!(bad.parse::<After>(), Err(AfterError), "{bad}");
        }
    }
}
