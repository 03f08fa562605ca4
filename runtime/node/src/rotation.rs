//! Certificates that are read again when their files change.
//!
//! - upon a connection, at most once in [`LOOK`]: if a file has another time or size than when it was last read, all are
//!   read again, and this connection is the first to use them;
//! - upon files that cannot be used, as halfway through a replacement: a warning, once, and the certificates that were
//!   read last go on.
//!
//! Connections that are open keep what they began with. Deliberately absent: a timer. Who never connects needs no
//! certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::tls::{FILES, Loaded, TlsError, load};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What tells that a file was replaced: when it was written, and how long it is.
type Stamp = [Option<(SystemTime, u64)>; FILES.len()];

type Build<T> = Box<dyn Fn(Loaded) -> Result<T, TlsError> + Send + Sync>;

/// Something that is made from a folder's certificates.
pub(crate) struct Rotating<T> {
    dir: PathBuf,
    look: Duration,
    build: Build<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: T,
    read: Stamp,
    looked: Instant,
}

impl<T: Clone> Rotating<T> {
    /// Reads the folder for the first time.
    pub(crate) fn load(
        dir: &Path,
        build: impl Fn(Loaded) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        Self::looking_every(LOOK, dir, build)
    }

    pub(crate) fn looking_every(
        look: Duration,
        dir: &Path,
        build: impl Fn(Loaded) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // The times come first: what is replaced while it is read is seen at the next look.
        let read = stamp(dir);
        let current = build(load(dir)?)?;
        let state = State { current, read, looked: Instant::now() };
        Ok(Self { dir: dir.to_owned(), look, build: Box::new(build), state: Mutex::new(state) })
    }

    /// What the files say now, or said when they could last be used.
    pub(crate) fn current(&self) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(state.looked) >= self.look {
            state.looked = now;
            let read = stamp(&self.dir);
            if read != state.read {
                state.read = read;
                match load(&self.dir).and_then(|loaded| (self.build)(loaded)) {
                    Ok(new) => {
                        state.current = new;
                        tracing::info!(dir = %self.dir.display(), "certificates were read again");
                    }
                    Err(error) => tracing::warn!(%error, "the old certificates stay in use"),
                }
            }
        }
        state.current.clone()
    }
}

fn stamp(dir: &Path) -> Stamp {
    FILES.map(|file| {
        let metadata = fs::metadata(dir.join(file)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}
