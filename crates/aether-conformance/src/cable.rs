//! Machines with cables between them, for tests of media without a server: network namespaces of Linux.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that declares that this machine cannot make network namespaces.
const EXCUSE: &str = "AETHER_NO_NAMESPACES";

/// One end of a [`Cable`], and the machine at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The machine with the address 10.77.0.1, on a further cable 10.77.1.1 and so on.
    Left,
    /// The machine with the address 10.77.0.2, on a further cable 10.77.1.2 and so on.
    Right,
}

/// Why there is no cable.
#[derive(Debug, thiserror::Error)]
#[error(
    "no network namespaces: `{command}`: {reason}. This test needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN), the command `ip` \
     of iproute2 and, to lose packets, `nft` of nftables. Where these cannot be had, set {EXCUSE}=1; what the test shows is \
     then not tested"
)]
pub struct CableError {
    command: String,
    reason: String,
}

/// Two network namespaces joined by a pair of virtual Ethernet devices. Each has one address and a route for multicast, and
/// nothing else. Both go when it is dropped.
///
/// ```no_run
/// # fn main() -> Result<(), aether_conformance::CableError> {
/// use aether_conformance::{Cable, End};
///
/// let Some(cable) = Cable::lay()? else { return Ok(()) };
/// let listener = cable.command(End::Left, "aether").args(["listen", ">", "--medium", "lan:"]).spawn();
/// cable.unplug(End::Right)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Cable {
    names: [String; 2],
    /// Whether the machine at the right was there before, and stays.
    is_further: bool,
    device: String,
    /// The third byte of its addresses.
    network: u8,
}

impl Cable {
    /// Makes the namespaces. `None` if `AETHER_NO_NAMESPACES=1` declares that this machine has no right to.
    ///
    /// # Errors
    /// [`CableError`] if they cannot be made.
    pub fn lay() -> Result<Option<Self>, CableError> {
        if std::env::var_os(EXCUSE).is_some_and(|excuse| excuse == "1") {
            return Ok(None);
        }
        let id = unused_name();
        // From here on, dropping it removes what was made.
        let cable = Self {
            names: ["left", "right"].map(|side| format!("{id}-{side}")),
            is_further: false,
            device: "cable".to_owned(),
            network: 0,
        };
        ip(&format!("netns add {}", cable.name(End::Right)))?;
        ip(&format!("-n {} link set lo up", cable.name(End::Right)))?;
        cable.join()?;
        Ok(Some(cable))
    }

    /// A cable from another new machine to the one at the right, on the network 10.77.`network`.0/24. The machine at the
    /// right forwards nothing, so those at the left do not reach each other.
    ///
    /// # Errors
    /// [`CableError`] if it cannot be made, as where there is a cable for this network already.
    pub fn lay_further(&self, network: u8) -> Result<Self, CableError> {
        let cable = Self {
            names: [format!("{}-left", unused_name()), self.name(End::Right).to_owned()],
            is_further: true,
            device: format!("cable{network}"),
            network,
        };
        cable.join()?;
        Ok(cable)
    }

    /// Makes the machine at the left, and the cable.
    fn join(&self) -> Result<(), CableError> {
        let (Self { device, network, .. }, [left, right]) = (self, &self.names);
        ip(&format!("netns add {left}"))?;
        ip(&format!("-n {left} link set lo up"))?;
        ip(&format!("link add {device} netns {left} type veth peer name {device} netns {right}"))?;
        for (number, end) in [(1, End::Left), (2, End::Right)] {
            ip(&format!("-n {} addr add 10.77.{network}.{number}/24 dev {device}", self.name(end)))?;
            self.plug(end)?;
        }
        Ok(())
    }

    /// A program on the machine at this end. It is the process itself that is started, so it gets the signals.
    #[must_use]
    pub fn command(&self, end: End, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name(end)]).arg(program);
        command
    }

    /// Plugs this end in.
    ///
    /// # Errors
    /// [`CableError`] if the system refuses.
    pub fn plug(&self, end: End) -> Result<(), CableError> {
        let name = self.name(end);
        let device = &self.device;
        ip(&format!("-n {name} link set {device} up"))?;
        // The route goes with the link.
        ip(&format!("-n {name} route replace 224.0.0.0/4 dev {device}"))
    }

    /// Pulls this end out.
    ///
    /// # Errors
    /// [`CableError`] if the system refuses.
    pub fn unplug(&self, end: End) -> Result<(), CableError> {
        ip(&format!("-n {} link set {} down", self.name(end), self.device))
    }

    /// Drops one in `packets` that arrive at this end, at random. With 0 none is dropped any more.
    ///
    /// # Errors
    /// [`CableError`] if the system refuses.
    pub fn lose_one_in(&self, end: End, packets: u32) -> Result<(), CableError> {
        let device = &self.device;
        let nft = |args: &str| run(&mut self.command(end, "nft"), "nft", args).map(drop);
        // Makes the table if there is none, so that it can be deleted.
        nft(&format!("add table inet {device}"))?;
        nft(&format!("delete table inet {device}"))?;
        if packets == 0 {
            return Ok(());
        }
        nft(&format!("add table inet {device}"))?;
        nft(&format!("add chain inet {device} arriving {{ type filter hook input priority 0 ; }}"))?;
        nft(&format!(
            "add rule inet {device} arriving iifname {device} numgen random mod {packets} == 0 counter drop"
        ))
    }

    /// Drops the packets that arrive at this end and match, as a firewall does: `packets` is what `nft` calls a match,
    /// such as `tcp dport 7447` or `ip daddr 224.0.0.0/4`. May be called again for others.
    ///
    /// # Errors
    /// [`CableError`] if the system refuses.
    pub fn block(&self, end: End, packets: &str) -> Result<(), CableError> {
        let device = &self.device;
        let nft = |args: &str| run(&mut self.command(end, "nft"), "nft", args).map(drop);
        nft(&format!("add table inet {device}-blocked"))?;
        nft(&format!("add chain inet {device}-blocked arriving {{ type filter hook input priority 0 ; }}"))?;
        nft(&format!("add rule inet {device}-blocked arriving iifname {device} {packets} drop"))
    }

    /// The number of packets that [`lose_one_in`](Self::lose_one_in) has dropped at this end since it was called.
    ///
    /// # Errors
    /// [`CableError`] if it was not called, or the system refuses.
    pub fn lost(&self, end: End) -> Result<u64, CableError> {
        let args = format!("list chain inet {} arriving", self.device);
        let listed = run(&mut self.command(end, "nft"), "nft", &args)?;
        // As in `counter packets 12 bytes 345 drop`.
        let mut words = listed.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().and_then(|count| count.parse().ok()).ok_or_else(|| CableError {
            command: format!("nft {args}"),
            reason: format!("no counter in {listed}"),
        })
    }

    fn name(&self, end: End) -> &str {
        let [left, right] = &self.names;
        match end {
            End::Left => left,
            End::Right => right,
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let removed = if self.is_further { &self.names[..1] } else { &self.names };
        for name in removed {
            // One that was never made cannot be removed.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

/// Begins the names of the machines of one cable.
fn unused_name() -> String {
    static LAID: AtomicU64 = AtomicU64::new(0);
    format!("aether-{}-{}", std::process::id(), LAID.fetch_add(1, Ordering::Relaxed))
}

fn ip(args: &str) -> Result<(), CableError> {
    run(&mut Command::new("ip"), "ip", args).map(drop)
}

/// Runs a command, and returns its output.
fn run(command: &mut Command, name: &str, args: &str) -> Result<String, CableError> {
    let failed = |reason: String| CableError { command: format!("{name} {args}"), reason };
    let output = command.args(args.split_whitespace()).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
