//! Whose folder this is: cluster, node, format version, and how often the node has started.
//!
//! One file, `identity`, replaced whole at each start. Opening it takes the folder's lock, so that a second process is
//! refused before it reads anything. All other files carry the cluster's id and the format version as well.
//!
//! ```text
//! magic "VRTYNODE" | version u32 | length u32 | crc32c of the rest u32 | zero u32
//! | cluster 16 bytes | node u64 | incarnation u64
//! ```
//! Integers are little-endian. The first 24 bytes keep their place in every version.

use std::fmt;

use verity_types::{Incarnation, NodeId};

use crate::Error;
use crate::codec::{Put, Reader};
use crate::disk::{Disk, DiskLock, read_all, replace};

/// The version that this program writes into every file. It reads this version and refuses newer ones.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"VRTYNODE";
const FILE: &str = "identity";
const LOCK: &str = "lock";
const SIZE: usize = 24 + 32;
/// A file longer than this was not written by any version.
const SIZE_MAX: u64 = 64 << 10;

/// Names a cluster. Drawn at random when the cluster is made.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A node's folder, opened and locked. Keep it for as long as anything in the folder is open.
#[derive(Debug)]
pub struct Identity {
    /// The cluster that the folder belongs to.
    pub cluster: ClusterId,
    /// The node that the folder belongs to.
    pub node: NodeId,
    /// How many times the folder was opened, this time included.
    pub incarnation: Incarnation,
    _lock: Box<dyn DiskLock>,
}

impl Identity {
    /// Locks the folder, makes it this node's if it is new, and counts the start durably.
    ///
    /// # Errors
    /// [`Error::InUse`]; [`Error::Incompatible`] if the folder belongs to another cluster or node, or was written in a
    /// newer format; [`Error::Corrupt`]; the device's.
    pub fn open(disk: &dyn Disk, cluster: ClusterId, node: NodeId) -> Result<Self, Error> {
        let lock = disk.lock(LOCK)?;
        let before = match read(disk)? {
            None => Incarnation(0),
            Some((found, _, _)) if found != cluster => {
                return Err(Error::incompatible(
                    FILE,
                    format!("this folder belongs to cluster {found}, not {cluster}; choose another data folder"),
                ));
            }
            Some((_, found, _)) if found != node => {
                return Err(Error::incompatible(
                    FILE,
                    format!("this folder belongs to node {found}, not {node}; choose another data folder"),
                ));
            }
            Some((_, _, incarnation)) => incarnation,
        };
        let incarnation = Incarnation(before.0.checked_add(1).expect("a node does not start 2^64 times"));
        replace(disk, "", FILE, &encode(cluster, node, incarnation))?;
        Ok(Self { cluster, node, incarnation, _lock: lock })
    }

    /// Whose folder this is, without taking it; `None` for a new one.
    ///
    /// # Errors
    /// As [`Identity::open`], but for [`Error::InUse`].
    pub fn peek(disk: &dyn Disk) -> Result<Option<(ClusterId, NodeId)>, Error> {
        Ok(read(disk)?.map(|(cluster, node, _)| (cluster, node)))
    }
}

fn encode(cluster: ClusterId, node: NodeId, incarnation: Incarnation) -> Vec<u8> {
    let mut body = Vec::with_capacity(SIZE - 24);
    body.extend_from_slice(&cluster.0);
    body.put_u64(node.0);
    body.put_u64(incarnation.0);
    seal(MAGIC, &body)
}

fn read(disk: &dyn Disk) -> Result<Option<(ClusterId, NodeId, Incarnation)>, Error> {
    if !disk.exists(FILE)? {
        return Ok(None);
    }
    let bytes = read_all(&*disk.open(FILE)?, SIZE_MAX)?;
    let mut fields = Reader(unseal(FILE, MAGIC, &bytes)?);
    let decoded = (|| Some((ClusterId(fields.array()?), NodeId(fields.u64()?), Incarnation(fields.u64()?))))();
    decoded.map(Some).ok_or_else(|| Error::corrupt(FILE, 0, "its header is too short"))
}

/// Length of what stands before every header's own fields.
pub(crate) const SEAL_SIZE: usize = 24;

/// Begins a file: magic, version, total length, checksum, then `body`.
pub(crate) fn seal(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(SEAL_SIZE + body.len()).expect("a header is small");
    let mut out = Vec::with_capacity(SEAL_SIZE + body.len());
    out.extend_from_slice(&magic);
    out.put_u32(FORMAT_VERSION);
    out.put_u32(size);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.put_u32(crc);
    out.put_u32(0);
    out.extend_from_slice(body);
    out
}

/// Checks what [`seal`] wrote and answers the body. The checksum comes before the version, so that a flipped bit is
/// never taken for a newer program's file.
pub(crate) fn unseal<'a>(path: &str, magic: [u8; 8], bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    let damaged = || Error::corrupt(path, 0, "its header does not check");
    let mut fields = Reader(bytes);
    let found = fields.array::<8>().ok_or_else(damaged)?;
    let version = fields.u32().ok_or_else(damaged)?;
    let size = fields.u32().ok_or_else(damaged)? as usize;
    let crc = fields.u32().ok_or_else(damaged)?;
    let zero = fields.u32().ok_or_else(damaged)?;
    let body = bytes.get(SEAL_SIZE..size).ok_or_else(damaged)?;
    if found != magic || zero != 0 || crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), body) != crc {
        return Err(damaged());
    }
    if version > FORMAT_VERSION {
        return Err(Error::incompatible(
            path,
            format!("written in format {version}; this program reads up to {FORMAT_VERSION}; use a newer one"),
        ));
    }
    Ok(body)
}

/// A header as a newer program would write it.
#[cfg(test)]
pub(crate) fn seal_newer(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut out = seal(magic, body);
    out[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..16]), body);
    out[16..20].copy_from_slice(&crc.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;
    use crate::disk::Crash;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    #[test]
    fn starts_are_counted_and_the_folder_is_locked() {
        let disk = MemoryDisk::new();
        assert_eq!(Identity::peek(&disk).unwrap(), None);
        for start in 1..4 {
            let identity = Identity::open(&disk, CLUSTER, NodeId(1)).unwrap();
            assert_eq!(identity.incarnation, Incarnation(start));
            assert!(matches!(Identity::open(&disk, CLUSTER, NodeId(1)), Err(Error::InUse { .. })));
            disk.crash(Crash::LoseAll);
        }
        assert_eq!(Identity::peek(&disk).unwrap(), Some((CLUSTER, NodeId(1))));
    }

    #[test]
    fn strangers_are_refused_in_one_line() {
        let disk = MemoryDisk::new();
        drop(Identity::open(&disk, CLUSTER, NodeId(1)).unwrap());
        let other = Identity::open(&disk, ClusterId([8; 16]), NodeId(1)).unwrap_err();
        assert!(other.to_string().contains("belongs to cluster 0707"), "{other}");
        let other = Identity::open(&disk, CLUSTER, NodeId(2)).unwrap_err();
        assert_eq!(other.to_string(), "identity: this folder belongs to node 1, not 2; choose another data folder");
        replace(&disk, "", FILE, &seal_newer(MAGIC, &[0; 64])).unwrap();
        let newer = Identity::open(&disk, CLUSTER, NodeId(1)).unwrap_err();
        assert_eq!(newer.to_string(), "identity: written in format 2; this program reads up to 1; use a newer one");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = encode(CLUSTER, NodeId(1), Incarnation(5));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(unseal(FILE, MAGIC, &flipped), Err(Error::Corrupt { .. })), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(unseal(FILE, MAGIC, &bytes[..len]).is_err(), "cut to {len}");
        }
    }
}
