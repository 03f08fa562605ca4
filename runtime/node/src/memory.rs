//! How much memory this process may have.

use std::fs;

/// Bytes of memory of this machine, or of the control group that the process is in (a container, a service); `None` where
/// the system does not say.
#[must_use]
pub fn machine_memory() -> Option<u64> {
    let total = total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limits = limits(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    // A limit that is none is a word, or far more than there is.
    let limits = limits.into_iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    Some(limits.fold(total, u64::min))
}

/// The files with the limits of a process's control groups and of those above them, version 2 or version 1. A container may
/// see its own group as the topmost.
fn limits(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = path.trim_end_matches('/');
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        files.extend(above.chain([path]).map(|group| format!("{root}{group}/{name}")));
    }
    files
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_above_may_have_a_limit() {
        assert_eq!(limits("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        let service = ["", "/system.slice", "/system.slice/verity.service"];
        assert_eq!(
            limits("0::/system.slice/verity.service\n"),
            service.map(|group| format!("/sys/fs/cgroup{group}/memory.max"))
        );
        assert_eq!(
            limits("5:cpu:/a\n4:memory:/a\n"),
            ["", "/a"].map(|group| format!("/sys/fs/cgroup/memory{group}/memory.limit_in_bytes"))
        );
        assert!(limits("nonsense").is_empty());
    }

    #[test]
    fn the_total_is_read() {
        assert_eq!(total("MemTotal:       24683740 kB\nMemFree:  1 kB\n"), Some(24_683_740 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal: much kB\n"), None);
    }
}
