//! How a node deals with peers: Core's options.

use super::addresses::Subnet;

/// What a peer may do beyond others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// None.
    pub const NONE: Self = Self(0);
    /// It may use Bloom filters, whether others may or not.
    pub const BLOOM: Self = Self(1 << 1);
    /// Its transactions are taken even by a node that takes blocks only.
    pub const RELAY: Self = Self(1 << 3);
    /// Its transactions are passed on even if they are known.
    pub const FORCE_RELAY: Self = Self(1 << 2 | 1 << 3);
    /// It gets old blocks whatever they cost, and headers during initial download.
    pub const DOWNLOAD: Self = Self(1 << 6);
    /// It is not punished.
    pub const NO_BAN: Self = Self(1 << 4 | 1 << 6);
    /// It may ask for the whole mempool.
    pub const MEMPOOL: Self = Self(1 << 5);
    /// It gets addresses without bounds.
    pub const ADDR: Self = Self(1 << 7);
    /// All of them.
    pub const ALL: Self = Self(0b1111_1110);
    const IMPLICIT: Self = Self(1 << 31);

    /// True if it has all of these.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As clients see them.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let names = [
            (Self::BLOOM, "bloomfilter"),
            (Self::NO_BAN, "noban"),
            (Self::FORCE_RELAY, "forcerelay"),
            (Self::RELAY, "relay"),
            (Self::MEMPOOL, "mempool"),
            (Self::DOWNLOAD, "download"),
            (Self::ADDR, "addr"),
        ];
        names.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| (*name).to_owned()).collect()
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bloomfilter" | "bloom" => Self::BLOOM,
            "noban" => Self::NO_BAN,
            "forcerelay" => Self::FORCE_RELAY,
            "mempool" => Self::MEMPOOL,
            "download" => Self::DOWNLOAD,
            "all" => Self::ALL,
            "relay" => Self::RELAY,
            "addr" => Self::ADDR,
            "" => Self::NONE,
            _ => return None,
        })
    }

    /// A value of `-whitebind`: what whoever comes in there may do, and the address.
    ///
    /// # Errors
    /// Core's words.
    pub fn of_bind(text: &str) -> Result<(Self, &str), String> {
        let (permissions, (_, outgoing), addr) = Self::parse(text)?;
        if outgoing {
            return Err("whitebind may only be used for incoming connections (\"out\" was passed)".to_owned());
        }
        Ok((permissions, addr))
    }

    /// `perm1,perm2@rest`: them, which directions they are for (in, out), and the rest.
    fn parse(text: &str) -> Result<(Self, (bool, bool), &str), String> {
        let Some((list, rest)) = text.split_once('@') else { return Ok((Self::IMPLICIT, (true, false), text)) };
        let (mut flags, mut directions) = (Self::NONE, (false, false));
        for name in list.split(',') {
            match name {
                "in" => directions.0 = true,
                "out" => directions.1 = true,
                name => {
                    let flag = Self::named(name).ok_or_else(|| format!("Invalid P2P permission: '{name}'"))?;
                    flags = flags.and(flag);
                }
            }
        }
        if directions == (false, false) {
            directions.0 = true;
        } else if flags == Self::NONE {
            return Err(format!("Only direction was set, no permissions: '{text}'"));
        }
        Ok((flags, directions, rest))
    }

    /// What an address without named permissions has.
    pub(super) fn explicit(self, config: &Config) -> Self {
        if !self.has(Self::IMPLICIT) {
            return self;
        }
        let mut flags = Self(self.0 & !Self::IMPLICIT.0).and(Self::MEMPOOL).and(Self::NO_BAN);
        if config.whitelist_relay {
            flags = flags.and(Self::RELAY);
        }
        if config.whitelist_force_relay {
            flags = flags.and(Self::FORCE_RELAY);
        }
        flags
    }
}

/// A row of `-whitelist`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whitelist {
    permissions: Permissions,
    incoming: bool,
    outgoing: bool,
    subnet: Subnet,
}

impl Whitelist {
    /// As it is written on the command line.
    ///
    /// # Errors
    /// Core's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (permissions, (incoming, outgoing), net) = Permissions::parse(text)?;
        let subnet = net.parse().map_err(|()| format!("Invalid netmask specified in -whitelist: '{net}'"))?;
        Ok(Self { permissions, incoming, outgoing, subnet })
    }
}

/// Core's options, by their names without the dash.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Config {
    /// `-listen`: addresses of ours are told.
    pub listen: bool,
    /// `-maxconnections`.
    pub connections_max: usize,
    /// `-v2transport`.
    pub v2_transport: bool,
    /// `-addnode`.
    pub add_nodes: Vec<String>,
    /// `-connect`: these alone; `Some` of none for nobody.
    pub connect: Option<Vec<String>>,
    /// `-whitelist`.
    pub whitelist: Vec<Whitelist>,
    /// `-whitelistrelay`.
    pub whitelist_relay: bool,
    /// `-whitelistforcerelay`.
    pub whitelist_force_relay: bool,
    /// `-blocksonly`.
    pub blocks_only: bool,
    /// `-peerblockfilters`.
    pub block_filters: bool,
    /// `-peerbloomfilters`.
    pub bloom_filters: bool,
    /// `-maxuploadtarget`, in bytes a day; 0 for none.
    pub upload_target: u64,
    /// `-peertimeout`, in seconds.
    pub timeout: u64,
    /// `-maxsendbuffer`, in bytes.
    pub send_buffer: usize,
    /// `-maxreceivebuffer`, in bytes.
    pub receive_buffer: usize,
    /// `-blockreconstructionextratxn`.
    pub extra_transactions: usize,
    /// `-maxtipage`, in seconds.
    pub tip_age_max: u64,
    /// `-externalip` and where we listen, as others may reach it.
    pub external: Vec<std::net::SocketAddr>,
    /// Names behind which nodes are, which are asked for addresses where few are known (`-seednode`, `-dnsseed`); one that has
    /// a port comes before those that have none.
    pub seeds: Vec<String>,
    /// They are asked in any case (`-forcednsseed`).
    pub force_seeds: bool,
    /// `-prune`: of old blocks the last alone are served.
    pub prune: bool,
    /// `-uacomment`, and our name before it.
    pub user_agent: String,
    /// `-debug`: what peers say is written down.
    pub verbose: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: true,
            connections_max: 125,
            v2_transport: true,
            add_nodes: Vec::new(),
            connect: None,
            whitelist: Vec::new(),
            whitelist_relay: true,
            whitelist_force_relay: false,
            blocks_only: false,
            block_filters: false,
            bloom_filters: false,
            upload_target: 0,
            timeout: 60,
            send_buffer: 1_000_000,
            receive_buffer: 5_000_000,
            extra_transactions: 100,
            tip_age_max: 24 * 3_600,
            external: Vec::new(),
            seeds: Vec::new(),
            force_seeds: false,
            prune: false,
            user_agent: user_agent(&[]),
            verbose: false,
        }
    }
}

impl Config {
    pub(super) fn permissions(&self, ip: std::net::IpAddr, inbound: bool) -> Permissions {
        let rows = self.whitelist.iter().filter(|row| if inbound { row.incoming } else { row.outgoing });
        let flags =
            rows.filter(|row| row.subnet.contains(ip)).fold(Permissions::NONE, |all, row| all.and(row.permissions));
        flags.explicit(self)
    }
}

/// Our name, with comments (BIP 14): `/Verity:0.1.0(testnode0)/`.
#[must_use]
pub fn user_agent(comments: &[String]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let comments = if comments.is_empty() { String::new() } else { format!("({})", comments.join("; ")) };
    format!("/Verity:{version}{comments}/")
}

/// Why there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The peer came.
    Inbound,
    /// An operator asked for it.
    Manual,
    /// For all that is relayed.
    Full,
    /// For blocks alone: nobody learns of it from what is relayed.
    BlockRelay,
    /// To find out whether somebody is there.
    Feeler,
    /// For addresses.
    AddrFetch,
}

impl Kind {
    /// As clients see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Manual => "manual",
            Self::Full => "outbound-full-relay",
            Self::BlockRelay => "block-relay-only",
            Self::Feeler => "feeler",
            Self::AddrFetch => "addr-fetch",
        }
    }

    /// True if it is of no use without what a full node offers.
    pub(super) fn expects_services(self) -> bool {
        matches!(self, Self::Full | Self::BlockRelay | Self::AddrFetch)
    }

    /// True if the node chose it, to follow the chain.
    pub(super) fn is_outbound_or_block_relay(self) -> bool {
        matches!(self, Self::Full | Self::BlockRelay)
    }
}
