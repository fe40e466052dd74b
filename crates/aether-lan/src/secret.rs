//! The secret that all machines of a network share, and the keys that are derived from it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::error::LanError;
use aether_seal::{KeySource, SealKeys, read_private};

/// With a text of five random words (of 7776) a guess takes 19 MiB and some 20 ms, and there are 2^64 of them.
const MIN_BYTES: usize = 16;

/// All machines must derive the same key from the same text, so the salt cannot be random. It keeps tables made for other
/// purposes from being used here.
const SALT: &[u8] = b"aether-lan-secret-1";

/// The parameters that OWASP recommends for Argon2id (Password Storage Cheat Sheet, 2023): 19 MiB, two passes, one lane.
/// A small computer can spare them.
const MEMORY_KIB: u32 = 19 << 10;
const PASSES: u32 = 2;
const LANES: u32 = 1;

const FILE_VARIABLE: &str = "AETHER_LAN_SECRET_FILE";
const TEXT_VARIABLE: &str = "AETHER_LAN_SECRET";

/// Where the keys come from.
#[derive(Clone)]
pub(super) enum Secret {
    Text(Zeroizing<String>),
    File(PathBuf),
    Keys(KeySource),
}

impl Secret {
    pub(super) fn text(text: String) -> Self {
        Self::Text(Zeroizing::new(text))
    }

    /// The secret of the environment. The file takes precedence.
    pub(super) fn of_environment(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let file = variable(FILE_VARIABLE).filter(|path| !path.is_empty());
        let text = || variable(TEXT_VARIABLE).filter(|text| !text.is_empty());
        file.map(|path| Self::File(path.into()))
            .or_else(|| text().map(|text| Self::text(text.to_string_lossy().into_owned())))
    }

    /// The keys. Takes a fraction of a second for a text.
    pub(super) fn keys(&self) -> Result<SealKeys, LanError> {
        match self {
            Self::Text(text) => derive(text),
            Self::File(path) => of_file(path),
            Self::Keys(source) => Ok(source.read()?),
        }
    }
}

/// Shows where it comes from, and nothing of it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Keys(source) => f.debug_tuple("Keys").field(source).finish(),
        }
    }
}

fn of_file(path: &Path) -> Result<SealKeys, LanError> {
    let text = read_private(path)?.ok_or_else(|| LanError::TooLong { path: path.to_owned() })?;
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let is_keys =
        first.is_some_and(|line| line.starts_with("seal aether-key") || line.starts_with("open aether-key"));
    if is_keys { Ok(SealKeys::from_file(path)?) } else { derive(&text) }
}

/// White space around the text does not count: an editor ends a file with a line break.
fn derive(text: &str) -> Result<SealKeys, LanError> {
    let text = text.trim();
    if text.len() < MIN_BYTES {
        return Err(LanError::ShortSecret { bytes: text.len(), min_bytes: MIN_BYTES });
    }
    let failed = |error: argon2::Error| LanError::Derivation { reason: error.to_string() };
    let mut key = Zeroizing::new([0; 32]);
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(key.len())).map_err(failed)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(text.as_bytes(), SALT, &mut *key).map_err(failed)?;
    Ok(SealKeys::from_secret(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "correct horse battery staple";

    fn first_id(keys: &SealKeys) -> u64 {
        keys.ids().next().unwrap().0.0
    }

    #[test]
    fn the_same_text_makes_the_same_keys_on_all_machines() {
        // Other values would cut off machines with an older version.
        assert_eq!(format!("{:016x}", first_id(&derive(TEXT).unwrap())), "e2d7e3201638ab10");
        assert_eq!(derive(TEXT).unwrap(), derive(&format!(" {TEXT}\n")).unwrap());
        assert_ne!(derive(TEXT).unwrap(), derive("correct horse battery stable").unwrap());
        assert!(matches!(derive("short"), Err(LanError::ShortSecret { bytes: 5, min_bytes: 16 })));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_a_text_or_keys_and_is_private() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, format!("{TEXT}\n")).unwrap();
        let set_mode = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        set_mode(0o604);
        let public = Secret::File(path.clone()).keys();
        assert!(matches!(
            public,
            Err(LanError::Secret(aether_seal::SealKeysError::Public { mode: 0o604, .. }))
        ));
        set_mode(0o600);
        assert_eq!(Secret::File(path).keys().unwrap(), derive(TEXT).unwrap());
        let (keys, path) = (SealKeys::generate().unwrap(), folder.path().join("keys"));
        keys.save_new(&path).unwrap();
        assert_eq!(Secret::File(path).keys().unwrap(), keys);
    }

    #[test]
    fn the_environment_names_a_file_or_has_the_text() {
        let with = |pairs: &'static [(&str, &str)]| {
            Secret::of_environment(move |name| {
                pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into())
            })
        };
        assert!(matches!(with(&[(FILE_VARIABLE, "/a"), (TEXT_VARIABLE, TEXT)]), Some(Secret::File(_))));
        assert!(matches!(with(&[(FILE_VARIABLE, ""), (TEXT_VARIABLE, TEXT)]), Some(Secret::Text(_))));
        assert!(with(&[(TEXT_VARIABLE, "")]).is_none());
        assert!(!format!("{:?}", with(&[(TEXT_VARIABLE, TEXT)])).contains("horse"));
    }
}
