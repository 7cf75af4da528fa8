//! Processes that outlive us: started in a session of their own, known by pid and start time, ended by signal.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// First argument of the hidden command that leaves our session and becomes another program.
pub const DETACH: &str = "__detach";

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Boot of the machine and moment of its start, as the system counts them. A recycled pid has another one.
    started: String,
}

impl Process {
    /// The process that has this pid now; `None` if there is none, or only its remains (a zombie).
    pub fn now(pid: u32) -> Option<Self> {
        started(pid).map(|started| Self { pid, started })
    }

    /// Whether it runs still.
    pub fn runs(&self) -> bool {
        Self::now(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal, if it runs still: another process that got its pid is never hit.
    ///
    /// # Errors
    /// The system refuses (it belongs to another user).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(i32::try_from(self.pid).unwrap_or(0)).filter(|_| self.runs())
        else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Err(error) if error == rustix::io::Errno::SRCH => Ok(()),
            other => other.map_err(io::Error::from),
        }
    }
}

/// What tells apart two processes with one pid.
#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything: the fields after the last `)` are state (3) to start time (22).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let ticks = fields.nth(18)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{} {ticks}", boot.trim()))
}

#[cfg(not(target_os = "linux"))]
fn started(pid: u32) -> Option<String> {
    let out = Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let (state, moment) = text.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| moment.trim().to_owned())
}

/// The log of a process, from where one start of it begins.
pub struct Log {
    /// The file.
    pub path: PathBuf,
    from: u64,
}

/// Bytes of a log that are looked through for the reason of an end.
const TAIL: u64 = 64 * 1024;
/// Longest reason that is quoted, in characters.
const REASON_MAX: usize = 1_000;

impl Log {
    /// What is written from now on.
    pub fn from_here(path: PathBuf) -> Self {
        let from = std::fs::metadata(&path).map_or(0, |m| m.len());
        Self { path, from }
    }

    /// Why the process has ended or is not ready, as far as the log says it: the last line that tells of an error, else the last
    /// one.
    pub fn reason(&self) -> String {
        match self.read() {
            Ok(text) => reason(&text),
            Err(error) => format!("no reason, since its log cannot be read: {error}"),
        }
    }

    fn read(&self) -> io::Result<String> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = std::fs::File::open(&self.path)?;
        let length = file.metadata()?.len();
        // A log that was emptied meanwhile begins anew.
        let from = if length < self.from { 0 } else { self.from };
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn reason(log: &str) -> String {
    let lines = || log.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let is_error = |line: &&str| {
        let start = line.get(..6).unwrap_or_default();
        start.eq_ignore_ascii_case("error:")
            || line.contains(" ERROR ")
            || line.contains("panicked at")
    };
    let line = lines().find(is_error).or_else(|| lines().next());
    let line = line.unwrap_or("nothing: its log is empty");
    let line = match line.get(..6) {
        Some(start) if start.eq_ignore_ascii_case("error:") => line[6..].trim(),
        _ => line,
    };
    line.chars().take(REASON_MAX).collect()
}

/// Starts a program in a session of its own with its output added to `log`, and with further variables. The child handle tells of an early end.
///
/// # Errors
/// The log cannot be opened, or nothing can be started.
pub fn start(
    program: &Path,
    arguments: &[OsString],
    variables: &[(&str, String)],
    log: &Log,
) -> io::Result<(Process, Child)> {
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log.path)?;
    let child = Command::new(std::env::current_exe()?)
        .arg(DETACH)
        .arg(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    let process = Process::now(child.id()).ok_or_else(|| {
        io::Error::other(format!(
            "{} ended at once: see {}",
            program.display(),
            log.path.display()
        ))
    })?;
    Ok((process, child))
}

/// The hidden command: leaves the session of the terminal and becomes the program, under the same pid.
pub fn detach(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = arguments.next() else {
        return ExitCode::from(super::super::output::USAGE);
    };
    if let Err(error) = rustix::process::setsid() {
        eprintln!("cannot leave the session of the terminal: {error}");
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("cannot run {}: {error}", program.display());
    ExitCode::from(super::super::output::FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let me = Process::now(std::process::id()).expect("we run");
        assert!(me.runs());
        let other = Process {
            started: "another boot 1".into(),
            ..me.clone()
        };
        assert!(!other.runs());
        // Nothing is sent to whoever has the pid now: this test would end here.
        other.signal(Signal::KILL).expect("nothing to do");
        let nobody = Process { pid: 0, ..me };
        assert!(!nobody.runs());
        nobody.signal(Signal::KILL).expect("nothing to do");
    }

    #[test]
    fn a_killed_child_does_not_run_even_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let process = Process::now(child.id()).expect("runs");
        process.signal(Signal::KILL).expect("ours");
        child.wait().expect("ended");
        assert!(!process.runs());
    }

    #[test]
    fn the_reason_is_quoted_and_not_what_was_said_last() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("log");
        std::fs::write(&path, "error: of an earlier start\n").expect("written");
        let log = Log::from_here(path.clone());
        assert!(log.reason().contains("log is empty"));
        let append = |text: &str| {
            let old = std::fs::read_to_string(&path).expect("read");
            std::fs::write(&path, old + text).expect("written");
        };
        append("one\ntwo \n\n");
        assert_eq!(log.reason(), "two");
        append("error: cannot listen on 127.0.0.1:1\n");
        append("note: run with RUST_BACKTRACE=1\n");
        assert_eq!(log.reason(), "cannot listen on 127.0.0.1:1");
        append("2026-01-01T00:00:00Z ERROR node: disk full\nbye\n");
        assert!(log.reason().ends_with("disk full"));
        let none = Log::from_here(dir.path().join("none"));
        assert!(none.reason().starts_with("no reason"));
    }
}
