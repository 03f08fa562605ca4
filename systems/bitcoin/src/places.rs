//! Where a call reads and writes by a path that its client gives: below the node's folder, or anywhere by an absolute path, as far
//! as the node was given the rest of the machine.

use std::sync::Arc;

use verity_storage::{Disk, DiskFile};

/// The disks of a node.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The node's folder.
    pub(crate) own: Arc<dyn Disk>,
    /// Where that is, for people.
    pub(crate) path: String,
    /// All else that the machine has.
    pub(crate) outside: Option<Arc<dyn Disk>>,
}

impl Places {
    /// A path's disk, and where on it the path is. Nothing if it leads in circles, or outside of what there is.
    pub(crate) fn find<'a>(&self, path: &'a str) -> Option<(&Arc<dyn Disk>, &'a str)> {
        let below = path.strip_prefix(&self.path).filter(|rest| rest.starts_with('/'));
        let (disk, place) = match (below, path.strip_prefix('/'), &self.outside) {
            (Some(rest), ..) => (&self.own, rest.trim_start_matches('/')),
            (None, Some(rest), Some(outside)) => (outside, rest),
            _ => (&self.own, path),
        };
        let leads_on = place.split('/').all(|part| !matches!(part, "" | "." | ".."));
        leads_on.then_some((disk, place))
    }

    /// Begins a file that nobody has yet. It has another name until it is whole.
    pub(crate) fn begin(&self, path: &str) -> Result<NewFile, BeginError> {
        let shown = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.path) };
        let Some((disk, place)) = self.find(path) else { return Err(BeginError::Closed(shown)) };
        if disk.exists(place).unwrap_or(false) {
            return Err(BeginError::Exists(shown));
        }
        let Ok(file) = disk.create(&format!("{place}{INCOMPLETE}")) else { return Err(BeginError::Closed(shown)) };
        Ok(NewFile { disk: Arc::clone(disk), place: place.to_owned(), file, size: 0, shown })
    }
}

const INCOMPLETE: &str = ".incomplete";

/// Why a file cannot be begun, and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginError {
    /// Somebody has it.
    Exists(String),
    /// There is no such place, or nothing may be written there.
    Closed(String),
}

/// A file that is written from its beginning to its end.
#[derive(Debug)]
pub struct NewFile {
    disk: Arc<dyn Disk>,
    place: String,
    file: Box<dyn DiskFile>,
    size: u64,
    shown: String,
}

impl NewFile {
    /// Where it will be, for people.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// More of it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), verity_storage::Error> {
        self.file.write_at(self.size, bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// It is whole: it reaches stable storage, and gets its name.
    pub(crate) fn finish(self) -> Result<(), verity_storage::Error> {
        self.file.sync_data()?;
        self.disk.rename(&format!("{}{INCOMPLETE}", self.place), &self.place)?;
        self.disk.sync_dir(self.place.rsplit_once('/').map_or("", |(folder, _)| folder))
    }
}

#[cfg(test)]
mod tests {
    use verity_storage::MemoryDisk;

    use super::*;

    #[test]
    fn a_path_is_found_below_the_folder_or_outside() {
        let disk = || Arc::new(MemoryDisk::new()) as Arc<dyn Disk>;
        let (own, outside) = (disk(), disk());
        let mut places =
            Places { own: Arc::clone(&own), path: "/data".to_owned(), outside: Some(Arc::clone(&outside)) };
        let is = |places: &Places, path: &str, disk: &Arc<dyn Disk>, at: &str| {
            places.find(path).is_some_and(|(found, place)| Arc::ptr_eq(found, disk) && place == at)
        };
        assert!(is(&places, "a.dat", &own, "a.dat") && is(&places, "/data/b/a.dat", &own, "b/a.dat"));
        assert!(is(&places, "/database/a.dat", &outside, "database/a.dat"), "another folder whose name begins alike");
        for path in ["", "/", "../a", "/data/../a", "a//b", "/tmp/./a"] {
            assert!(places.find(path).is_none(), "{path}");
        }
        places.outside = None;
        assert!(places.find("/tmp/a").is_none(), "there is nothing else");
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole() {
        let own: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let places = Places { own: Arc::clone(&own), path: "/data".to_owned(), outside: None };
        let mut file = places.begin("a").expect("it is new");
        file.write(b"on").expect("memory does not fail");
        file.write(b"e").expect("memory does not fail");
        assert!(!own.exists("a").expect("memory does not fail"));
        file.finish().expect("memory does not fail");
        let read = own.open("a").and_then(|file| verity_storage::read_all(file.as_ref(), 10));
        assert_eq!(read.expect("it is there"), b"one");
        assert_eq!(places.begin("/data/a").map(|_| ()), Err(BeginError::Exists("/data/a".to_owned())));
        assert_eq!(places.begin("../a").map(|_| ()), Err(BeginError::Closed("/data/../a".to_owned())));
    }
}
