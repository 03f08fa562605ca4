//! An operator's commands, run by the shell of this machine: `-blocknotify`, `-walletnotify`, `-alertnotify`, `-startupnotify`.
//!
//! - upon a notice: its line waits for one of a few threads, each of which runs one at a time;
//! - upon more lines than may wait: the new one is dropped, and the log says so once until there is room again;
//! - upon the end: the commands of `-shutdownnotify` run, and the process ends once they did. What still waits is dropped.
//!
//! The node never waits for any of it.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use verity_bitcoin::session::{Commands, Notice, Notify};

/// So many commands run at once.
const RUNNING_MAX: usize = 8;
/// So many lines wait.
const WAITING_MAX: usize = 4_096;

/// Runs lines, a few at a time.
#[derive(Debug)]
pub(super) struct Shell {
    commands: Commands,
    lines: SyncSender<String>,
    full: bool,
}

fn start(line: &str) -> std::io::Result<Child> {
    Command::new("/bin/sh").arg("-c").arg(line).stdin(Stdio::null()).spawn()
}

/// Runs one to its end. What comes of it is the operator's business; the log has what went wrong.
fn run(line: &str) {
    match start(line).and_then(|mut child| child.wait()) {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::warn!("runCommand error: system({line}) returned {status}"),
        Err(error) => tracing::warn!("runCommand error: system({line}): {error}"),
    }
}

fn work(lines: &Mutex<Receiver<String>>) {
    loop {
        let line = lines.lock().expect("nobody panics while holding it").recv();
        match line {
            Ok(line) => run(&line),
            Err(_) => return,
        }
    }
}

impl Shell {
    /// Threads for these commands.
    ///
    /// # Errors
    /// The system has none.
    pub(super) fn new(commands: Commands) -> Result<Self> {
        Self::with(commands, RUNNING_MAX, WAITING_MAX)
    }

    fn with(commands: Commands, running_max: usize, waiting_max: usize) -> Result<Self> {
        let (lines, waiting) = sync_channel(waiting_max);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..running_max {
            let waiting = Arc::clone(&waiting);
            beside(move || work(&waiting))?;
        }
        Ok(Self { commands, lines, full: false })
    }

    /// Lets a line wait for its turn.
    fn add(&mut self, line: String) {
        match self.lines.try_send(line) {
            Ok(()) => self.full = false,
            Err(TrySendError::Full(line)) => {
                if !std::mem::replace(&mut self.full, true) {
                    tracing::warn!("too many commands wait: \"{line}\" and those behind it are not run");
                }
            }
            Err(TrySendError::Disconnected(_)) => unreachable!("the threads end with the sender"),
        }
    }
}

impl Notify for Shell {
    fn notify(&mut self, notice: &Notice) {
        if let Some(line) = self.commands.line(notice) {
            self.add(line);
        }
    }
}

/// On a thread of its own.
fn beside(deed: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("notify".to_owned()).spawn(deed);
    thread.map(|_| ()).context("no thread for an operator's commands")
}

/// Runs one, and does not wait for it.
pub(super) fn run_beside(line: String) -> Result<()> {
    beside(move || run(&line))
}

/// Runs these at once, and waits for all of them.
pub(super) fn run_all(lines: &[String]) {
    let started: Vec<_> = lines.iter().map(|line| (line, start(line))).collect();
    for (line, child) in started {
        match child.and_then(|mut child| child.wait()) {
            Ok(status) if status.success() => {}
            ended => tracing::warn!("runCommand error: system({line}): {ended:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_hang_hold_up_nobody_and_what_is_too_much_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let (end, ended) = (folder.path().join("end"), folder.path().join("ended"));
        std::fs::write(&ended, "").expect("there is room");
        // Whatever becomes of this test, nothing of it runs for long.
        let until = |is: String| format!("n=0; until {is} || [ $n = 3000 ]; do sleep 0.01; n=$((n+1)); done");
        let alert = format!("{}; echo %s >> {}", until(format!("[ -e {} ]", end.display())), ended.display());
        let mut shell = Shell::with(Commands { alert, ..Commands::default() }, 2, 3).expect("threads");
        for _ in 0..6 {
            shell.notify(&Notice::Warning("all is lost".to_owned()));
        }
        assert!(shell.full, "two run at most, and three wait");
        run_all(&[format!("touch {}", end.display())]);
        assert!(end.exists(), "it waits for what runs at the end");
        run_all(&[until(format!("[ \"$(wc -l < {})\" -ge 3 ]", ended.display()))]);
        let told = std::fs::read_to_string(&ended).expect("it is there");
        assert!(told.lines().all(|line| line == "all is lost") && told.lines().count() <= 5, "{told}");
    }
}
