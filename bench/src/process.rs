//! What the kernel says that a server's processes have used.

use std::fs;

use anyhow::{Context, Result};

/// The kernel's `USER_HZ`: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// The user and system time of these processes so far, in microseconds.
///
/// # Errors
/// When a process is gone.
pub fn cpu_us(pids: &[u32]) -> Result<u64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
        ticks += ticks_of(&stat).with_context(|| format!("cannot read the times of process {pid}"))?;
    }
    Ok(ticks * 1_000_000 / TICKS_PER_SECOND)
}

fn ticks_of(stat: &str) -> Option<u64> {
    // The command, in parentheses, may hold spaces; utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The resident memory of these processes, in bytes.
///
/// # Errors
/// When a process is gone.
pub fn rss(pids: &[u32]) -> Result<u64> {
    let mut total = 0;
    for pid in pids {
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is not a number")?;
        total += kib * 1024;
    }
    Ok(total)
}

/// The bytes that these processes have had written to disk so far.
///
/// # Errors
/// When a process is gone.
pub fn written(pids: &[u32]) -> Result<u64> {
    let mut total = 0;
    for pid in pids {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).with_context(|| format!("process {pid} is gone"))?;
        let count = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?;
        total += count.parse::<u64>().context("write_bytes is not a number")?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0";
        assert_eq!(ticks_of(stat), Some(42));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(rss(&[std::process::id()]).unwrap() > 0);
    }
}
