//! The nodes' memory: fixed slots in blocks, names and data in one allocation each.
//!
//! A node costs its 112-byte slot, one allocation for name and data, and about nine bytes in the index. Blocks never
//! move, so growth copies nothing. Children hang in a list in the order of their creation: `prev` of the first child is
//! the last child, `next` of the last child is [`NIL`].
//!
//! HAZARD: slot numbers differ between replicas once one of them restored a snapshot. Nothing that a client, a reply or
//! the digest can see may depend on them.

use crate::wire::Stat;

/// No slot.
pub(super) const NIL: u32 = u32::MAX;
/// The slot of `/`.
pub(super) const ROOT: u32 = 0;
/// The most nodes that a tree may hold.
pub(super) const NODE_COUNT_MAX: u32 = 1 << 31;
/// The longest name; the bits above it in a node's word hold its kind.
const NAME_SIZE_MAX: usize = (1 << 28) - 1;

const BLOCK_BITS: u32 = 12;
const BLOCK: usize = 1 << BLOCK_BITS;

/// How long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Until deleted.
    Persistent,
    /// As long as its session, whose id is the node's `owner`.
    Ephemeral,
    /// Until its last child is gone.
    Container,
    /// Until it has no children and was not changed for `owner` milliseconds.
    Ttl,
}

impl Kind {
    pub(super) const fn number(self) -> u8 {
        self as u8
    }

    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Persistent),
            1 => Some(Self::Ephemeral),
            2 => Some(Self::Container),
            3 => Some(Self::Ttl),
            _ => None,
        }
    }
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The name, then the data.
    body: Box<[u8]>,
    /// The hash of the whole path.
    pub(super) path_hash: u64,
    pub(super) czxid: i64,
    pub(super) mzxid: i64,
    pub(super) pzxid: i64,
    pub(super) ctime: i64,
    pub(super) mtime: i64,
    /// A session's id, a time to live, or 0, by kind.
    pub(super) owner: i64,
    pub(super) version: i32,
    /// How many children were ever created: what the sequence counts. Clients see twice this minus the children.
    pub(super) cversion: i32,
    pub(super) aversion: i32,
    pub(super) acl: u32,
    pub(super) parent: u32,
    pub(super) first_child: u32,
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) child_count: u32,
    /// The name's size in the low 28 bits, two bits of kind, one bit "data is null", one bit "free".
    word: u32,
}

const KIND_SHIFT: u32 = 28;
const NULL_BIT: u32 = 1 << 30;
const FREE_BIT: u32 = 1 << 31;

impl Node {
    pub(super) fn new(name: &[u8], data: Option<&[u8]>, kind: Kind) -> Self {
        assert!(name.len() <= NAME_SIZE_MAX, "requests are bounded far below this");
        let size = u32::try_from(name.len()).expect("bounded above");
        let null = if data.is_none() { NULL_BIT } else { 0 };
        Self {
            body: join(name, data),
            path_hash: 0,
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            owner: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            acl: 0,
            parent: NIL,
            first_child: NIL,
            prev: NIL,
            next: NIL,
            child_count: 0,
            word: size | (u32::from(kind.number()) << KIND_SHIFT) | null,
        }
    }

    fn free() -> Self {
        let mut node = Self::new(&[], None, Kind::Persistent);
        node.word |= FREE_BIT;
        node
    }

    pub(super) fn is_free(&self) -> bool {
        self.word & FREE_BIT != 0
    }

    fn name_size(&self) -> usize {
        (self.word as usize) & NAME_SIZE_MAX
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.body[..self.name_size()]
    }

    pub(super) fn name_str(&self) -> &str {
        std::str::from_utf8(self.name()).expect("names come from checked paths")
    }

    pub(super) fn data(&self) -> Option<&[u8]> {
        if self.word & NULL_BIT != 0 { None } else { Some(&self.body[self.name_size()..]) }
    }

    pub(super) fn data_size(&self) -> usize {
        self.body.len() - self.name_size()
    }

    pub(super) fn body_size(&self) -> usize {
        self.body.len()
    }

    pub(super) fn set_data(&mut self, data: Option<&[u8]>) {
        let size = self.name_size();
        match data {
            // The same size needs no new allocation.
            Some(data) if data.len() == self.data_size() => self.body[size..].copy_from_slice(data),
            _ => self.body = join(&self.body[..size], data),
        }
        self.word = if data.is_none() { self.word | NULL_BIT } else { self.word & !NULL_BIT };
    }

    pub(super) fn kind(&self) -> Kind {
        let number = u8::try_from((self.word >> KIND_SHIFT) & 3).expect("two bits");
        Kind::from_number(number).expect("two bits name four kinds")
    }

    /// What clients see of it.
    pub(super) fn stat(&self) -> Stat {
        let children = i32::try_from(self.child_count).expect("fewer than NODE_COUNT_MAX");
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.cversion.wrapping_mul(2).wrapping_sub(children),
            aversion: self.aversion,
            ephemeral_owner: if self.kind() == Kind::Ephemeral { self.owner } else { 0 },
            data_length: i32::try_from(self.data_size()).expect("requests are bounded below 2 GiB"),
            num_children: children,
            pzxid: self.pzxid,
        }
    }
}

fn join(name: &[u8], data: Option<&[u8]>) -> Box<[u8]> {
    let data = data.unwrap_or_default();
    let mut body = Vec::with_capacity(name.len() + data.len());
    body.extend_from_slice(name);
    body.extend_from_slice(data);
    body.into_boxed_slice()
}

/// All slots.
#[derive(Debug, Default)]
pub(super) struct Slab {
    blocks: Vec<Vec<Node>>,
    /// How many slots exist, free ones included.
    slots: u32,
    /// Free slots; the last one is used first.
    free: Vec<u32>,
}

impl Slab {
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// How many nodes there are.
    pub(super) fn live(&self) -> u32 {
        self.slots - u32::try_from(self.free.len()).expect("no more free slots than slots")
    }

    pub(super) fn get(&self, id: u32) -> &Node {
        &self.blocks[(id >> BLOCK_BITS) as usize][id as usize & (BLOCK - 1)]
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut Node {
        &mut self.blocks[(id >> BLOCK_BITS) as usize][id as usize & (BLOCK - 1)]
    }

    /// The slot that [`Slab::insert`] will use.
    pub(super) fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots)
    }

    pub(super) fn insert(&mut self, node: Node) -> u32 {
        assert!(!node.is_free());
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = node;
            return id;
        }
        self.push(node)
    }

    fn push(&mut self, node: Node) -> u32 {
        let id = self.slots;
        assert!(id < NODE_COUNT_MAX, "creates are refused before the slots run out");
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks.last_mut().expect("pushed above").push(node);
        self.slots += 1;
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> Node {
        let node = std::mem::replace(self.get_mut(id), Node::free());
        assert!(!node.is_free(), "a slot is freed once");
        self.free.push(id);
        node
    }

    /// Undoes the last `remove` of this slot.
    pub(super) fn restore(&mut self, id: u32, node: Node) {
        assert_eq!(self.free.pop(), Some(id), "removals are undone last first");
        *self.get_mut(id) = node;
    }
}
