//! What /proc tells of processes: the CPU that they used, the memory that they have.

use std::time::Duration;
use std::{fs, io};

/// Linux counts CPU for its users in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// The CPU that two process trees use.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    /// The service.
    pub service: u32,
    /// The first process of PostgreSQL, the parent of all others.
    pub postgres: u32,
}

/// CPU used so far, or between two looks.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// By the service.
    pub service: Duration,
    /// By all processes of PostgreSQL.
    pub postgres: Duration,
}

impl Meter {
    /// Reads what has been used so far.
    pub fn read(self) -> io::Result<Cpu> {
        Ok(Cpu {
            service: cpu(self.service)?,
            postgres: cpu(self.postgres)?,
        })
    }

    /// Reads what has been used since `before`.
    pub fn since(self, before: Cpu) -> io::Result<Cpu> {
        let now = self.read()?;
        Ok(Cpu {
            service: now.service.saturating_sub(before.service),
            postgres: now.postgres.saturating_sub(before.postgres),
        })
    }
}

/// The numbers of `/proc/PID/stat` that follow the program's name, which may have spaces in it.
fn stat(pid: u32) -> io::Result<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit(") ").next().unwrap_or_default();
    let numbers = fields.split_whitespace().map(|field| field.parse());
    Ok(numbers.map(Result::unwrap_or_default).collect())
}

/// The CPU of a process and its children, those that have ended included.
fn cpu(pid: u32) -> io::Result<Duration> {
    let mut ticks: u64 = stat(pid)?[11..15].iter().sum();
    for entry in fs::read_dir("/proc")? {
        // Not every entry is a process, and a process may have ended since the folder was read.
        if let Some(Ok(child)) = entry?.file_name().to_str().map(str::parse)
            && let Ok(child) = stat(child)
            && child[1] == u64::from(pid)
        {
            ticks += child[11] + child[12];
        }
    }
    Ok(TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// The memory of a process that is resident, in MiB.
pub fn resident(pid: u32) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim_end_matches("kB").trim().parse::<f64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("no VmRSS"))? / 1024.0)
}
