//! Runs this program below valgrind's callgrind, and reads the counts that it writes.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The smaller number of waves of a path.
const FEW: u64 = 2_048;
/// The larger number. The difference is a multiple of every batch.
pub(crate) const MANY: u64 = 18_432;

/// The functions of libc that allocate. Rust's allocator calls one of them for each allocation.
const ALLOCATE: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// Counts of one wave.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

/// Counts of a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    instructions: u64,
    allocations: u64,
}

/// The cost of a wave on a path.
pub(crate) fn cost_of(path: &str) -> Result<Cost, Error> {
    let (few, many) = (count(path, FEW)?, count(path, MANY)?);
    let each = |few: u64, many: u64| many.saturating_sub(few) as f64 / (MANY - FEW) as f64;
    Ok(Cost {
        instructions: each(few.instructions, many.instructions),
        allocations: each(few.allocations, many.allocations),
    })
}

fn count(path: &str, waves: u64) -> Result<Counts, Error> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("counts");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"]);
    // Counts only what the path does inside of this function, on its thread.
    command.arg(format!("--toggle-collect=*{}*", crate::paths::COUNTED));
    command.arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(std::env::current_exe()?).args(["--run", path, "--waves", &waves.to_string()]);
    let output = command
        .output()
        .map_err(|error| format!("cannot start valgrind, which has to be installed: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("valgrind, {path}: {}\n{said}", output.status).into());
    }
    read(&std::fs::read_to_string(file)?)
        .ok_or_else(|| format!("callgrind counted nothing for {path}").into())
}

/// Reads callgrind's format: `cfn=FUNCTION` and `calls=COUNT ..` in two lines for each call, and one line of totals.
fn read(text: &str) -> Option<Counts> {
    let (mut instructions, mut allocations, mut allocates) = (None, 0, false);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("cfn=") {
            allocates = ALLOCATE.contains(&function);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let calls: u64 = calls.split(' ').next()?.parse().ok()?;
            allocations += if allocates { calls } else { 0 };
        } else if let Some(total) = line.strip_prefix("totals: ") {
            instructions = Some(total.trim().parse().ok()?);
        }
    }
    let instructions = instructions.filter(|instructions| *instructions > 0)?;
    Some(Counts { instructions, allocations })
}
