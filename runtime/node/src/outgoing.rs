//! What waits to be written to one connection, in order: bytes, and parts of files.
//!
//! - Small pieces gather in one buffer; large ones stay where they are.
//! - A part of a file goes from the file to the socket by the kernel (sendfile(2)), where it has a handle of the operating
//!   system's and the socket is plain; otherwise it is read in pieces of [`READ_BYTES`].
//!
//! HAZARD: a file that is not in memory is read on the node's own thread, either way.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use verity_contract::FileRange;

/// Bytes fewer than this are copied, so that many leave in one write.
const SHARED_MIN: usize = 16 << 10;
/// How much of a file is read at once.
const READ_BYTES: usize = 256 << 10;
/// How much of a file the kernel is asked to move at once.
#[cfg(target_os = "linux")]
const SEND_BYTES: usize = 1 << 20;

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    File(FileRange),
}

/// Why nothing was written.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The socket takes no more now.
    Blocked,
    /// The socket is broken.
    Socket,
    /// The file cannot be read, or ends too early.
    File(io::Error),
}

impl Failed {
    fn of_socket(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock { Failed::Blocked } else { Failed::Socket }
    }
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: VecDeque<Piece>,
    /// Behind the queue.
    open: BytesMut,
    length: usize,
}

impl Outgoing {
    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        if bytes.len() < SHARED_MIN {
            self.open.extend_from_slice(&bytes);
        } else {
            self.put(Piece::Bytes(bytes));
        }
    }

    pub(crate) fn push_range(&mut self, range: FileRange) {
        if !range.is_empty() {
            self.length += range.len();
            self.put(Piece::File(range));
        }
    }

    fn put(&mut self, piece: Piece) {
        self.seal();
        self.queue.push_back(piece);
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.queue.push_back(Piece::Bytes(self.open.split().freeze()));
        }
    }

    /// Writes as much as the socket takes at once of what comes next. Answers how many bytes that was.
    ///
    /// # Errors
    /// The socket's, or the file's.
    pub(crate) fn write_next(&mut self, socket: &TcpStream) -> Result<usize, Failed> {
        let write = |bytes: &[u8]| socket.try_write(bytes).map_err(|error| Failed::of_socket(&error));
        let written = match self.queue.front_mut() {
            None => {
                let written = write(&self.open)?;
                self.open.advance(written);
                written
            }
            Some(Piece::Bytes(bytes)) => {
                let written = write(bytes)?;
                bytes.advance(written);
                self.pop_if(|piece| matches!(piece, Piece::Bytes(bytes) if bytes.is_empty()));
                written
            }
            Some(Piece::File(range)) => match send(socket, range)? {
                Some(sent) => {
                    range.advance(sent);
                    self.pop_if(|piece| matches!(piece, Piece::File(range) if range.is_empty()));
                    sent
                }
                None => {
                    let part = Self::part(range).map_err(Failed::File)?;
                    self.pop_if(|piece| matches!(piece, Piece::File(range) if range.is_empty()));
                    self.queue.push_front(Piece::Bytes(part));
                    return self.write_next(socket);
                }
            },
        };
        self.length -= written;
        Ok(written)
    }

    fn pop_if(&mut self, done: impl FnOnce(&Piece) -> bool) {
        if self.queue.front().is_some_and(done) {
            self.queue.pop_front();
        }
    }

    /// Takes what comes next, to be written by the caller; empty if nothing waits.
    ///
    /// # Errors
    /// The file's.
    pub(crate) fn take_next(&mut self) -> io::Result<Bytes> {
        let bytes = match self.queue.front_mut() {
            None => self.open.split().freeze(),
            Some(Piece::Bytes(bytes)) => {
                let bytes = std::mem::take(bytes);
                self.queue.pop_front();
                bytes
            }
            Some(Piece::File(range)) => {
                let part = Self::part(range)?;
                self.pop_if(|piece| matches!(piece, Piece::File(range) if range.is_empty()));
                part
            }
        };
        self.length -= bytes.len();
        Ok(bytes)
    }

    fn part(range: &mut FileRange) -> io::Result<Bytes> {
        let part = range.read(READ_BYTES).map_err(io::Error::other)?;
        range.advance(part.len());
        Ok(part)
    }
}

/// Has the kernel move bytes from the file to the socket; `None` if it cannot.
#[cfg(target_os = "linux")]
fn send(socket: &TcpStream, range: &FileRange) -> Result<Option<usize>, Failed> {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, InvalidInput, NotConnected, TimedOut, Unsupported, WouldBlock,
    };
    let Some(file) = range.file().descriptor() else { return Ok(None) };
    let mut position = range.position();
    let sent = socket.try_io(Interest::WRITABLE, || {
        Ok(rustix::fs::sendfile(socket, file, Some(&mut position), range.len().min(SEND_BYTES))?)
    });
    match sent {
        // Not every file system can.
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported) => Ok(None),
        Err(error) => Err(match error.kind() {
            WouldBlock | BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | TimedOut => {
                Failed::of_socket(&error)
            }
            _ => Failed::File(error),
        }),
        Ok(0) => {
            let early = "a file ends within what was to be sent of it";
            Err(Failed::File(io::Error::new(io::ErrorKind::UnexpectedEof, early)))
        }
        Ok(sent) => Ok(Some(sent)),
    }
}

#[cfg(not(target_os = "linux"))]
fn send(_socket: &TcpStream, _range: &FileRange) -> Result<Option<usize>, Failed> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use verity_storage::{Disk, DiskFile, MemoryDisk, RealDisk, file_range};

    use super::*;

    /// Both ends of a connection.
    fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        client.set_nonblocking(true).expect("a socket can be told");
        let (peer, _) = listener.accept().expect("somebody connects");
        (TcpStream::from_std(client).expect("it does not block"), peer)
    }

    fn file(disk: &dyn Disk, bytes: &[u8]) -> Arc<dyn DiskFile> {
        let file = disk.create("f").expect("there is room");
        file.write_at(0, bytes).expect("there is room");
        file.into()
    }

    fn pieces(file: &Arc<dyn DiskFile>, length: usize) -> Outgoing {
        let mut out = Outgoing::default();
        out.push(Bytes::from_static(b"head"));
        out.push(Bytes::from(vec![b'b'; SHARED_MIN]));
        out.push_range(file_range(file, 3, length));
        out.push(Bytes::from_static(b"tail"));
        out
    }

    #[tokio::test(flavor = "current_thread")]
    #[expect(clippy::disallowed_methods, reason = "the other end of a socket reads meanwhile")]
    async fn pieces_leave_in_order_from_memory_and_from_files() {
        let folder = tempfile::tempdir().expect("there is room");
        let content: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        let real = RealDisk::new(folder.path()).expect("there is room");
        for file in [file(&real, &content), file(&MemoryDisk::new(), &content)] {
            let length = content.len() - 3;
            let expected = [b"head", &vec![b'b'; SHARED_MIN][..], &content[3..], b"tail"].concat();
            let (socket, mut peer) = pair();
            let mut out = pieces(&file, length);
            assert_eq!(out.len(), expected.len());
            let size = expected.len();
            let reading = std::thread::spawn(move || {
                let mut read = vec![0; size];
                peer.read_exact(&mut read).map(|()| read)
            });
            while !out.is_empty() {
                match out.write_next(&socket) {
                    Ok(_) => {}
                    Err(Failed::Blocked) => socket.writable().await.expect("it is open"),
                    Err(failed) => panic!("{failed:?}"),
                }
            }
            assert_eq!(reading.join().expect("it does not panic").expect("all of it comes"), expected);
            let (mut out, mut taken) = (pieces(&file, length), Vec::new());
            while !out.is_empty() {
                taken.extend_from_slice(&out.take_next().expect("it is there"));
            }
            assert_eq!(taken, expected, "as it leaves under TLS");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_file_that_ends_early_is_an_error() {
        let folder = tempfile::tempdir().expect("there is room");
        let real = RealDisk::new(folder.path()).expect("there is room");
        for file in [file(&real, b"0123456789"), file(&MemoryDisk::new(), b"0123456789")] {
            let (socket, _peer) = pair();
            let mut out = Outgoing::default();
            out.push_range(file_range(&file, 3, 8));
            let failed = loop {
                match out.write_next(&socket) {
                    Ok(written) => assert!(written <= 7, "no more than there is"),
                    Err(Failed::Blocked) => socket.writable().await.expect("it is open"),
                    Err(Failed::File(error)) => break error,
                    Err(Failed::Socket) => panic!("it is whole"),
                }
            };
            assert!(failed.to_string().contains("a file ends") || failed.to_string().contains("7 bytes"), "{failed}");
            let mut out = Outgoing::default();
            out.push_range(file_range(&file, 3, 8));
            assert!(out.take_next().is_err());
        }
    }
}
