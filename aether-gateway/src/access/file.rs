//! The file of tokens and certificates.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use aether_core::Pattern;
use aether_field::Names;
use serde::Deserialize;

use super::error::AccessError;
use super::rights::{Rights, WaveRights};
use super::{Access, Fingerprint};

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
    /// `field`, a token is for all fields. Patterns are names, or beginnings of names and `*`. `hear` and `emit` are patterns
    /// of channels: the waves that its holder may hear and emit through the gateway. What is left out gives no right. A token
    /// that is listed several times gives all rights of its objects.
    ///
    /// In place of `token`, `"certificate": "SHA-256"` gives the rights to clients that have shown this certificate, where the
    /// gateway asks for one.
    ///
    /// # Errors
    /// [`AccessError`] if the file cannot be read, every user can read it, it is not such JSON, has no token, or one that is
    /// empty.
    pub fn load(path: &Path) -> Result<Self, AccessError> {
        let unread = |source| AccessError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unread)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            if file.metadata().map_err(unread)?.permissions().mode() & 0o004 != 0 {
                return Err(AccessError::Public { path: path.to_owned() });
            }
        }
        let mut text = String::new();
        file.take(Self::MAX_FILE).read_to_string(&mut text).map_err(unread)?;
        aether_core::byte_order_mark::remove(&mut text);
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
        Ok(access)
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
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Access::load(&path).unwrap_err().to_string().contains("chmod 600"));
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
        assert_eq!(access.wave_rights(Some("guess"), Some(&listed)), None, "a wrong token is no token");
        assert!(access.field_rights("home", None, Some(&listed)).is_some());
        assert_eq!(access.field_rights("shop", None, Some(&listed)), None);
        assert!(!access.knows(&colons), "a fingerprint is public, so it is no token");
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
