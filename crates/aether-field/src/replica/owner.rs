//! Owned state: what this replica's owner writes, and what others own.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::FieldError;
use super::field::{Field, json_of, read};
use super::watch::{Names, Watch, Writers};
use crate::core::{Certificate, Identity, PublicKey, Refusal};

/// The state that this replica's owner writes, and nobody else. Every write is signed with its key.
#[derive(Debug, Clone)]
pub struct Own {
    pub(super) field: Field,
    pub(super) name: String,
}

/// The state of one owner, for reading. Nothing is in it that the owner has not signed.
#[derive(Debug, Clone)]
pub struct Owner {
    pub(super) field: Field,
    pub(super) name: String,
}

impl Own {
    /// The name of the owner.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a value. It is visible here at once, and never waits for others.
    ///
    /// # Errors
    /// [`FieldError`] if the value is `null` or no JSON, name or value are out of bounds, or the identity is not the
    /// present key of its name, by what this replica trusts. Nothing changes then.
    pub fn set(&self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), FieldError> {
        let value = json_of(name, value)?;
        self.field.write_owned(|state, identity, wall| {
            state.set_owned(identity, name, value, wall).map(|written| ((), vec![written]))
        })
    }

    /// Removes a value. Returns whether there was one.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if the identity is not the present key of its name.
    pub fn remove(&self, name: &str) -> Result<bool, FieldError> {
        self.field.write_owned(|state, identity, wall| {
            let written = state.remove_owned(identity, name, wall)?;
            Ok((written.is_some(), written.into_iter().collect()))
        })
    }

    /// Reads a value; `None` if there is none.
    ///
    /// # Errors
    /// [`FieldError::Deserialize`] if the value is not of this type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FieldError> {
        self.field.of(&self.name).get(name)
    }

    /// Replaces the key: the present key signs `next`, everything is signed again with it, and everything that the
    /// present key signs from now on is refused by all replicas that have heard of it. Save `next` before.
    ///
    /// Cost: a signature for each value.
    ///
    /// # Errors
    /// [`FieldError::OtherName`] if `next` has another name, and [`FieldError::Refused`] if this identity is not the
    /// present key of its name, or its key was rotated 64 times. Nothing changes then.
    pub fn rotate(&self, next: &Identity) -> Result<(), FieldError> {
        if next.name() != self.name {
            let (name, given) = (self.name.clone(), next.name().to_owned());
            return Err(FieldError::OtherName { name, given });
        }
        self.field.rotate(next)
    }
}

impl Owner {
    /// The name of the owner.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a value; `None` if there is none, or the owner is not known here.
    ///
    /// # Errors
    /// [`FieldError::Deserialize`] if the value is not of this type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FieldError> {
        self.get_json(name).map(|value| read(name, &value)).transpose()
    }

    /// The JSON of a value; `None` if there is none.
    #[must_use]
    pub fn get_json(&self, name: &str) -> Option<Bytes> {
        self.field.shared.state().get_owned(&self.name, name)
    }

    /// The names and the JSON of the values that match a pattern: a name, or the beginning of names and `*`.
    #[must_use]
    pub fn list(&self, pattern: &str) -> Vec<(String, Bytes)> {
        let state = self.field.shared.state();
        let names = Names::of(pattern);
        let all = state.owned_by(&self.name, names.start()).filter(|(name, _)| names.has(name));
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Watches the names that match a pattern from now on: a name, or the beginning of names and `*`.
    #[must_use]
    pub fn watch(&self, pattern: &str) -> Watch {
        self.field.watch_by(Writers::Owner(self.name.as_str().into()), pattern)
    }

    /// The present key, by what this replica trusts, and the serial of its certificate, which is 0 for a key of the
    /// allow-list; `None` if no key is known.
    #[must_use]
    pub fn key(&self) -> Option<(PublicKey, u64)> {
        let state = self.field.shared.state();
        let mut owners = state.owners();
        owners.find_map(|(name, key, serial)| (name == self.name).then_some((key, serial)))
    }
}

impl Field {
    /// The state that this replica's owner writes.
    ///
    /// # Errors
    /// [`FieldError::NoIdentity`] if the replica has none.
    pub fn own(&self) -> Result<Own, FieldError> {
        let name = self.shared.identity.lock().as_ref().map(|identity| identity.name().to_owned());
        Ok(Own { field: self.clone(), name: name.ok_or(FieldError::NoIdentity)? })
    }

    /// The state of an owner.
    #[must_use]
    pub fn of(&self, owner: &str) -> Owner {
        Owner { field: self.clone(), name: owner.to_owned() }
    }

    /// The names of the owners of which a key is known here.
    #[must_use]
    pub fn owners(&self) -> Vec<String> {
        self.shared.state().owners().map(|(name, ..)| name.to_owned()).collect()
    }

    /// Trusts one more owner from now on, by its first key, and fetches what it has written. Returns whether it does: an
    /// owner of which another key is known keeps that one. The store does not remember it: name the owner in the
    /// [`Trust`](crate::Trust) of the next start.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if as many owners are known as [`Limits::max_owners`](crate::core::Limits::max_owners).
    pub fn trust(&self, owner: &str, key: PublicKey) -> Result<bool, FieldError> {
        let is_trusted = self.shared.state().trust(owner, key)?;
        self.shared.sync_now.notify_one();
        Ok(is_trusted)
    }

    /// Makes a certificate known to all replicas that trust the root that signed it.
    ///
    /// # Errors
    /// [`FieldError::Refused`] if this replica does not trust the root, or the certificate is for another field.
    pub fn publish(&self, certificate: &Certificate) -> Result<(), FieldError> {
        let write = |state: &mut crate::core::State, wall| {
            state.publish(certificate, wall).map(|written| ((), vec![written]))
        };
        Ok(self.shared.write_each(self.amplitude, write)?)
    }

    fn write_owned<T>(
        &self,
        write: impl FnOnce(
            &mut crate::core::State,
            &Identity,
            u64,
        ) -> Result<(T, Vec<crate::core::Written>), Refusal>,
    ) -> Result<T, FieldError> {
        let identity = self.shared.identity.lock();
        let identity = identity.as_ref().ok_or(FieldError::NoIdentity)?;
        Ok(self.shared.write_each(self.amplitude, |state, wall| write(state, identity, wall))?)
    }

    fn rotate(&self, next: &Identity) -> Result<(), FieldError> {
        let mut identity = self.shared.identity.lock();
        let present = identity.as_ref().ok_or(FieldError::NoIdentity)?;
        let write = |state: &mut crate::core::State, wall| {
            state.rotate(present, next, wall).map(|written| ((), written))
        };
        self.shared.write_each(self.amplitude, write)?;
        *identity = Some(next.clone());
        Ok(())
    }
}
