//! The list of the files of a backup, as lines of text: a name with the version, `CHECKSUM LENGTH PATH` for each file, and a
//! checksum of all before it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use super::error::RestoreError;
use super::size::Backup;

/// The file, in the folder of a backup.
pub(super) const FILE: &str = "manifest";
const NAME: &str = "aether-log-backup ";
const VERSION: u32 = 1;
const END: &str = "all ";

/// The size and the checksum of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileEntry {
    pub(super) length: u64,
    pub(super) checksum: u32,
}

/// The files of a backup, by their paths below its folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest(BTreeMap<PathBuf, FileEntry>);

impl Manifest {
    pub(super) fn insert(&mut self, path: &Path, entry: FileEntry) {
        self.0.insert(path.to_owned(), entry);
    }

    /// Removes everything below a folder.
    pub(super) fn remove(&mut self, folder: &Path) {
        self.0.retain(|path, _| !path.starts_with(folder));
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, FileEntry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), *entry))
    }

    /// The folders that have files or folders, without the outermost one.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        let all = self.0.keys().flat_map(|path| path.ancestors().skip(1));
        all.filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_owned).collect()
    }

    pub(super) fn size(&self) -> Backup {
        Backup { files: self.0.len(), bytes: self.0.values().map(|entry| entry.length).sum() }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{NAME}{VERSION}\n");
        for (path, FileEntry { length, checksum }) in &self.0 {
            let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
            // Writing to memory does not fail.
            let _ = writeln!(text, "{checksum:08x} {length} {}", parts.join("/"));
        }
        let all = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "{END}{all:08x}");
        text
    }

    /// Reads what [`text`](Self::text) wrote into this file.
    pub(super) fn read(path: &Path, text: &str) -> Result<Self, RestoreError> {
        let damaged = || RestoreError::Manifest { path: path.to_owned() };
        let before_end = text.trim_end().rfind('\n').ok_or_else(damaged)? + 1;
        let (listed, end) = text.split_at(before_end);
        if end.trim_end() != format!("{END}{:08x}", crc32fast::hash(listed.as_bytes())) {
            return Err(damaged());
        }
        let mut lines = listed.lines();
        let version = lines.next().and_then(|line| line.strip_prefix(NAME)?.parse().ok());
        match version.ok_or_else(damaged)? {
            VERSION => {}
            version => return Err(RestoreError::Version { path: path.to_owned(), version }),
        }
        let files = lines.map(|line| entry(line).ok_or_else(damaged));
        Ok(Self(files.collect::<Result<_, _>>()?))
    }
}

fn entry(line: &str) -> Option<(PathBuf, FileEntry)> {
    let mut parts = line.splitn(3, ' ');
    let checksum = u32::from_str_radix(parts.next()?, 16).ok()?;
    let length = parts.next()?.parse().ok()?;
    let path = PathBuf::from(parts.next()?);
    // Nothing outside of the folder.
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    (is_below && path.file_name().is_some()).then_some((path, FileEntry { length, checksum }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_back_and_each_changed_byte_is_found() {
        let mut manifest = Manifest::default();
        manifest.insert(Path::new("a.log"), FileEntry { length: 24, checksum: 7 });
        manifest.insert(&Path::new("consumers").join("b c"), FileEntry { length: 0, checksum: u32::MAX });
        let (path, text) = (Path::new(FILE), manifest.text());
        assert_eq!(Manifest::read(path, &text).unwrap(), manifest);
        assert_eq!(manifest.folders(), [PathBuf::from("consumers")].into());
        for at in 0..text.len() - 1 {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert!(Manifest::read(path, &changed).is_err(), "byte {at}");
        }
        for outside in ["../x", "/x", "", "a/../../x"] {
            assert!(entry(&format!("00000000 5 {outside}")).is_none(), "{outside}");
        }
        let newer = text.replace("backup 1", "backup 2");
        let listed = &newer[..newer.find(END).unwrap()];
        let newer = format!("{listed}{END}{:08x}\n", crc32fast::hash(listed.as_bytes()));
        assert!(matches!(Manifest::read(path, &newer), Err(RestoreError::Version { version: 2, .. })));
    }
}
