//! The limits that a container or a service manager sets for this process: memory and processor time, from Linux cgroups.
//!
//! The configuration bounds the default size of inboxes by the memory limit; [`run`](crate::run) logs what is in force. The
//! number of worker threads follows the processor limit by itself, because the standard library's
//! `available_parallelism`, which tokio asks, reads it. Elsewhere than on Linux there are no limits.
//!
//! Both versions of cgroups are read. A limit of a group holds for all groups inside of it, so the smallest one on the
//! way to the root counts.
//!
//! Source: <https://docs.kernel.org/admin-guide/cgroup-v2.html>, `memory.max` and `cpu.max`;
//! <https://docs.kernel.org/admin-guide/cgroup-v1/>, `memory.limit_in_bytes`, `cpu.cfs_quota_us` and `cpu.cfs_period_us`.

use std::fs;
use std::path::Path;

/// Version 1 writes no limit as a number near `i64::MAX`, rounded down to pages.
const NO_LIMIT: u64 = 1 << 62;

/// The limits of this process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct CgroupLimits {
    /// The largest resident memory in bytes. The kernel ends a process that would need more.
    pub memory_bytes: Option<u64>,
    /// How much processor time, in processors: 0.5 is half of one.
    pub cpus: Option<f64>,
}

impl CgroupLimits {
    /// Reads the limits that are in force now.
    #[must_use]
    pub fn read() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(&groups, Path::new("/sys/fs/cgroup"))
    }

    /// The limits of the groups in `/proc/self/cgroup`, below the folder of all groups.
    fn of(groups: &str, root: &Path) -> Self {
        let mut limits = Self::default();
        // Lines are NUMBER:CONTROLLERS:PATH; version 2 has no controllers here.
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            if controllers.is_empty() {
                limits.narrow(root, path, memory_v2, cpus_v2);
            }
            for controller in controllers.split(',') {
                match controller {
                    "memory" => limits.narrow(&root.join(controllers), path, memory_v1, |_| None),
                    "cpu" => limits.narrow(&root.join(controllers), path, |_| None, cpus_v1),
                    _ => {}
                }
            }
        }
        limits
    }

    /// Takes the smallest limits on the way from a group to the root.
    fn narrow(
        &mut self,
        root: &Path,
        group: &str,
        memory: fn(&Path) -> Option<u64>,
        cpus: fn(&Path) -> Option<f64>,
    ) {
        // In a container the path may be the path on the host. Then only the root is there, which is the container's
        // own.
        let group = root.join(group.trim_start_matches('/'));
        for folder in group.ancestors().take_while(|folder| folder.starts_with(root)) {
            self.memory_bytes = self.memory_bytes.into_iter().chain(memory(folder)).min();
            self.cpus = self.cpus.into_iter().chain(cpus(folder)).reduce(f64::min);
        }
    }
}

fn memory_v2(folder: &Path) -> Option<u64> {
    read(folder, "memory.max")?.parse().ok()
}

fn memory_v1(folder: &Path) -> Option<u64> {
    read(folder, "memory.limit_in_bytes")?.parse().ok().filter(|bytes| *bytes < NO_LIMIT)
}

fn cpus_v2(folder: &Path) -> Option<f64> {
    let text = read(folder, "cpu.max")?;
    let (quota, period) = text.split_once(' ')?;
    ratio(quota, period)
}

fn cpus_v1(folder: &Path) -> Option<f64> {
    ratio(&read(folder, "cpu.cfs_quota_us")?, &read(folder, "cpu.cfs_period_us")?)
}

/// A quota of `max` or -1 is none.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn read(folder: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(folder.join(file)).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_counts() {
        let root = stage(&[
            ("memory.max", "max"),
            ("shop/memory.max", "536870912"),
            ("shop/cpu.max", "50000 100000"),
            ("shop/beta/memory.max", "1073741824"),
            ("shop/beta/cpu.max", "max 100000"),
            ("other/memory.max", "1"),
        ]);
        let limits = CgroupLimits::of("0::/shop/beta\n", root.path());
        assert_eq!(limits, CgroupLimits { memory_bytes: Some(512 << 20), cpus: Some(0.5) });
        assert_eq!(CgroupLimits::of("0::/\n", root.path()), CgroupLimits::default());
    }

    #[test]
    fn version_1_is_read_as_well() {
        let root = stage(&[
            ("memory/docker/a/memory.limit_in_bytes", "268435456"),
            ("memory/memory.limit_in_bytes", "9223372036854771712"),
            ("cpu,cpuacct/docker/a/cpu.cfs_quota_us", "150000"),
            ("cpu,cpuacct/docker/a/cpu.cfs_period_us", "100000"),
            ("cpu,cpuacct/cpu.cfs_quota_us", "-1"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000"),
        ]);
        let groups = "12:pids:/docker/a\n5:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n";
        let limits = CgroupLimits::of(groups, root.path());
        assert_eq!(limits, CgroupLimits { memory_bytes: Some(256 << 20), cpus: Some(1.5) });
    }

    #[test]
    fn a_container_that_sees_the_path_of_its_host_has_the_limits_of_its_root() {
        let root = stage(&[("memory.max", "134217728"), ("cpu.max", "200000 100000")]);
        let limits = CgroupLimits::of("0::/system.slice/docker-1f.scope\n", root.path());
        assert_eq!(limits, CgroupLimits { memory_bytes: Some(128 << 20), cpus: Some(2.0) });
    }

    #[test]
    fn what_cannot_be_read_is_no_limit() {
        let root = stage(&[("memory.max", "many"), ("cpu.max", "100000")]);
        for groups in ["0::/\n", "", "nonsense", "0:/", "::"] {
            assert_eq!(CgroupLimits::of(groups, root.path()), CgroupLimits::default(), "{groups}");
        }
    }
}
