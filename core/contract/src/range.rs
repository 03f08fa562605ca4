//! Parts of files on their way to a client, which no room in between needs to have in memory.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;

/// An open file, for reading alone.
pub trait FileBytes: Debug + Send + Sync {
    /// Reads up to `out.len()` bytes at `offset`; fewer only at the end of the file. Answers how many.
    ///
    /// # Errors
    /// The device's, in words.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, String>;

    /// The operating system's handle, if the file is one of its own: the kernel may then move bytes by itself.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// Bytes of a file that do not change as long as anybody has this.
#[derive(Clone, Debug)]
pub struct FileRange {
    file: Arc<dyn FileBytes>,
    position: u64,
    length: usize,
}

impl PartialEq for FileRange {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && (self.position, self.length) == (other.position, other.length)
    }
}

impl Eq for FileRange {}

impl FileRange {
    /// `length` bytes from `position` on.
    #[must_use]
    pub fn new(file: Arc<dyn FileBytes>, position: u64, length: usize) -> Self {
        Self { file, position, length }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &dyn FileBytes {
        &*self.file
    }

    /// Where in the file it begins, in bytes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// True if it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Lets go of the first `count` bytes.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn advance(&mut self, count: usize) {
        self.length = self.length.checked_sub(count).expect("no more is let go of than there is");
        self.position += count as u64;
    }

    /// Reads the first bytes, at most `max` of them.
    ///
    /// # Errors
    /// The device's, in words, or that the file is shorter than it was said to be.
    pub fn read(&self, max: usize) -> Result<Bytes, String> {
        let mut out = vec![0; self.length.min(max)];
        match self.file.read_at(self.position, &mut out)? {
            read if read == out.len() => Ok(out.into()),
            read => Err(format!("{read} bytes at {} of {:?}, not {}", self.position, self.file, out.len())),
        }
    }
}
