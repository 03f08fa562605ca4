//! Steps that tests take on two disks at once.

use proptest::prelude::*;

use crate::disk::{Disk, DiskFile, read_all};

/// No file of these is longer.
const SIZE_MAX: u64 = 1 << 20;

/// A step on one of a few files of the folder `d`.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create(usize),
    Write(usize, u8, u8),
    Resize(usize, u8),
    Sync(usize),
    Rename(usize, usize),
    Remove(usize),
    SyncDir,
}

const NAMES: [&str; 3] = ["d/a", "d/b", "d/c"];

pub(super) fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        3 => name().prop_map(Step::Create),
        6 => (name(), any::<u8>(), any::<u8>()).prop_map(|(name, at, byte)| Step::Write(name, at, byte)),
        1 => (name(), any::<u8>()).prop_map(|(name, size)| Step::Resize(name, size)),
        4 => name().prop_map(Step::Sync),
        2 => (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => name().prop_map(Step::Remove),
        3 => Just(Step::SyncDir),
    ]
}

/// Takes a step; true if the disk went along.
pub(super) fn take(disk: &dyn Disk, step: &Step) -> bool {
    let on = |name: &usize, then: &dyn Fn(&dyn DiskFile)| disk.open(NAMES[*name]).map(|file| then(&*file)).is_ok();
    match step {
        Step::Create(name) => disk.create(NAMES[*name]).is_ok(),
        Step::Write(name, at, byte) => on(name, &|file| file.write_at(u64::from(*at), &[*byte]).unwrap()),
        Step::Resize(name, size) => on(name, &|file| file.set_size(u64::from(*size)).unwrap()),
        Step::Sync(name) => on(name, &|file| file.sync_data().unwrap()),
        Step::Rename(from, to) if from == to => true,
        Step::Rename(from, to) => disk.rename(NAMES[*from], NAMES[*to]).is_ok(),
        Step::Remove(name) => disk.remove(NAMES[*name]).is_ok(),
        Step::SyncDir => disk.sync_dir("d").is_ok(),
    }
}

/// The bytes of a file, if it is there.
pub(super) fn bytes(disk: &dyn Disk, path: &str) -> Option<Vec<u8>> {
    disk.open(path).ok().map(|file| read_all(&*file, SIZE_MAX).unwrap())
}

/// All files of the folder.
pub(super) fn contents(disk: &dyn Disk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list("d").unwrap();
    names.into_iter().map(|name| (name.clone(), bytes(disk, &format!("d/{name}")).unwrap())).collect()
}
