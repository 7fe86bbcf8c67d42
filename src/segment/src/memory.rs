//! How much memory a run takes, has taken, and could take.

use serde::Serialize;

/// Bytes a run will need, estimated before any is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Weights: pages of the mapped file, which the system can drop.
    pub weights: u64,
    /// Image, logits, mask, and one pass of the network.
    pub working: u64,
    /// Encoded windows kept for the next prompt, at most.
    pub cache: u64,
    /// All of it.
    pub total: u64,
}

/// The largest amount of memory this process has held, where the system tells.
#[cfg(unix)]
pub fn peak_memory_bytes() -> Option<u64> {
    // SAFETY: rusage is plain data for which all zeros is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage that the call fills.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    (status == 0).then(|| usage.ru_maxrss as u64 * unit)
}

/// The largest amount of memory this process has held, where the system tells.
#[cfg(not(unix))]
pub fn peak_memory_bytes() -> Option<u64> {
    None
}

/// Memory that can be taken without swapping, where the system tells.
pub(crate) fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
