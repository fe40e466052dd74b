//! The file of tokens and certificates.

use std::path::Path;
use std::sync::Arc;

use aether_core::Pattern;
use aether_field::Names;
use aether_files::private_file::{self, PrivateFileError};
use serde::Deserialize;

use super::error::AccessError;
use super::followed::FollowedFile;
use super::rights::{Rights, WaveRights};
use super::{Access, Fingerprint, Holder};

/// An entry of the file of tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    token: Option<String>,
    certificate: Option<String>,
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
    /// `field`, a token is for all fields. Patterns are names, or beginnings of names and `*`. `hear` and `emit` are
    /// patterns of channels: the waves that its holder may hear and emit through the gateway. A missing list gives no
    /// right. A token that is listed several times gives all rights of its objects.
    ///
    /// In place of `token`, `"certificate": "SHA-256"` gives the rights to clients that have shown this certificate,
    /// where the gateway asks for one.
    ///
    /// The file is read again at the next request after it has changed. One that cannot be used then leaves everything as it
    /// was, with a warning.
    ///
    /// # Errors
    /// [`AccessError`] if the file cannot be read, other users can use it, it is not such JSON, has no token, or one that is
    /// empty.
    pub fn load(path: &Path) -> Result<Self, AccessError> {
        Ok(Self { holders: Vec::new(), file: Some(Arc::new(FollowedFile::open(path, Self::read)?)) })
    }

    /// Who is listed in the file now.
    pub(super) fn read(path: &Path) -> Result<Vec<Holder>, AccessError> {
        let text = private_file::read(path, Self::MAX_FILE).map_err(|error| match error {
            PrivateFileError::Unread { path, source } => AccessError::Read { path, source },
            PrivateFileError::Public { path, mode } => AccessError::Public { path, mode },
        })?;
        let text = text.ok_or_else(|| AccessError::TooLarge { path: path.to_owned() })?;
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
        for Line { token, certificate, field, read, write, hear, emit } in lines {
            let rights = Rights { read: names(read), write: names(write) };
            let waves = WaveRights { hear: channels(hear)?, emit: channels(emit)? };
            match (token, certificate) {
                (Some(token), None) => access.add_token(&token, field, rights, waves)?,
                (None, Some(text)) => match Fingerprint::parse(&text) {
                    Some(fingerprint) => access.add_certificate(fingerprint, field, rights, waves),
                    None => return Err(AccessError::Certificate { path: path.to_owned(), text }),
                },
                _ => return Err(AccessError::Holder { path: path.to_owned() }),
            }
        }
        if access.is_open() {
            return Err(AccessError::NoToken { path: path.to_owned() });
        }
        Ok(access.holders)
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use aether_core::Channel;

    use super::*;

    fn loaded(text: &str) -> Result<Access, AccessError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Access::load(&path)
    }

    #[test]
    fn a_file_of_tokens_is_private_and_gives_rights_by_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let line = r#"[{"token": "s3cret", "field": "home", "read": ["*"], "write": ["room/7/*"]}]"#;
        fs::write(&path, line).unwrap();
        for mode in [0o644, 0o602, 0o620, 0o622, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Access::load(&path).unwrap_err().to_string().contains("chmod 600"), "{mode:o}");
        }
        let access = loaded(line).unwrap();
        let rights = access.field_rights("home", Some("s3cret"), None).unwrap();
        assert!(rights.may_write("room/7/lamp") && !rights.may_write("room/8/lamp"));
        assert_eq!(access.field_rights("home", Some("s3creT"), None), None);
        assert_eq!(access.field_rights("office", Some("s3cret"), None), None);
        assert!(
            Access::default().is_open() && !access.is_open() && !format!("{access:?}").contains("s3cret")
        );
        assert!(!access.has_wave_rights(), "a token for fields emits nothing");

        assert!(matches!(loaded("[]"), Err(AccessError::NoToken { .. })), "it would protect nothing");
        let empty = loaded(r#"[{"token": "", "read": [], "write": []}]"#);
        assert!(matches!(empty, Err(AccessError::Empty)));
        let pattern = loaded(r#"[{"token": "x", "emit": ["a..b"]}]"#).unwrap_err();
        assert!(pattern.to_string().contains("a..b"));
        let unknown = loaded(r#"[{"token": "x", "reads": []}]"#).unwrap_err();
        assert!(unknown.to_string().contains("JSON array"));
    }

    #[test]
    fn a_token_that_is_taken_off_the_file_is_not_known_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let write = |text: &str| {
            // As it is to be written: beside, and renamed.
            let beside = folder.path().join("beside");
            fs::write(&beside, text).unwrap();
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(&beside, &path).unwrap();
        };
        write(r#"[{"token": "old", "hear": ["a"]}]"#);
        let access = Access::load(&path).unwrap().waves_token("of-the-environment").unwrap();
        assert!(access.knows("old") && !access.knows("new"));
        write(r#"[{"token": "new", "hear": ["a", "b"]}]"#);
        assert!(!access.knows("old") && access.knows("new") && access.knows("of-the-environment"));
        // An unusable file leaves everything as it was.
        write("[");
        assert!(access.knows("new") && !access.is_open());
        fs::remove_file(&path).unwrap();
        assert!(access.knows("new") && !access.is_open());
        write(r#"[{"token": "newest", "hear": ["a"]}]"#);
        assert!(!access.knows("new") && access.knows("newest"));
    }

    #[test]
    fn a_token_that_is_listed_twice_gives_the_rights_of_both() {
        let access = loaded(
            r#"[{"token": "x", "emit": ["orders.>"], "field": "home", "read": ["a"], "write": ["a"]},
                {"token": "x", "hear": ["a.*"], "read": ["b"]}, {"token": "x", "field": "shop", "read": ["c"]}]"#,
        )
        .unwrap();
        let rights = access.wave_rights(Some("x"), None).unwrap();
        let channel = |name| Channel::new(name).unwrap();
        assert!(rights.may_emit(&channel("orders.created")) && !rights.may_emit(&channel("a.b")));
        assert!(rights.may_hear(&channel("a.b")) && !rights.may_hear(&channel("orders.created")));
        assert!(access.wave_rights(Some("y"), None).is_none() && access.has_wave_rights());
        assert!(access.knows("x") && !access.knows("y") && !access.knows(""));
        let of = |field| {
            let Rights { read, write } = access.field_rights(field, Some("x"), None).unwrap();
            (read, write)
        };
        let names = |all: &[&str]| all.iter().map(|name| Names::of(name)).collect::<Vec<_>>();
        assert_eq!(of("home"), (names(&["a", "b"]), names(&["a"])));
        assert_eq!(of("shop"), (names(&["b", "c"]), names(&[])));
        // As where AETHER_WAVES_TOKEN is a token of the file.
        let both = access.waves_token("x").unwrap();
        assert!(both.wave_rights(Some("x"), None).unwrap().may_hear(&channel("any.thing")));
        assert_eq!(both.field_rights("shop", Some("x"), None).unwrap().read, names(&["b", "c"]));
    }

    #[test]
    fn a_certificate_is_named_by_its_fingerprint_and_has_rights_of_its_own() {
        let colons = vec!["AB"; 32].join(":");
        let access = loaded(&format!(
            r#"[{{"certificate": "{colons}", "hear": ["orders.>"], "field": "home", "read": ["*"]}}, {{"token": "x", "emit": ["a"]}}]"#
        ))
        .unwrap();
        let (listed, other) = (Fingerprint([0xab; 32]), Fingerprint([0xcd; 32]));
        let channel = |name| Channel::new(name).unwrap();
        let of_certificate = access.wave_rights(None, Some(&listed)).unwrap();
        assert!(of_certificate.may_hear(&channel("orders.paid")) && !of_certificate.may_emit(&channel("a")));
        let of_both = access.wave_rights(Some("x"), Some(&listed)).unwrap();
        assert!(of_both.may_hear(&channel("orders.paid")) && of_both.may_emit(&channel("a")));
        assert_eq!(access.wave_rights(None, Some(&other)), None);
        assert_eq!(access.wave_rights(Some("guess"), Some(&listed)), None, "a wrong token gives no rights");
        assert!(access.field_rights("home", None, Some(&listed)).is_some());
        assert_eq!(access.field_rights("shop", None, Some(&listed)), None);
        assert!(!access.knows(&colons), "a fingerprint is public, so it is not accepted as a token");
        assert!(access.has_certificates() && access.has_tokens());

        for wrong in [r#"{"certificate": "abc"}"#, r#"{"certificate": "sha256"}"#] {
            assert!(matches!(loaded(&format!("[{wrong}]")), Err(AccessError::Certificate { .. })), "{wrong}");
        }
        for wrong in
            [format!(r#"{{"certificate": "{colons}", "token": "x"}}"#), r#"{"hear": [">"]}"#.to_owned()]
        {
            assert!(matches!(loaded(&format!("[{wrong}]")), Err(AccessError::Holder { .. })), "{wrong}");
        }
    }
}
