//! Small files that are replaced whole: magic, version, length and checksum in front of a few bytes.
//!
//! Deliberately absent: anything that is appended to (the log) or large (snapshots).

use crate::Error;
use crate::disk::{Disk, read_all, replace};
use crate::identity::{seal, unseal};

/// A file longer than this was not written by any version.
const SIZE_MAX: u64 = 4 << 20;

/// Replaces `file` in the folder's root by `body`, durably and as a whole.
///
/// # Errors
/// The device's.
pub fn write_sealed(disk: &dyn Disk, file: &str, magic: [u8; 8], body: &[u8]) -> Result<(), Error> {
    replace(disk, "", file, &seal(magic, body))
}

/// Reads what [`write_sealed`] wrote; `None` if there is no such file.
///
/// # Errors
/// [`Error::Corrupt`]; [`Error::Incompatible`] for a newer format; the device's.
pub fn read_sealed(disk: &dyn Disk, file: &str, magic: [u8; 8]) -> Result<Option<Vec<u8>>, Error> {
    if !disk.exists(file)? {
        return Ok(None);
    }
    let bytes = read_all(&*disk.open(file)?, SIZE_MAX)?;
    unseal(file, magic, &bytes).map(|body| Some(body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;
    use crate::disk::Crash;

    #[test]
    fn files_round_trip_and_survive_a_crash() {
        let disk = MemoryDisk::new();
        assert_eq!(read_sealed(&disk, "note", *b"VRTYNOTE").unwrap(), None);
        write_sealed(&disk, "note", *b"VRTYNOTE", b"one").unwrap();
        write_sealed(&disk, "note", *b"VRTYNOTE", b"two").unwrap();
        disk.crash(Crash::LoseAll);
        assert_eq!(read_sealed(&disk, "note", *b"VRTYNOTE").unwrap().as_deref(), Some(&b"two"[..]));
        assert!(matches!(read_sealed(&disk, "note", *b"VRTYELSE"), Err(Error::Corrupt { .. })));
    }
}
