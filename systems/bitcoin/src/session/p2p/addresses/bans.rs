//! Who is not let in.
//!
//! - a ban is an operator's: a subnet, until a moment; it is kept in `banlist.json`, as Core keeps it;
//! - discouragement is the node's own, of single addresses that broke rules: it is forgotten with the process, and costs
//!   a peer its place only when places are short.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde_json::{Value, json};

use super::super::control::Banned;
use super::super::recent::Recent;

/// Addresses that are remembered.
const DISCOURAGED: usize = 50_000;

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    first: IpAddr,
    bits: u8,
}

impl Subnet {
    /// One address alone.
    #[must_use]
    pub fn single(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { first: ip, bits: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// True if it has this address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        masked(ip.to_canonical(), self.bits).is_some_and(|ip| ip == self.first)
    }
}

fn masked(ip: IpAddr, bits: u8) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Some(IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask)))
        }
        IpAddr::V6(ip) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Some(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask)))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// How many ones a mask begins with, if it has no others.
fn mask_bits(mask: IpAddr) -> Option<u8> {
    let (bits, ones, width) = match mask {
        IpAddr::V4(mask) => (u128::from(mask.to_bits()) << 96, mask.to_bits().count_ones(), 32),
        IpAddr::V6(mask) => (mask.to_bits(), mask.to_bits().count_ones(), 128),
    };
    (bits.leading_ones() == ones && ones <= width).then_some(ones as u8)
}

impl FromStr for Subnet {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ip, mask) = match text.split_once('/') {
            Some((ip, mask)) => (ip, Some(mask)),
            None => (text, None),
        };
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        let ip: IpAddr = ip.parse().map_err(|_| ())?;
        let ip = ip.to_canonical();
        let Some(mask) = mask else { return Ok(Self::single(ip)) };
        let bits = match mask.parse::<IpAddr>() {
            Ok(mask) if mask.is_ipv4() == ip.is_ipv4() => mask_bits(mask).ok_or(())?,
            Ok(_) => return Err(()),
            Err(_) if mask.bytes().all(|byte| byte.is_ascii_digit()) => mask.parse().map_err(|_| ())?,
            Err(_) => return Err(()),
        };
        Ok(Self { first: masked(ip, bits).ok_or(())?, bits })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ban {
    created: u64,
    until: u64,
}

/// Both lists.
#[derive(Clone, Debug)]
pub(in super::super) struct Bans {
    bans: BTreeMap<Subnet, Ban>,
    discouraged: Recent,
    /// The list is not on the disk as it is here.
    pub(in super::super) changed: bool,
}

impl Bans {
    pub(in super::super) fn new(keys: (u64, u64)) -> Self {
        Self { bans: BTreeMap::new(), discouraged: Recent::new(DISCOURAGED, keys), changed: false }
    }

    /// Takes off what is over.
    fn sweep(&mut self, now: u64) {
        let before = self.bans.len();
        self.bans.retain(|_, ban| now <= ban.until);
        self.changed |= before != self.bans.len();
    }

    /// False if it is banned for as long already.
    pub(in super::super) fn ban(&mut self, subnet: Subnet, until: u64, now: u64) -> bool {
        self.sweep(now);
        let longer = self.bans.get(&subnet).is_none_or(|ban| ban.until < until);
        if longer {
            self.bans.insert(subnet, Ban { created: now, until });
            self.changed = true;
        }
        longer
    }

    pub(in super::super) fn unban(&mut self, subnet: &Subnet) -> bool {
        let was = self.bans.remove(subnet).is_some();
        self.changed |= was;
        was
    }

    pub(in super::super) fn clear(&mut self) {
        self.bans.clear();
        self.changed = true;
    }

    pub(in super::super) fn is_banned(&self, ip: IpAddr, now: u64) -> bool {
        self.bans.iter().any(|(subnet, ban)| now < ban.until && subnet.contains(ip))
    }

    /// True if the subnet itself is listed.
    pub(in super::super) fn has(&self, subnet: &Subnet, now: u64) -> bool {
        self.bans.get(subnet).is_some_and(|ban| now < ban.until)
    }

    pub(in super::super) fn discourage(&mut self, ip: IpAddr) {
        self.discouraged.insert(&octets(ip));
    }

    pub(in super::super) fn is_discouraged(&self, ip: IpAddr) -> bool {
        self.discouraged.contains(&octets(ip))
    }

    /// `listbanned`.
    pub(in super::super) fn list(&self, now: u64) -> Vec<Banned> {
        let current = self.bans.iter().filter(|(_, ban)| now <= ban.until);
        let row = |(subnet, ban): (&Subnet, &Ban)| Banned {
            subnet: subnet.to_string(),
            created: ban.created,
            until: ban.until,
        };
        current.map(row).collect()
    }

    /// `banlist.json`.
    pub(in super::super) fn encode(&self) -> Vec<u8> {
        let row = |(subnet, ban): (&Subnet, &Ban)| {
            json!({
                "version": 1,
                "ban_created": ban.created,
                "banned_until": ban.until,
                "address": subnet.to_string(),
            })
        };
        let rows: Vec<Value> = self.bans.iter().map(row).collect();
        let mut text = format!("{:#}", json!({ "banned_nets": rows })).into_bytes();
        text.push(b'\n');
        text
    }

    /// Takes in what [`Self::encode`] wrote; false if it cannot be read.
    pub(in super::super) fn load(&mut self, bytes: &[u8], now: u64) -> bool {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return false };
        let Some(rows) = value.get("banned_nets").and_then(Value::as_array) else { return false };
        for row in rows {
            let subnet = row.get("address").and_then(Value::as_str).and_then(|text| text.parse().ok());
            let number = |name| row.get(name).and_then(Value::as_u64);
            if let (Some(subnet), Some(created), Some(until)) = (subnet, number("ban_created"), number("banned_until"))
            {
                self.bans.insert(subnet, Ban { created, until });
            }
        }
        self.sweep(now);
        true
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
