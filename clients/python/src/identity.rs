//! Owners: keys, and the certificates of a root.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;

use aether::field;
use pyo3::prelude::*;

use crate::errors::exceptions::{IdentityError, RefusedError};
use crate::errors::{Failure, chain};

/// The name and the private key of an owner.
#[pyclass(frozen, module = "aether")]
pub(crate) struct Identity(pub(crate) field::Identity);

#[pymethods]
impl Identity {
    /// Makes a new key for the owner `name` and saves it in a new file that only its owner may read.
    #[staticmethod]
    fn create(py: Python<'_>, name: &str, path: PathBuf) -> PyResult<Self> {
        let identity =
            field::Identity::generate(name).map_err(|error| IdentityError::new_err(chain(&error)))?;
        py.detach(|| identity.save(path)).map_err(Failure::from)?;
        Ok(Self(identity))
    }

    /// Reads the file that `create` wrote.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Ok(Self(py.detach(|| field::Identity::load(path)).map_err(Failure::from)?))
    }

    /// The name of the owner.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// The public key as 64 hexadecimal digits, for the `trust` or the `root` of others.
    #[getter]
    fn key(&self) -> String {
        self.0.public_key().to_string()
    }

    /// Signs a message, for `verify`. In a field the signature counts for nothing.
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign_message(message)
    }

    /// As a root: certifies that the owner `name` has the key `key` in the field `field`. A later certificate has a
    /// greater `serial`.
    #[pyo3(signature = (field, name, key, serial = 1))]
    fn certify(&self, field: &str, name: &str, key: &str, serial: u64) -> PyResult<Certificate> {
        let key = public_key(key)?;
        let now = aether::clock::micros_since_1970();
        Ok(Certificate(field::Certificate::issue(&self.0, field, name, key, serial, None, now)))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.name() == other.name() && self.0.public_key() == other.0.public_key()
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.name(), self.0.public_key().as_bytes()).hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("<aether.Identity {:?} key={}>", self.name(), self.key())
    }
}

/// A statement of a root: which key an owner has.
#[pyclass(frozen, module = "aether")]
pub(crate) struct Certificate(pub(crate) field::Certificate);

#[pymethods]
impl Certificate {
    /// The name of the owner.
    #[getter]
    fn owner(&self) -> &str {
        self.0.owner()
    }

    fn __repr__(&self) -> String {
        format!("<aether.Certificate of {:?}>", self.owner())
    }
}

/// Whether the owner of a public key has signed a message.
#[pyfunction]
pub(crate) fn verify(key: &str, message: &[u8], signature: &[u8]) -> PyResult<bool> {
    let key = public_key(key)?;
    Ok(signature.try_into().is_ok_and(|signature| key.has_signed(message, signature)))
}

/// Reads a public key.
pub(crate) fn public_key(text: &str) -> PyResult<field::PublicKey> {
    text.parse()
        .map_err(|error| RefusedError::new_err(format!("{text:?} cannot be a public key: {}", chain(&error))))
}

/// Whose owned state a replica takes.
pub(crate) fn trust_of(owners: Vec<(String, String)>, root: Option<&str>) -> PyResult<field::Trust> {
    let owners = owners.into_iter().map(|(name, key)| Ok((name, public_key(&key)?)));
    let trust = field::Trust::allow_list(owners.collect::<PyResult<Vec<_>>>()?);
    Ok(match root {
        Some(root) => trust.with_root(public_key(root)?),
        None => trust,
    })
}
