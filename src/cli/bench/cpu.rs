//! The CPU time of a process, as Linux counts it.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::cli::failure::Failure;

/// Reads the CPU time of a process.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    tasks: PathBuf,
    pid: u32,
}

impl Meter {
    /// # Errors
    /// When there is no such process, or the system does not tell.
    pub(super) fn new(pid: u32) -> Result<Self, Failure> {
        if !cfg!(target_os = "linux") {
            return Err(Failure::input("--pid needs Linux, which tells the CPU time of threads in /proc"));
        }
        let meter = Self { tasks: PathBuf::from(format!("/proc/{pid}/task")), pid };
        if !meter.tasks.is_dir() {
            return Err(Failure::input(format!("there is no process {pid}, which --pid names")));
        }
        match meter.nanoseconds() {
            Ok(_) => Ok(meter),
            Err(error) => Err(Failure::input(format!("cannot read the CPU time of process {pid}: {error}"))),
        }
    }

    /// Nanoseconds that all its threads have run so far.
    pub(super) fn read(&self) -> Result<u64, Failure> {
        let pid = self.pid;
        self.nanoseconds().map_err(|_| Failure::runtime(format!("process {pid}, which --pid names, has ended")))
    }

    fn nanoseconds(&self) -> io::Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(&self.tasks)? {
            let path = task?.path().join("schedstat");
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                // A thread may end at any time; the process has at least one left.
                Err(error) if has_ended(&error) && self.tasks.is_dir() => continue,
                Err(error) => return Err(error),
            };
            let first = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            sum += first.ok_or_else(|| io::Error::other(format!("{} holds no number", path.display())))?;
        }
        Ok(sum)
    }
}

/// Whether a thread is gone: before its file was opened, or between that and reading it (ESRCH).
fn has_ended(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_own_time_is_read() {
        // It need not grow here: threads of other tests end, and take their time with them.
        assert!(Meter::new(std::process::id()).unwrap().read().unwrap() > 0);
    }

    #[test]
    fn a_process_that_is_not_there() {
        // Linux gives no number above 2^22.
        let failure = Meter::new(u32::MAX).unwrap_err();
        assert_eq!(failure.to_string(), "there is no process 4294967295, which --pid names");
    }
}
