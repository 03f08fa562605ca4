//! Where a call reads and writes by a path that its client gives: below the node's folder, or anywhere by an absolute path, as far
//! as the node was given the rest of the machine.

use std::sync::Arc;

use verity_storage::Disk;

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
}
