//! Opening at a manifest, taking a log over from a peer, and scrubbing.
//!
//! - upon opening: every segment that the manifest names must be there with at least its length. A sealed one is taken by
//!   its sidecar if that is sound and of exactly these bytes, otherwise it is scanned and gets a new one; the active one is
//!   scanned. Only when all is sound are tails beyond the manifest cut, and files that it does not name removed;
//! - upon a takeover: the files of a peer's manifest lie as `<name><suffix>` in the log's folder, or already under their
//!   names, as a replica that has most of the log need not fetch that again. That each is there is made sure of first, then
//!   every byte is checked; only then the names are given and everything is synced. A takeover that fails before has
//!   changed no byte of the log, so another may follow. What else is in the folder is out of use, and stays until
//!   [`Log::release`]. Done twice, after a crash in the middle, it ends the same;
//! - a scan checks each batch's checksum, the order of offsets, and the whole file's hash, which also covers the fields that
//!   the checksum leaves out.
//!
//! HAZARD: damage in a sealed segment whose sidecar is sound is not seen by opening. [`Slice::bytes`](super::Slice::bytes)
//! and [`Log::verify`] see it.

use std::collections::BTreeSet;
use std::sync::Arc;

use verity_storage::{Disk, DiskFile};

use super::append::Active;
use super::manifest::{Manifest, SegmentFacts};
use super::read::Cursors;
use super::segment::{Segment, Tally, join, open_file, read_sidecar, scan, write_sidecar};
use super::sync::Unsynced;
use super::{Log, LogConfig, LogError};

/// Ends the name of a file that comes from a peer.
const RECEIVED: &str = ".received";
/// Ends the name of a file that compaction is writing.
pub(super) const CLEANED: &str = ".cleaned";

/// Reads all of a segment's file in the folder `dir` and checks every byte. Needs no [`Log`], so it may run on another
/// thread over the segments of a manifest.
///
/// # Errors
/// [`LogError::Corrupt`] with the first damage; [`LogError::Storage`].
pub fn scrub(disk: &dyn Disk, dir: &str, segment: &SegmentFacts) -> Result<(), LogError> {
    if segment.length == 0 {
        return Ok(());
    }
    let path = join(dir, &segment.file_name());
    let file = open_file(disk, &path, segment)?;
    scan(&*file, &path, segment, u32::MAX).map(|_| ())
}

/// A segment that was found sound.
enum Loaded {
    Sealed(Segment),
    Active(Active),
}

impl Log {
    /// Opens the log as it was at `manifest`.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if a byte below the manifest is missing or damaged, as far as it was looked at; nothing is
    /// then cut or removed, so that the rest can be kept. [`LogError::Storage`].
    pub fn open(disk: Arc<dyn Disk>, dir: String, config: LogConfig, manifest: &Manifest) -> Result<Self, LogError> {
        disk.create_dir(&dir)?;
        let unsynced = Unsynced::default();
        let mut loaded = Vec::new();
        for (facts, active) in with_active(manifest) {
            loaded.push(load(&*disk, &dir, facts, active, config, &unsynced)?);
        }
        cut_tails(&*disk, &dir, manifest, &unsynced)?;
        // A process that died in a takeover may have given names that are not on stable storage.
        unsynced.mark_folder();
        let log = Self::assemble(disk, dir, config, manifest, loaded, unsynced);
        for name in log.strangers()? {
            log.disk.remove(&join(&log.dir, &name))?;
        }
        Ok(log)
    }

    /// Makes a peer's log, whose files were received as `<name><suffix>`, this replica's, durably. The caller has noted
    /// beforehand, on stable storage, that the log is to be taken over at `manifest`, and calls this again if it crashes
    /// before it has noted that it was.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] names a file that is missing or damaged: fetch it again. No name was given then, and no segment
    /// changed. [`LogError::Storage`].
    pub fn install(
        disk: Arc<dyn Disk>,
        dir: String,
        config: LogConfig,
        manifest: &Manifest,
        suffix: &str,
    ) -> Result<Self, LogError> {
        disk.create_dir(&dir)?;
        let filled = || manifest.segments().iter().filter(|facts| facts.length > 0);
        for facts in filled() {
            first_sound(&*disk, &join(&dir, &facts.file_name()), suffix, |path| open_file(&*disk, path, facts))?;
        }
        let mut received = Vec::new();
        for facts in filled() {
            let path = join(&dir, &facts.file_name());
            let (place, (file, tally)) = first_sound(&*disk, &path, suffix, |path| {
                let file = open_file(&*disk, path, facts)?;
                let tally = scan(&*file, path, facts, config.index_interval_bytes)?;
                Ok((file, tally))
            })?;
            received.extend((place != path).then_some((place, path)));
            file.sync_data()?;
            write_sidecar(&*disk, &dir, facts, &tally.index)?.sync_data()?;
        }
        for (incoming, path) in received {
            disk.rename(&incoming, &path)?;
        }
        let unsynced = Unsynced::default();
        cut_tails(&*disk, &dir, manifest, &unsynced)?;
        unsynced.mark_folder();
        unsynced.take(&disk, &dir).sync()?;
        let mut loaded = Vec::new();
        for (facts, active) in with_active(manifest) {
            loaded.push(load(&*disk, &dir, facts, active, config, &unsynced)?);
        }
        let mut log = Self::assemble(disk, dir, config, manifest, loaded, unsynced);
        for name in log.strangers()? {
            if name.ends_with(RECEIVED) || name.ends_with(CLEANED) {
                log.disk.remove(&join(&log.dir, &name))?;
            } else {
                log.doomed.push((name, manifest.edition));
            }
        }
        Ok(log)
    }

    /// The files of a peer's manifest that this replica does not hold already, with their lengths: those to fetch before
    /// [`Log::install`]. Goes by the sidecars, so it reads no batch.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn wanted(disk: &dyn Disk, dir: &str, manifest: &Manifest) -> Result<Vec<(String, u64)>, LogError> {
        disk.create_dir(dir)?;
        let mut wanted = Vec::new();
        for facts in manifest.segments().iter().filter(|facts| facts.length > 0) {
            let held = match open_file(disk, &join(dir, &facts.file_name()), facts) {
                Ok(_) => read_sidecar(disk, dir, facts)?.is_some(),
                Err(LogError::Corrupt { .. }) => false,
                Err(error) => return Err(error),
            };
            if !held {
                wanted.push((facts.file_name(), facts.length));
            }
        }
        Ok(wanted)
    }

    /// Reads the whole log and checks every byte.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] with the first damage; [`LogError::Storage`].
    pub fn verify(&mut self) -> Result<(), LogError> {
        let manifest = self.manifest()?;
        manifest.segments().iter().try_for_each(|facts| scrub(&*self.disk, &self.dir, facts))
    }

    /// Puts a peer's copy of a sealed segment's file, received as `<name>.received`, in the place of a damaged one. Files
    /// of one name are the same on every replica.
    ///
    /// # Errors
    /// [`LogError::ApiMisuse`] if `name` is no sealed segment's; [`LogError::Corrupt`] if the copy is not what was appended;
    /// [`LogError::Storage`].
    pub fn repair(&mut self, name: &str) -> Result<(), LogError> {
        let Some(at) = self.sealed.iter().position(|segment| segment.facts.file_name() == name) else {
            return Err(LogError::ApiMisuse(format!("{name} is no sealed segment of this log")));
        };
        let facts = self.sealed[at].facts;
        let path = self.path(&facts);
        let incoming = format!("{path}{RECEIVED}");
        let file = open_file(&*self.disk, &incoming, &facts)?;
        self.sealed[at].index = scan(&*file, &incoming, &facts, self.config.index_interval_bytes)?.index;
        file.set_size(facts.length)?;
        file.sync_data()?;
        self.disk.rename(&incoming, &path)?;
        self.disk.sync_dir(&self.dir)?;
        self.unsynced.forget(&path);
        self.sealed[at].file = None;
        self.handles.retain(|open| *open != facts.base_offset);
        Ok(())
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        dir: String,
        config: LogConfig,
        manifest: &Manifest,
        loaded: Vec<Loaded>,
        unsynced: Unsynced,
    ) -> Self {
        let mut sealed = Vec::new();
        let mut active = None;
        for segment in loaded {
            match segment {
                Loaded::Sealed(segment) => sealed.push(segment),
                Loaded::Active(last) => active = Some(last),
            }
        }
        let log = Self {
            disk,
            dir,
            config,
            sealed,
            active: active.expect("a manifest has an active segment"),
            log_start: manifest.log_start,
            next_offset: manifest.next_offset,
            epochs: manifest.epochs.clone(),
            cleaned: manifest.cleaned.clone(),
            generation_next: manifest.generation_next,
            edition: manifest.edition,
            doomed: Vec::new(),
            unsynced,
            cursors: Cursors::default(),
            handles: std::collections::VecDeque::new(),
        };
        log.invariants();
        log
    }

    /// Files of logs in the folder that belong to no segment of this one.
    fn strangers(&self) -> Result<Vec<String>, LogError> {
        let filled = self.each().filter(|facts| facts.length > 0);
        let own: BTreeSet<String> = filled.flat_map(|facts| [facts.file_name(), facts.index_name()]).collect();
        let mut names = self.disk.list(&self.dir)?;
        let endings = [".log", ".index", RECEIVED, CLEANED];
        names.retain(|name| !own.contains(name) && endings.iter().any(|ending| name.ends_with(ending)));
        Ok(names)
    }
}

/// The file that passes a check, of the one that came and the one in place. What came once more, and not to its end, must
/// not take the place of what is there.
fn first_sound<T>(
    disk: &dyn Disk,
    path: &str,
    suffix: &str,
    check: impl Fn(&str) -> Result<T, LogError>,
) -> Result<(String, T), LogError> {
    let incoming = format!("{path}{suffix}");
    let in_place = || check(path).map(|found| (path.to_owned(), found));
    if !disk.exists(&incoming)? {
        return in_place();
    }
    match check(&incoming) {
        Ok(found) => Ok((incoming, found)),
        Err(damage @ LogError::Corrupt { .. }) => in_place().map_err(|error| match error {
            LogError::Corrupt { .. } => damage,
            error => error,
        }),
        Err(error) => Err(error),
    }
}

/// The manifest's segments; true for the active one.
fn with_active(manifest: &Manifest) -> impl Iterator<Item = (&SegmentFacts, bool)> {
    let last = manifest.segments().len() - 1;
    manifest.segments().iter().enumerate().map(move |(at, facts)| (facts, at == last))
}

fn load(
    disk: &dyn Disk,
    dir: &str,
    facts: &SegmentFacts,
    active: bool,
    config: LogConfig,
    unsynced: &Unsynced,
) -> Result<Loaded, LogError> {
    if active && facts.length == 0 {
        let tally = Tally::new(facts.base_offset, facts.generation, facts.created_ms);
        return Ok(Loaded::Active(Active { tally, file: None, pending: Vec::new() }));
    }
    let path = join(dir, &facts.file_name());
    let file = open_file(disk, &path, facts)?;
    if active {
        let tally = scan(&*file, &path, facts, config.index_interval_bytes)?;
        return Ok(Loaded::Active(Active { tally, file: Some(file), pending: Vec::new() }));
    }
    let index = match read_sidecar(disk, dir, facts)? {
        Some(index) => index,
        None => {
            let index = scan(&*file, &path, facts, config.index_interval_bytes)?.index;
            let sidecar: Arc<dyn DiskFile> = write_sidecar(disk, dir, facts, &index)?;
            unsynced.mark_new(&join(dir, &facts.index_name()), &sidecar);
            index
        }
    };
    Ok(Loaded::Sealed(Segment { facts: *facts, index, file: None }))
}

/// Cuts off what lies in the files beyond the manifest.
fn cut_tails(disk: &dyn Disk, dir: &str, manifest: &Manifest, unsynced: &Unsynced) -> Result<(), LogError> {
    for facts in manifest.segments().iter().filter(|facts| facts.length > 0) {
        let path = join(dir, &facts.file_name());
        let file: Arc<dyn DiskFile> = disk.open(&path)?.into();
        if file.size()? > facts.length {
            file.set_size(facts.length)?;
            unsynced.mark(&path, &file);
        }
    }
    Ok(())
}
