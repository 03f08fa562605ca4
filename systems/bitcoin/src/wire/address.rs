//! Where a peer is, and what it offers.
//!
//! The old form has room for IPv6, into which IPv4 is mapped; the new one (BIP 155) names the network. An address of a
//! network that is not known here is skipped, and one of a known network must have that network's size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::codec::{DecodeError, Reader, put_bytes, put_compact};

/// No address is longer (BIP 155).
const ADDRESS_SIZE_MAX: u64 = 512;
/// How Tor's old addresses were put into IPv6's.
const ONIONCAT: [u8; 6] = [0xfd, 0x87, 0xd8, 0x7e, 0xeb, 0x43];
/// How names were put into IPv6's addresses, for internal use.
const INTERNAL: [u8; 6] = [0xfd, 0x6b, 0x88, 0xc0, 0x87, 0x24];

/// What a node offers, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Services(pub u64);

impl Services {
    /// All blocks.
    pub const NETWORK: u64 = 1;
    /// Bloom filters (BIP 37, 111).
    pub const BLOOM: u64 = 1 << 2;
    /// Witnesses (BIP 144).
    pub const WITNESS: u64 = 1 << 3;
    /// Compact block filters (BIP 157).
    pub const COMPACT_FILTERS: u64 = 1 << 6;
    /// The last 288 blocks (BIP 159).
    pub const NETWORK_LIMITED: u64 = 1 << 10;
    /// The transport of BIP 324.
    pub const P2P_V2: u64 = 1 << 11;

    /// True if all these bits are set.
    #[must_use]
    pub fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// True if it has blocks, all or the last ones.
    #[must_use]
    pub fn serves_blocks(self) -> bool {
        self.0 & (Self::NETWORK | Self::NETWORK_LIMITED) != 0
    }

    /// The names that clients see, in the order of their bits.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let name = |bit: u32| match 1_u64 << bit {
            Self::NETWORK => "NETWORK".to_owned(),
            Self::BLOOM => "BLOOM".to_owned(),
            Self::WITNESS => "WITNESS".to_owned(),
            Self::COMPACT_FILTERS => "COMPACT_FILTERS".to_owned(),
            Self::NETWORK_LIMITED => "NETWORK_LIMITED".to_owned(),
            Self::P2P_V2 => "P2P_V2".to_owned(),
            _ => format!("UNKNOWN[2^{bit}]"),
        };
        (0..64).filter(|bit| self.0 >> bit & 1 == 1).map(name).collect()
    }
}

/// Where in which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr),
    /// Tor, version 3.
    Tor([u8; 32]),
    /// I2P.
    I2p([u8; 32]),
    /// CJDNS.
    Cjdns([u8; 16]),
}

/// A place and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetAddress {
    /// Where.
    pub place: Place,
    /// Which port.
    pub port: u16,
}

impl NetAddress {
    /// Nowhere: what is sent in place of an address that is nobody's business.
    pub const NONE: Self = Self { place: Place::V6(Ipv6Addr::UNSPECIFIED), port: 0 };

    /// A socket's; IPv4 in IPv6's clothes is IPv4.
    #[must_use]
    pub fn from_socket(addr: SocketAddr) -> Self {
        let place = match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Place::V4(ip),
            IpAddr::V6(ip) => Place::V6(ip),
        };
        Self { place, port: addr.port() }
    }

    /// Its socket, if it is of the internet.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self.place {
            Place::V4(ip) => Some(SocketAddr::new(IpAddr::V4(ip), self.port)),
            Place::V6(ip) => Some(SocketAddr::new(IpAddr::V6(ip), self.port)),
            Place::Tor(_) | Place::I2p(_) | Place::Cjdns(_) => None,
        }
    }

    /// True if it can be said in the old form.
    #[must_use]
    pub fn fits_old_form(&self) -> bool {
        matches!(self.place, Place::V4(_) | Place::V6(_))
    }

    /// True if it may be reached from anywhere.
    #[must_use]
    pub fn is_routable(&self) -> bool {
        match self.place {
            Place::V4(ip) => is_routable_v4(ip),
            Place::V6(ip) => is_routable_v6(ip),
            Place::Tor(_) | Place::I2p(_) | Place::Cjdns(_) => true,
        }
    }

    /// Decides who shares a neighbourhood: one operator should not be met twice by chance.
    #[must_use]
    pub fn group(&self) -> Vec<u8> {
        match self.place {
            Place::V4(ip) if ip.is_loopback() || ip.is_unspecified() => vec![0],
            Place::V4(ip) => [&[1_u8][..], &ip.octets()[..2]].concat(),
            Place::V6(ip) if ip.is_loopback() => vec![0],
            Place::V6(ip) => {
                let octets = ip.octets();
                let bytes = if octets[..4] == [0x20, 0x01, 0x04, 0x70] { 5 } else { 4 };
                [&[2_u8][..], &octets[..bytes]].concat()
            }
            Place::Tor(key) => vec![3, key[0] & 0x0f],
            Place::I2p(key) => vec![4, key[0] & 0x0f],
            Place::Cjdns(key) => vec![5, key[0], key[1] & 0x0f],
        }
    }

    fn octets_v6(&self) -> [u8; 16] {
        match self.place {
            Place::V4(ip) => ip.to_ipv6_mapped().octets(),
            Place::V6(ip) => ip.octets(),
            Place::Tor(_) | Place::I2p(_) | Place::Cjdns(_) => [0; 16],
        }
    }

    /// The old form: 16 bytes and a port.
    pub(super) fn decode_v1(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ip = Ipv6Addr::from(reader.array::<16>()?);
        Ok(Self::from_socket(SocketAddr::new(IpAddr::V6(ip), reader.u16_be()?)))
    }

    pub(super) fn encode_v1(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.octets_v6());
        out.extend_from_slice(&self.port.to_be_bytes());
    }

    /// The new form (BIP 155); `None` for a network that is not known here.
    fn decode_v2(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let network = reader.u8()?;
        let size = reader.compact()?;
        if size > ADDRESS_SIZE_MAX {
            return Err(DecodeError::AddressTooLong(size));
        }
        let bytes = reader.take(size as usize)?;
        let port = reader.u16_be()?;
        let place = match network {
            1 => Some(Place::V4(Ipv4Addr::from(sized::<4>(bytes)?))),
            2 => {
                let octets = sized::<16>(bytes)?;
                let ip = Ipv6Addr::from(octets);
                let disguised =
                    ip.to_ipv4_mapped().is_some() || octets.starts_with(&ONIONCAT) || octets.starts_with(&INTERNAL);
                (!disguised).then_some(Place::V6(ip))
            }
            4 => Some(Place::Tor(sized(bytes)?)),
            5 => Some(Place::I2p(sized(bytes)?)),
            6 => {
                let octets = sized::<16>(bytes)?;
                (octets[0] == 0xfc).then_some(Place::Cjdns(octets))
            }
            _ => None,
        };
        Ok(place.map(|place| Self { place, port }))
    }

    fn encode_v2(&self, out: &mut Vec<u8>) {
        let mut put = |network: u8, bytes: &[u8]| {
            out.push(network);
            put_bytes(out, bytes);
        };
        match self.place {
            Place::V4(ip) => put(1, &ip.octets()),
            Place::V6(ip) => put(2, &ip.octets()),
            Place::Tor(key) => put(4, &key),
            Place::I2p(key) => put(5, &key),
            Place::Cjdns(key) => put(6, &key),
        }
        out.extend_from_slice(&self.port.to_be_bytes());
    }
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Invalid("BIP155 address with a length that its network does not have"))
}

fn is_routable_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let reserved = ip.is_private()
        || ip.is_link_local()
        || ip.is_loopback()
        || ip.is_documentation()
        || ip.is_broadcast()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
        || (a == 192 && b == 0 && c == 2);
    !reserved
}

fn is_routable_v6(ip: Ipv6Addr) -> bool {
    let octets = ip.octets();
    let reserved = ip.is_unspecified()
        || ip.is_loopback()
        || octets.starts_with(&[0x20, 0x01, 0x0d, 0xb8])
        || octets.starts_with(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0])
        || octets[0] & 0xfe == 0xfc
        || (octets[..3] == [0x20, 0x01, 0x00] && (octets[3] & 0xf0 == 0x10 || octets[3] & 0xf0 == 0x20));
    !reserved
}

/// An address with what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// When it was last seen, in seconds since 1970.
    pub time: u32,
    /// What it offers.
    pub services: Services,
    /// Where it is.
    pub addr: NetAddress,
}

impl PeerAddress {
    /// Bytes of the old form on the wire.
    pub(super) const SIZE_V1: usize = 30;
    /// The least that the new form takes.
    pub(super) const SIZE_V2_MIN: usize = 9;

    pub(super) fn decode_v1(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let time = reader.u32()?;
        let services = Services(reader.u64()?);
        Ok(Self { time, services, addr: NetAddress::decode_v1(reader)? })
    }

    pub(super) fn encode_v1(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.services.0.to_le_bytes());
        self.addr.encode_v1(out);
    }

    pub(super) fn decode_v2(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let time = reader.u32()?;
        let services = Services(reader.compact()?);
        Ok(NetAddress::decode_v2(reader)?.map(|addr| Self { time, services, addr }))
    }

    pub(super) fn encode_v2(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.to_le_bytes());
        put_compact(out, self.services.0);
        self.addr.encode_v2(out);
    }
}
