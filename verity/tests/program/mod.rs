//! The binary, started and asked as a user does it.

#![allow(dead_code, reason = "each test crate uses its part")]
#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// The ports of one node, all moved to a place of the test's own.
pub(crate) struct Ports {
    pub(crate) offset: u16,
}

/// Where the next search for free ports begins. Two offsets share no port: no two ports, of whichever of five nodes, are a
/// multiple of the step apart.
static NEXT: AtomicU16 = AtomicU16::new(400);
const STEP: u16 = 124;
const BASES: [u16; 9] = [2181, 7070, 7071, 8080, 9092, 18443, 18444, 18445, 26657];
const _: () = {
    let (mut one, ports) = (0, BASES.len() * 5);
    while one < ports {
        let mut other = 0;
        while other < one {
            let (a, b) = (BASES[one / 5] + 1000 * (one % 5) as u16, BASES[other / 5] + 1000 * (other % 5) as u16);
            assert!(a.abs_diff(b) % STEP != 0, "two tests would share a port");
            other += 1;
        }
        one += 1;
    }
};

impl Ports {
    /// Ports that are free now, and that no other test of this process is given.
    pub(crate) fn free() -> Self {
        Self::free_for(1)
    }

    /// The same for so many nodes of one cluster. All but the ledger's lie below those that a system gives to connections
    /// that go out. A port is asked whether anybody answers, and not listened at: a program that another test starts at
    /// that moment would hold a copy of the listener, and the port with it, until it has begun to run.
    pub(crate) fn free_for(nodes: u16) -> Self {
        let is_free = |offset: u16| {
            let mut ports = (0..nodes).flat_map(|node| BASES.map(|base| base + offset + 1000 * node));
            ports.all(|port| TcpStream::connect(("127.0.0.1", port)).is_err())
        };
        loop {
            let offset = NEXT.fetch_add(STEP, Ordering::Relaxed);
            assert!(offset + 18445 + 1000 * nodes < 32_000, "some ports are free");
            if is_free(offset) {
                return Self { offset };
            }
        }
    }

    pub(crate) fn of(&self, base: u16) -> u16 {
        base + self.offset
    }
}

pub(crate) fn verity(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verity"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VERITY_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// Runs to the end, which must be a refusal, and gives its one line.
pub(crate) fn refusal(command: &mut Command) -> String {
    let text = refusal_text(command);
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

pub(crate) fn refusal_text(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("verity: "), "{text}");
    assert!(output.stdout.is_empty(), "a refusal says nothing on standard output");
    text
}

pub(crate) fn up(dir: &Path, ports: &Ports) -> Command {
    let mut command = verity(&["up", "--nodes", "1", "--json", "--data-dir"]);
    command.arg(dir).arg("--port-offset").arg(ports.offset.to_string());
    command
}

/// A running cluster; dropping it kills it.
pub(crate) struct Running {
    child: Child,
    /// What it said when it was there.
    pub(crate) said: Json,
}

/// Longer than a machine that is busy with other things takes, and shorter than the faults of tests last.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "{what}: it did not come true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it says where it is");
        let said = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        Self { child, said }
    }

    /// Asks it to end, as Ctrl-C does, and waits. True if it then says that nothing went wrong.
    pub(crate) fn end(mut self) -> bool {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().expect("kill is there");
        assert!(sent.success(), "it runs");
        let mut ended = None;
        eventually("the program ends", || {
            ended = self.child.try_wait().expect("it was started here");
            ended.is_some()
        });
        ended.is_some_and(|status| status.success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
