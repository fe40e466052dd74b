//! Tokens and certificates, and what their holders may do: read and write fields, hear and emit waves.

mod error;
mod file;
mod followed;
mod rights;

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

pub use error::AccessError;
use followed::FollowedFile;
pub(crate) use rights::{Rights, WaveRights};

/// The rights of clients: to use the fields of a gateway, and to hear and emit waves through it.
///
/// Without tokens, everybody may do all of that on a loopback address, but not through a proxy or under a name. As soon
/// as there is a token, for whatever purpose, every client needs one with the right to what it does. Tokens are kept as
/// SHA-256 only, and compared in constant time. Certificates of clients are listed like tokens, by their SHA-256. A
/// file of them is read again when it has changed: each request uses the present list.
#[derive(Debug, Clone, Default)]
pub struct Access {
    holders: Vec<Holder>,
    file: Option<Arc<FollowedFile<Holder>>>,
}

/// The rights of the holder of a token or a certificate.
#[derive(Clone)]
struct Holder {
    proof: Proof,
    /// The field; `None` means all.
    field: Option<String>,
    rights: Rights,
    waves: WaveRights,
}

/// The length of a token below which there is a warning: the length of 64 random bits in hexadecimal digits.
const STRONG: usize = 16;

/// The credentials of a client.
#[derive(Clone, Copy)]
enum Proof {
    /// Of one length, so that a comparison tells nothing about the length of a token.
    Token([u8; 32]),
    Certificate(Fingerprint),
}

/// The SHA-256 of the certificate of a client. It is public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) [u8; 32]);

/// The rights of one client in fields: by its certificate, and by the token that it shows.
#[derive(Debug, Clone)]
pub(crate) struct FieldAccess {
    access: Arc<Access>,
    certificate: Option<Fingerprint>,
}

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub(crate) fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// Reads 64 hexadecimal digits, also with a colon between two of them.
    fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(digits[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl Access {
    /// Adds a token whose holder may read and write everything in all fields.
    ///
    /// # Errors
    /// [`AccessError::Empty`] if it is empty.
    pub fn token(mut self, token: &str) -> Result<Self, AccessError> {
        self.add_token(token, None, Rights::all(), WaveRights::default())?;
        Ok(self)
    }

    /// Adds a token whose holder may hear and emit everything through the gateway. It gives no right in fields.
    ///
    /// # Errors
    /// [`AccessError::Empty`] if it is empty.
    pub fn waves_token(mut self, token: &str) -> Result<Self, AccessError> {
        self.add_token(token, None, Rights::default(), WaveRights::all())?;
        Ok(self)
    }

    fn add_token(
        &mut self,
        token: &str,
        field: Option<String>,
        rights: Rights,
        waves: WaveRights,
    ) -> Result<(), AccessError> {
        // The end of the line of a file from which it was read.
        let token = token.trim();
        if token.is_empty() {
            return Err(AccessError::Empty);
        }
        // A token for waves comes in a header; one for fields can come in an address or in a message, as any text.
        let needs_header = !waves.is_empty() && rights.is_empty();
        if needs_header && !token.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(AccessError::Unsendable);
        }
        if token.len() < STRONG {
            tracing::warn!(
                characters = token.len(),
                "a token is so short that it can be guessed; make one with: openssl rand -hex 32"
            );
        }
        self.holders.push(Holder { proof: Proof::Token(digest(token)), field, rights, waves });
        Ok(())
    }

    fn add_certificate(
        &mut self,
        certificate: Fingerprint,
        field: Option<String>,
        rights: Rights,
        waves: WaveRights,
    ) {
        self.holders.push(Holder { proof: Proof::Certificate(certificate), field, rights, waves });
    }

    /// Who is listed now.
    fn listed(&self) -> Vec<Holder> {
        let followed = self.file.as_ref().map(|file| file.listed());
        self.holders.iter().chain(followed.iter().flat_map(|holders| holders.iter())).cloned().collect()
    }

    fn any(&self, is_meant: impl Fn(&Holder) -> bool) -> bool {
        self.holders.iter().any(&is_meant)
            || self.file.as_ref().is_some_and(|file| file.listed().iter().any(is_meant))
    }

    /// Whether there is neither a token nor a certificate, so that none is needed. A token for waves closes the fields, too,
    /// and one for fields the waves: who made a token does not expect that others need none.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.any(|_| true)
    }

    /// Whether there is any token.
    pub(crate) fn has_tokens(&self) -> bool {
        self.any(|holder| matches!(holder.proof, Proof::Token(_)))
    }

    /// Whether any certificate is listed.
    pub(crate) fn has_certificates(&self) -> bool {
        self.any(|holder| matches!(holder.proof, Proof::Certificate(_)))
    }

    /// Whether anybody has a right in fields.
    pub(crate) fn has_field_rights(&self) -> bool {
        self.any(|holder| !holder.rights.is_empty())
    }

    /// Whether anybody has a right to hear or to emit waves.
    pub(crate) fn has_wave_rights(&self) -> bool {
        self.any(|holder| !holder.waves.is_empty())
    }

    /// Whether a token is one of these, whatever it is for.
    pub(crate) fn knows(&self, token: &str) -> bool {
        self.held_by(Some(token), None).is_some_and(|held| !held.is_empty())
    }

    /// What is listed for a token, and for a certificate. `None` if the token is not known: a wrong token is not taken for
    /// none. All tokens are compared, each in constant time.
    fn held_by(&self, token: Option<&str>, certificate: Option<&Fingerprint>) -> Option<Vec<Holder>> {
        let presented = token.map(digest);
        let mut is_known = presented.is_none();
        let mut held = Vec::new();
        for holder in self.listed() {
            let is_held = match (&holder.proof, &presented) {
                (Proof::Token(known), Some(presented)) => known.ct_eq(presented).into(),
                (Proof::Token(_), None) => false,
                (Proof::Certificate(known), _) => certificate == Some(known),
            };
            if is_held {
                is_known |= matches!(holder.proof, Proof::Token(_));
                held.push(holder);
            }
        }
        is_known.then_some(held)
    }

    /// The channels that a client may hear and emit on; `None` if its token is not known, or nothing is listed for it.
    pub(crate) fn wave_rights(
        &self,
        token: Option<&str>,
        certificate: Option<&Fingerprint>,
    ) -> Option<WaveRights> {
        let mut rights: Option<WaveRights> = None;
        for holder in self.held_by(token, certificate)? {
            rights.get_or_insert_default().add(&holder.waves);
        }
        rights
    }

    /// The rights of a client in a field; `None` if its token is not known, or nothing is listed for it there.
    pub(crate) fn field_rights(
        &self,
        field: &str,
        token: Option<&str>,
        certificate: Option<&Fingerprint>,
    ) -> Option<Rights> {
        let mut rights: Option<Rights> = None;
        let held = self.held_by(token, certificate)?;
        for holder in held.iter().filter(|holder| holder.field.as_deref().is_none_or(|known| known == field))
        {
            rights.get_or_insert_default().add(&holder.rights);
        }
        rights
    }
}

impl FieldAccess {
    pub(crate) fn new(access: Arc<Access>, certificate: Option<Fingerprint>) -> Self {
        Self { access, certificate }
    }

    /// The rights in a field with a token, or with none.
    pub(crate) fn rights(&self, field: &str, token: Option<&str>) -> Result<Rights, NoRights> {
        if self.access.is_open() {
            return Ok(Rights::all());
        }
        let rights = self.access.field_rights(field, token, self.certificate.as_ref());
        match rights.filter(|rights| !rights.is_empty()) {
            Some(rights) => Ok(rights),
            None if token.is_some_and(|token| self.access.knows(token)) => Err(NoRights::Nothing),
            None => Err(NoRights::NotKnown),
        }
    }
}

/// Why a client has no right in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRights {
    /// The token is not known, or there is none and one is needed.
    NotKnown,
    /// The token is known, and gives no right there.
    Nothing,
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder")
            .field("field", &self.field)
            .field("rights", &self.rights)
            .field("waves", &self.waves)
            .finish_non_exhaustive()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_a_header_can_carry() {
        for token in ["secret\n", " secret", "secret\r\n"] {
            assert!(Access::default().waves_token(token).unwrap().knows("secret"), "{token:?}");
        }
        for token in ["", " \n"] {
            assert!(matches!(Access::default().token(token), Err(AccessError::Empty)), "{token:?}");
        }
        for token in ["geh\u{e4}im", "a\nb", "a\u{7f}"] {
            let error = Access::default().waves_token(token).unwrap_err();
            assert!(matches!(error, AccessError::Unsendable), "{error}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let printed = "0F:".repeat(31) + "a0";
        let mut bytes = [15; 32];
        bytes[31] = 160;
        assert_eq!(Fingerprint::parse(&printed), Some(Fingerprint(bytes)));
        assert_eq!(Fingerprint::parse(&printed.replace(':', "")), Some(Fingerprint(bytes)));
        for wrong in ["", "0f", &"0g".repeat(32), &"0f".repeat(33), &"é".repeat(32)] {
            assert_eq!(Fingerprint::parse(wrong), None, "{wrong}");
        }
    }
}
