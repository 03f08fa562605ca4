//! Lines of standard input or of a file, as they come: a thread reads, since that may wait for a person.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use tokio::sync::mpsc;

/// So many lines wait to be taken.
const WAITING_MAX: usize = 4096;

/// Lines, without their ends.
pub(super) type Lines = mpsc::Receiver<std::io::Result<Vec<u8>>>;

/// Begins to read.
pub(super) fn read(path: Option<&Path>) -> Result<Lines> {
    let input: Box<dyn BufRead + Send> = match path {
        None => Box::new(BufReader::new(std::io::stdin())),
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Box::new(BufReader::new(file))
        }
    };
    let (to, lines) = mpsc::channel(WAITING_MAX);
    #[expect(clippy::disallowed_methods, reason = "the binary's own thread, which waits for a person")]
    std::thread::spawn(move || {
        for line in input.split(b'\n') {
            let line = line.map(|mut line| {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                line
            });
            // Nobody takes them any more.
            if to.blocking_send(line).is_err() {
                return;
            }
        }
    });
    Ok(lines)
}
