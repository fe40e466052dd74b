//! The options of a mirror.

/// The largest file that a mirror takes, in bytes: 64 MiB.
pub(crate) const MAX_FILE: u64 = 64 << 20;

/// The bounds of a mirror, and the layout of its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct MirrorOptions {
    pub(crate) prefix: String,
    pub(crate) machine: Option<String>,
    pub(crate) per_machine: bool,
    pub(crate) max_files: usize,
    pub(crate) max_bytes: u64,
    pub(crate) max_file: u64,
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self {
            prefix: "files/".to_owned(),
            machine: None,
            per_machine: false,
            max_files: 100_000,
            max_bytes: 16 << 30,
            max_file: MAX_FILE,
        }
    }
}

impl MirrorOptions {
    /// Sets the beginning of the names of the registers that hold the files. Mirrors of one field share files if they have
    /// the same one. Default: `files/`.
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Sets the name of this machine, at most 64 bytes without `/`: others see it in the names of conflicts. Default: the
    /// name of the host.
    pub fn machine(mut self, name: &str) -> Self {
        self.machine = Some(name.to_owned());
        self
    }

    /// Gives each machine a subfolder of its own name. A machine sends only what is in its own subfolder, and has the
    /// subfolders of all. Their names are not proven: a peer that may write the field can write below any of them, and
    /// the machine that owns the subfolder puts back what it has. Default: off.
    pub fn per_machine(mut self, per_machine: bool) -> Self {
        self.per_machine = per_machine;
        self
    }

    /// Sets the maximum number of files that others can make here; 100,000 by default.
    pub fn max_files(mut self, files: usize) -> Self {
        self.max_files = files;
        self
    }

    /// Sets the maximum size of all files together up to which others can add to them, in bytes; 16 GiB by default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the maximum size of one file in bytes, at most 64 MiB, which is the default.
    pub fn max_file(mut self, bytes: u64) -> Self {
        self.max_file = bytes.min(MAX_FILE);
        self
    }
}
