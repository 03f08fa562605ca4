//! What no server can beat here: a round trip to a thread that echoes, and a write that is synced.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The frame that is echoed: as large as a create of 100 bytes.
const FRAME_SIZE: usize = 170;

/// A median and a 99th percentile, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// The median.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
}

/// Round trips, one at a time, to a thread that sends back what it reads.
///
/// # Errors
/// When loopback sockets fail.
#[expect(clippy::disallowed_methods, reason = "a load client measures time")]
pub fn echo(time: Duration) -> Result<Floor> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let server = scope.spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    size => stream.write_all(&buffer[..size])?,
                }
            }
        });
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut frame = [0; FRAME_SIZE];
        let start = Instant::now();
        let mut trips = Vec::new();
        while start.elapsed() < time {
            let sent = Instant::now();
            stream.write_all(&frame)?;
            stream.read_exact(&mut frame)?;
            trips.push(sent.elapsed());
        }
        drop(stream);
        server.join().expect("an echo does not panic")?;
        Ok(of(trips))
    })
}

/// Appends of one frame to a file in `directory`, each synced by `fdatasync`.
///
/// # Errors
/// When the file cannot be written.
#[expect(clippy::disallowed_methods, reason = "a load client measures time")]
pub fn sync(directory: &Path, time: Duration) -> Result<Floor> {
    let path = directory.join("sync-floor");
    let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let start = Instant::now();
    let mut writes = Vec::new();
    while start.elapsed() < time {
        let from = Instant::now();
        file.write_all(&[7; FRAME_SIZE])?;
        file.sync_data()?;
        writes.push(from.elapsed());
    }
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(of(writes))
}

fn of(mut times: Vec<Duration>) -> Floor {
    times.sort_unstable();
    assert!(!times.is_empty(), "a floor is measured for longer than one step takes");
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
    Floor { p50_us: at(50), p99_us: at(99) }
}
