//! Two machines that ask and answer while somebody else in their network sends what it likes.

use aether_conformance::{Cable, End};

use crate::lan::machine::{GOES_ON, Process, say};

pub(crate) const PORT: u16 = 7447;
/// How many packets, in place of [`PACKETS`].
const PACKETS_ENV: &str = "AETHER_LAN_PACKETS";
const PACKETS: u64 = 20_000;
/// The packets after which an attacker tells that it goes on.
const PORTION: u64 = 500;
/// The cost that the attack may have: buffers of the open connections, of 64 KiB each, and the memory of Zenoh.
const MAX_GROWTH_KIB: u64 = 64 << 10;

/// Dropped in this order: the processes before the cable.
pub(crate) struct Besieged {
    asker: Process,
    pub(crate) listener: Process,
    pub(crate) cable: Cable,
    /// How many packets are to be sent.
    pub(crate) packets: u64,
    /// The most memory of the listener before the attack, in KiB.
    before: u64,
}

impl Besieged {
    /// `None` where no namespaces can be made, and the tests are excused from it.
    pub(crate) fn start() -> Option<Self> {
        let cable = Cable::lay().unwrap_or_else(|error| panic!("{error}"))?;
        let packets = std::env::var(PACKETS_ENV).ok().map_or(PACKETS, |packets| packets.parse().unwrap());
        let url = format!("lan:?listen=0.0.0.0:{PORT}");
        let listener = Process::start_with(&cable, End::Right, "listener", &url, 0);
        listener.says("ready");
        let asker = Process::start(&cable, End::Left, "asker");
        asker.says("answered");
        let before = listener.most_memory();
        Some(Self { asker, listener, cable, packets, before })
    }

    /// Starts the attacker in this role.
    pub(crate) fn attack(&self, role: &str) -> Process {
        Process::start_with(&self.cable, End::Left, role, "", self.packets)
    }

    /// Fails if a question was not answered, or the memory grew.
    pub(crate) fn go_on(&mut self) {
        self.asker.tell();
        let asked = self.asker.counts("asked");
        assert!(asked[0] > 0 && asked[1] == 0, "asked and not answered: {asked:?}");
        let (before, after) = (self.before, self.listener.most_memory());
        println!("asked {}; memory {before} KiB before, {after} KiB at most", asked[0]);
        assert!(after < before + MAX_GROWTH_KIB, "{before} KiB before, {after} KiB at most");
    }
}

/// In the role of an attacker, for each packet: tells now and then that it goes on.
pub(crate) fn goes_on(packet: u64) {
    if packet.is_multiple_of(PORTION) {
        say(GOES_ON);
    }
}
