//! Access lists: their table, their validity, their answer.
//!
//! Lists are interned: a node holds a number. Number 0 is "everybody everything" and is always there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use sha1::{Digest as _, Sha1};
use xxhash_rust::xxh3::xxh3_128;

use super::command::Ids;
use super::config::TreeConfig;
use crate::wire::{Acl, Decode as _, Encode, ErrorCode, Id, perms};

/// The list with which everybody may do everything.
pub(super) const OPEN: u32 = 0;

/// How many numbers may be free side by side in a snapshot.
const GAP_MAX: usize = 1 << 20;

/// One entry of a list, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) perms: i32,
    pub(super) scheme: Box<str>,
    pub(super) id: Box<str>,
}

impl Entry {
    fn is_for_all(&self, perm: i32) -> bool {
        self.perms & perm != 0 && &*self.scheme == "world" && &*self.id == "anyone"
    }

    pub(super) fn of(acl: &Acl<'_>) -> Self {
        Self { perms: acl.perms, scheme: acl.id.scheme.into(), id: acl.id.id.into() }
    }

    pub(super) fn view(&self) -> Acl<'_> {
        Acl { perms: self.perms, id: Id { scheme: &self.scheme, id: &self.id } }
    }
}

#[derive(Clone, Debug)]
struct Slot {
    list: Arc<[Entry]>,
    hash: u128,
    users: u64,
}

/// All lists in use.
#[derive(Debug)]
pub(super) struct Acls {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_hash: BTreeMap<u128, u32>,
}

impl Acls {
    pub(super) fn new() -> Self {
        let mut acls = Self { slots: Vec::new(), free: Vec::new(), by_hash: BTreeMap::new() };
        let open = acls.acquire(&[Acl::OPEN]);
        assert_eq!(open, OPEN);
        acls
    }

    /// The number of this list, used once more from now on.
    pub(super) fn acquire(&mut self, list: &[Acl<'_>]) -> u32 {
        if list == [Acl::OPEN]
            && let Some(Some(open)) = self.slots.first_mut()
        {
            open.users += 1;
            return OPEN;
        }
        let hash = hash_of(list);
        if let Some(number) = self.by_hash.get(&hash) {
            let slot = self.slots[*number as usize].as_mut().expect("hashes lead to lists in use");
            assert!(slot.list.iter().map(Entry::view).eq(list.iter().cloned()), "128 bits tell lists apart");
            slot.users += 1;
            return *number;
        }
        let slot = Slot { list: list.iter().map(Entry::of).collect(), hash, users: 1 };
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = Some(slot);
                number
            }
            None => {
                self.slots.push(Some(slot));
                u32::try_from(self.slots.len() - 1).expect("fewer lists than nodes")
            }
        };
        self.by_hash.insert(hash, number);
        number
    }

    /// Uses a list that is in use once more.
    pub(super) fn retain(&mut self, number: u32) {
        self.slots[number as usize].as_mut().expect("in use").users += 1;
    }

    /// Uses a list once less.
    pub(super) fn release(&mut self, number: u32) {
        let slot = self.slots[number as usize].as_mut().expect("what is released is in use");
        slot.users = slot.users.checked_sub(1).expect("no list is released more often than used");
        if slot.users == 0 {
            assert_ne!(number, OPEN, "the tree itself uses the open list");
            self.by_hash.remove(&slot.hash);
            self.slots[number as usize] = None;
            self.free.push(number);
        }
    }

    pub(super) fn list(&self, number: u32) -> &Arc<[Entry]> {
        &self.slots[number as usize].as_ref().expect("nodes name lists in use").list
    }

    pub(super) fn hash(&self, number: u32) -> u128 {
        self.slots[number as usize].as_ref().expect("nodes name lists in use").hash
    }

    /// Puts a list of a snapshot at its number, held once until [`Acls::forget_placed`]. Numbers come in rising order;
    /// false if not, or if the list has a number already.
    pub(super) fn place(&mut self, number: u32, list: &[Acl<'_>]) -> bool {
        if number == OPEN {
            return list == [Acl::OPEN];
        }
        let hash = hash_of(list);
        let next = self.slots.len();
        let gap = (number as usize).checked_sub(next);
        if gap.is_none_or(|gap| gap > GAP_MAX) || self.by_hash.insert(hash, number).is_some() {
            return false;
        }
        self.slots.resize(number as usize, None);
        self.slots.push(Some(Slot { list: list.iter().map(Entry::of).collect(), hash, users: 1 }));
        true
    }

    /// Lets go of what [`Acls::place`] held, once all nodes are there.
    pub(super) fn forget_placed(&mut self) {
        self.free = (0u32..).zip(&self.slots).filter(|(_, slot)| slot.is_none()).map(|(number, _)| number).collect();
        for number in 1..u32::try_from(self.slots.len()).expect("fewer lists than nodes") {
            if self.users(number) > 0 {
                self.release(number);
            }
        }
    }

    pub(super) fn users(&self, number: u32) -> u64 {
        self.slots.get(number as usize).and_then(Option::as_ref).map_or(0, |slot| slot.users)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Arc<[Entry]>)> {
        (0u32..).zip(&self.slots).filter_map(|(number, slot)| slot.as_ref().map(|slot| (number, &slot.list)))
    }

    /// Who may read, for [`may_read`]: nothing if everybody may.
    pub(super) fn lock(&self, number: u32, config: &TreeConfig) -> Vec<u8> {
        let list = self.list(number);
        if number == OPEN || config.skip_acl || list.is_empty() || list.iter().any(|e| e.is_for_all(perms::READ)) {
            return Vec::new();
        }
        list.iter().map(Entry::view).collect::<Vec<Acl<'_>>>().to_bytes()
    }

    /// May someone with these ids do what `perm` says?
    pub(super) fn check(&self, number: u32, perm: i32, ids: Ids<'_>, config: &TreeConfig) -> Result<(), ErrorCode> {
        if number == OPEN || config.skip_acl {
            return Ok(());
        }
        let list = self.list(number);
        if list.iter().any(|e| e.is_for_all(perm)) || list.is_empty() || ids.iter().any(|id| id.scheme == "super") {
            return Ok(());
        }
        let matching = |entry: &Entry| {
            entry.perms & perm != 0 && ids.iter().any(|id| id.scheme == &*entry.scheme && matches(&id, &entry.id))
        };
        if list.iter().any(matching) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }
}

/// May someone with these ids read what has this lock? See [`super::TreeEvent::Node`].
#[must_use]
pub fn may_read<'a>(lock: &[u8], ids: impl Iterator<Item = Id<'a>> + Clone) -> bool {
    if lock.is_empty() {
        return true;
    }
    let list = Vec::<Acl<'_>>::from_bytes(lock).expect("the tree wrote it");
    let fits = |acl: &Acl<'_>, id: &Id<'_>| id.scheme == acl.id.scheme && matches(id, acl.id.id);
    let mut reads = list.iter().filter(|acl| acl.perms & perms::READ != 0);
    ids.clone().any(|id| id.scheme == "super") || reads.any(|acl| ids.clone().any(|id| fits(acl, &id)))
}

fn hash_of(list: &[Acl<'_>]) -> u128 {
    let mut bytes = Vec::new();
    for acl in list {
        acl.encode(&mut bytes);
    }
    xxh3_128(&bytes)
}

/// Does the caller's id satisfy the list's, both of one scheme?
fn matches(caller: &Id<'_>, wanted: &str) -> bool {
    match caller.scheme {
        "ip" => in_network(caller.id, wanted),
        _ => caller.id == wanted,
    }
}

fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (addr, bits) = match text.split_once('/') {
        Some((addr, bits)) => (addr.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(width, u32::from);
    (bits <= width).then_some((addr, bits))
}

fn in_network(addr: &str, wanted: &str) -> bool {
    let (Ok(addr), Some((net, bits))) = (addr.parse::<IpAddr>(), network(wanted)) else { return false };
    match (addr, net) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        _ => false,
    }
}

fn is_valid(id: &Id<'_>, config: &TreeConfig) -> bool {
    match id.scheme {
        "world" => id.id == "anyone",
        "digest" => matches!(id.id.split_once(':'), Some((_, hash)) if !hash.is_empty() && !hash.contains(':')),
        "ip" => network(id.id).is_some(),
        "x509" => config.x509 && id.id.contains('='),
        "sasl" => config.sasl && !id.id.is_empty(),
        _ => false,
    }
}

/// Makes what a client wrote into what is stored: no duplicates, `auth` replaced by the caller's authenticated ids.
///
/// # Errors
/// [`ErrorCode::InvalidAcl`].
pub(super) fn fixup<'a>(list: &[Acl<'a>], ids: Ids<'a>, config: &TreeConfig) -> Result<Vec<Acl<'a>>, ErrorCode> {
    let mut fixed: Vec<Acl<'a>> = Vec::with_capacity(list.len());
    for (at, acl) in list.iter().enumerate() {
        if list[..at].contains(acl) {
            continue;
        }
        if acl.id.scheme == "auth" {
            let before = fixed.len();
            let authenticated = ids.iter().filter(|id| matches!(id.scheme, "digest" | "x509" | "sasl"));
            fixed.extend(authenticated.map(|id| Acl { perms: acl.perms, id }));
            if fixed.len() == before {
                return Err(ErrorCode::InvalidAcl);
            }
        } else if is_valid(&acl.id, config) {
            fixed.push(acl.clone());
        } else {
            return Err(ErrorCode::InvalidAcl);
        }
    }
    if fixed.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(fixed) }
}

/// The id of scheme `digest` for `user:password`: the user, a colon, the SHA-1 of the whole in base64. `None` without a
/// colon.
#[must_use]
pub fn digest_id(user_password: &[u8]) -> Option<String> {
    let colon = user_password.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(&user_password[..colon]).ok()?;
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha1::digest(user_password));
    Some(format!("{user}:{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(scheme: &'static str, id: &'static str) -> Acl<'static> {
        Acl { perms: 31, id: Id { scheme, id } }
    }

    /// Each verdict on IPv4 and digest is that of ZooKeeper 3.8.0; IPv6 is ours.
    #[test]
    fn validity() {
        let config = TreeConfig { x509: false, sasl: false, ..TreeConfig::default() };
        let ok = |scheme, id| fixup(&[acl(scheme, id)], Ids::default(), &config).is_ok();
        assert!(ok("world", "anyone") && !ok("world", "foo") && !ok("foo", "x") && !ok("super", ""));
        for id in ["u:p", ":p"] {
            assert!(ok("digest", id), "{id}");
        }
        for id in ["u", "u:p:q", ":", "", "u:"] {
            assert!(!ok("digest", id), "{id}");
        }
        for id in ["127.0.0.1", "127.0.0.1/8", "1.2.3.4/0", "::1", "fe80::/10", "2001:db8::1/128"] {
            assert!(ok("ip", id), "{id}");
        }
        for id in ["127.0.0.1/33", "1.2.3", "300.1.1.1", "1.2.3.4/-1", "1.2.3.4/a", "1.2.3.4/8/9", "", "::1/129"] {
            assert!(!ok("ip", id), "{id}");
        }
        assert!(!ok("x509", "CN=a") && !ok("sasl", "bob") && !ok("auth", ""));
        let all = TreeConfig::default();
        assert!(fixup(&[acl("x509", "CN=a"), acl("sasl", "bob")], Ids::default(), &all).is_ok());
        assert_eq!(fixup(&[], Ids::default(), &all), Err(ErrorCode::InvalidAcl));
        assert_eq!(fixup(&[Acl::OPEN, Acl::OPEN], Ids::default(), &all).map(|list| list.len()), Ok(1));
    }

    #[test]
    fn networks() {
        assert!(in_network("10.1.2.3", "10.0.0.0/8") && !in_network("11.1.2.3", "10.0.0.0/8"));
        assert!(in_network("10.1.2.3", "0.0.0.0/0") && in_network("10.1.2.3", "10.1.2.3"));
        assert!(in_network("fe80::9", "fe80::/10") && !in_network("::1", "fe80::/10") && in_network("::1", "::/0"));
        assert!(!in_network("::1", "0.0.0.0/0") && !in_network("x", "0.0.0.0/0"));
    }

    /// As `whoAmI` and `getACL` of ZooKeeper 3.8.0 show it.
    #[test]
    fn digests() {
        assert_eq!(digest_id(b"u:p").as_deref(), Some("u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="));
        assert_eq!(digest_id(b"up"), None);
    }

    #[test]
    fn lists_are_counted() {
        let mut acls = Acls::new();
        let a = acls.acquire(&[acl("ip", "1.2.3.4")]);
        assert_eq!(acls.acquire(&[acl("ip", "1.2.3.4")]), a);
        acls.release(a);
        assert_eq!(acls.users(a), 1);
        acls.release(a);
        assert_eq!(acls.users(a), 0);
        assert_eq!(acls.acquire(&[acl("ip", "4.3.2.1")]), a, "the number is free again");
        assert_eq!(acls.acquire(&[Acl::OPEN]), OPEN);
    }
}
