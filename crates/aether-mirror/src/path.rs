//! Paths of files below a mirrored folder, checked when they are made: no path of a peer leads out of the folder.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The folder in which a mirror keeps its own files. It is never mirrored.
pub(crate) const OWN: &str = ".aether-mirror";

/// The maximum length of one name, in bytes: the bound of nearly all file systems.
pub(crate) const MAX_NAME: usize = 255;

/// Why a path is not one that a mirror takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("a name in it is empty, `.` or `..`, or it begins with `/`")]
    Outside,
    #[error("it has a control character, a backslash, or a drive")]
    Character,
    #[error("a name in it is longer than {MAX_NAME} bytes")]
    Long,
    #[error("the folder `{OWN}` belongs to the mirror")]
    Own,
    #[error("it is not UTF-8")]
    NotText,
}

/// The path of a file below the folder, with `/` on every system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct FilePath(Box<str>);

impl FilePath {
    pub(crate) fn new(path: &str) -> Result<Self, PathError> {
        path.split('/').try_for_each(check)?;
        Ok(Self(path.into()))
    }

    /// The path of a file in the folder.
    pub(crate) fn of(relative: &Path) -> Result<Self, PathError> {
        let mut path = String::new();
        for part in relative.components() {
            let std::path::Component::Normal(name) = part else { return Err(PathError::Outside) };
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(name.to_str().ok_or(PathError::NotText)?);
        }
        Self::new(&path)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the file is on the disk.
    pub(crate) fn below(&self, root: &Path) -> PathBuf {
        let mut place = root.to_owned();
        place.extend(self.0.split('/'));
        place
    }

    /// The folders that it is in, from the outermost one.
    pub(crate) fn folders(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// The name of the outermost folder; `None` for a file that is in no subfolder.
    pub(crate) fn first_folder(&self) -> Option<&str> {
        self.folders().next()
    }

    /// The same path with another last name.
    pub(crate) fn with_name(&self, name: &str) -> Result<Self, PathError> {
        match self.0.rsplit_once('/') {
            Some((folder, _)) => Self::new(&format!("{folder}/{name}")),
            None => Self::new(name),
        }
    }

    /// The last name.
    pub(crate) fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl TryFrom<String> for FilePath {
    type Error = PathError;
    fn try_from(path: String) -> Result<Self, PathError> {
        Self::new(&path)
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> Self {
        path.0.into()
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(name: &str) -> Result<(), PathError> {
    let bytes = name.as_bytes();
    if matches!(name, "" | "." | "..") {
        return Err(PathError::Outside);
    }
    // The same on every system: what one machine has, all can have. A drive is a letter and a colon.
    let is_drive = bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
    if is_drive || name.chars().any(|c| c.is_control() || c == '\\') {
        return Err(PathError::Character);
    }
    if cfg!(windows) && (name.contains(['<', '>', ':', '"', '|', '?', '*']) || name.ends_with(['.', ' '])) {
        return Err(PathError::Character);
    }
    if name.len() > MAX_NAME {
        return Err(PathError::Long);
    }
    // Also as a system writes it that does not tell capitals apart.
    if name.eq_ignore_ascii_case(OWN) {
        return Err(PathError::Own);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for (path, error) in [
            ("", PathError::Outside),
            ("/etc/passwd", PathError::Outside),
            ("..", PathError::Outside),
            ("a/../../b", PathError::Outside),
            ("a//b", PathError::Outside),
            ("a/", PathError::Outside),
            ("./a", PathError::Outside),
            ("a\0b", PathError::Character),
            ("a\nb", PathError::Character),
            ("..\\..\\b", PathError::Character),
            ("C:", PathError::Character),
            ("c:/windows", PathError::Character),
            ("a/d:b", PathError::Character),
            (".aether-mirror/state.redb", PathError::Own),
            ("a/.Aether-Mirror", PathError::Own),
            (&"n".repeat(256), PathError::Long),
        ] {
            assert_eq!(FilePath::new(path), Err(error), "{path:?}");
        }
        for path in ["a", "a/b.txt", "...", "..a", ".aether-mirror2", "ä/\u{1f600}", "12:30.log", "a b"] {
            assert_eq!(FilePath::new(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn a_path_has_its_folders_and_its_name() {
        let path = FilePath::new("a/b/c").unwrap();
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!((path.name(), path.first_folder()), ("c", Some("a")));
        assert_eq!(path.with_name("d").unwrap().as_str(), "a/b/d");
        assert_eq!(FilePath::new("c").unwrap().first_folder(), None);
    }

    proptest! {
        /// Whatever a peer sends, the place is below the folder.
        #[test]
        fn every_path_that_is_taken_is_below_the_folder(path in "[./a\\\\:\0~]{0,12}") {
            if let Ok(path) = FilePath::new(&path) {
                let place = path.below(Path::new("/root/of/it"));
                let rest = place.strip_prefix("/root/of/it").unwrap();
                prop_assert!(rest.components().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert_eq!(FilePath::of(rest).unwrap(), path);
            }
        }
    }
}
