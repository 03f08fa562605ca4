//! Which faults a run may see, and when they come.
//!
//! Swarm testing: each run switches a random subset of the kinds off, so that rare combinations meet.

use fastrand::Rng;

/// The kinds of faults that a run may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swarm {
    /// Nodes crash and start again, losing what was not synced.
    pub crash: bool,
    /// All nodes crash at once.
    pub blackout: bool,
    /// Nodes stop for a while and go on.
    pub pause: bool,
    /// Links are cut, in one or both directions.
    pub partition: bool,
    /// Messages are lost.
    pub loss: bool,
    /// Messages are doubled.
    pub double: bool,
    /// Messages overtake each other.
    pub reorder: bool,
    /// Some messages take ten times as long.
    pub straggle: bool,
    /// Clocks drift and jump.
    pub clock: bool,
    /// Syncs are slow.
    pub slow_disk: bool,
    /// A sync fails, and the node with it.
    pub failed_sync: bool,
    /// A write fails half way.
    pub failed_write: bool,
    /// A read fails, of a snapshot or while the node starts.
    pub failed_read: bool,
    /// The disk is full.
    pub full_disk: bool,
    /// The power fails at a step of the disk: inside of a write, before a rename, behind a sync.
    pub disk_step: bool,
    /// A leader is stopped and cut off from a peer, and comes back while those who voted for another start again.
    pub depose: bool,
    /// Snapshots are taken all the time.
    pub snapshots: bool,
    /// Leadership is handed around.
    pub transfer: bool,
    /// Members join, leave, and change between voting and learning; there is one node more than at first.
    pub members: bool,
    /// A bit of one node's disk flips. Not beside `members`: the node may refuse to start again, and must not be the last
    /// that votes.
    pub flip: bool,
}

impl Swarm {
    /// Every kind that goes with all others.
    #[must_use]
    pub fn all() -> Self {
        Self {
            crash: true,
            blackout: true,
            pause: true,
            partition: true,
            loss: true,
            double: true,
            reorder: true,
            straggle: true,
            clock: true,
            slow_disk: true,
            failed_sync: true,
            failed_write: true,
            failed_read: true,
            full_disk: true,
            disk_step: true,
            depose: true,
            snapshots: true,
            transfer: true,
            members: true,
            flip: false,
        }
    }

    /// A random subset; each kind is on in two runs of three.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut on = || rng.u32(0..3) != 0;
        let mut swarm = Self {
            crash: on(),
            blackout: on(),
            pause: on(),
            partition: on(),
            loss: on(),
            double: on(),
            reorder: on(),
            straggle: on(),
            clock: on(),
            slow_disk: on(),
            failed_sync: on(),
            failed_write: on(),
            failed_read: on(),
            full_disk: on(),
            disk_step: on(),
            depose: on(),
            snapshots: on(),
            transfer: on(),
            members: on(),
            flip: on(),
        };
        swarm.flip &= !swarm.members;
        swarm
    }

    /// Every kind, by its name.
    fn kinds(&mut self) -> [(&'static str, &mut bool); 20] {
        [
            ("crash", &mut self.crash),
            ("blackout", &mut self.blackout),
            ("pause", &mut self.pause),
            ("partition", &mut self.partition),
            ("loss", &mut self.loss),
            ("double", &mut self.double),
            ("reorder", &mut self.reorder),
            ("straggle", &mut self.straggle),
            ("clock", &mut self.clock),
            ("slow-disk", &mut self.slow_disk),
            ("failed-sync", &mut self.failed_sync),
            ("failed-write", &mut self.failed_write),
            ("failed-read", &mut self.failed_read),
            ("full-disk", &mut self.full_disk),
            ("disk-step", &mut self.disk_step),
            ("depose", &mut self.depose),
            ("snapshots", &mut self.snapshots),
            ("transfer", &mut self.transfer),
            ("members", &mut self.members),
            ("flip", &mut self.flip),
        ]
    }

    /// These kinds, by their names.
    ///
    /// # Errors
    /// The first name that is none, and which there are.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut swarm = Self::default();
        for name in names {
            let mut kinds = swarm.kinds();
            let Some((_, kind)) = kinds.iter_mut().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = kinds.iter().map(|(known, _)| *known).collect();
                return Err(format!("there is no fault {name:?}; known are {}", known.join(", ")));
            };
            **kind = true;
        }
        Ok(swarm)
    }

    /// The same without one of the kinds that are on, by its name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        if let Some((_, kind)) = self.kinds().into_iter().find(|(known, _)| *known == name) {
            *kind = false;
        }
        self
    }

    /// The kinds that are on, by name.
    #[must_use]
    pub fn names(mut self) -> Vec<&'static str> {
        self.kinds().into_iter().filter_map(|(name, on)| on.then_some(name)).collect()
    }
}

/// What goes wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskFault {
    Sync,
    Write,
    Read,
    Full,
    Step,
}

/// What comes at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Crash,
    Blackout,
    Pause,
    Isolate,
    OneWay,
    Split,
    HealNetwork,
    Clock,
    Disk(DiskFault),
    Depose,
    Transfer,
    Members,
    Flip,
}

impl Fault {
    /// Draws one of the kinds that are on.
    pub(crate) fn draw(swarm: Swarm, rng: &mut Rng) -> Option<Self> {
        let mut kinds = Vec::new();
        let mut add = |on: bool, fault: Fault, weight: usize| {
            kinds.extend(std::iter::repeat_n(fault, if on { weight } else { 0 }))
        };
        add(swarm.crash, Fault::Crash, 4);
        add(swarm.blackout, Fault::Blackout, 1);
        add(swarm.pause, Fault::Pause, 2);
        add(swarm.partition, Fault::Isolate, 2);
        add(swarm.partition, Fault::OneWay, 2);
        add(swarm.partition, Fault::Split, 2);
        add(swarm.partition, Fault::HealNetwork, 3);
        add(swarm.clock, Fault::Clock, 1);
        add(swarm.failed_sync, Fault::Disk(DiskFault::Sync), 1);
        add(swarm.failed_write, Fault::Disk(DiskFault::Write), 1);
        add(swarm.failed_read, Fault::Disk(DiskFault::Read), 1);
        add(swarm.full_disk, Fault::Disk(DiskFault::Full), 1);
        add(swarm.disk_step, Fault::Disk(DiskFault::Step), 1);
        add(swarm.depose, Fault::Depose, 3);
        add(swarm.transfer, Fault::Transfer, 1);
        add(swarm.members, Fault::Members, 2);
        add(swarm.flip, Fault::Flip, 1);
        rng.choice(kinds)
    }
}

/// How many faults took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Crashes.
    pub crashes: u64,
    /// Pauses.
    pub pauses: u64,
    /// Cuts of the network.
    pub partitions: u64,
    /// Messages lost.
    pub lost: u64,
    /// Messages doubled.
    pub doubled: u64,
    /// Messages that took ten times as long.
    pub straggled: u64,
    /// Syncs that were slow.
    pub slow_syncs: u64,
    /// Clock jumps.
    pub clocks: u64,
    /// Disks that failed: at a sync, a write, a read, for want of room, or with the power.
    pub failed_disks: u64,
    /// Leaders that were stopped for others to take over.
    pub deposed: u64,
    /// Snapshots saved.
    pub snapshots: u64,
    /// Leadership transfers asked for.
    pub transfers: u64,
    /// Changes of members that came into force.
    pub members: u64,
    /// Bits flipped.
    pub flips: u64,
}

impl FaultCounts {
    /// All together; snapshots are not faults.
    #[must_use]
    pub fn total(self) -> u64 {
        self.crashes
            + self.pauses
            + self.partitions
            + self.lost
            + self.doubled
            + self.straggled
            + self.slow_syncs
            + self.clocks
            + self.failed_disks
            + self.deposed
            + self.transfers
            + self.members
            + self.flips
    }
}
