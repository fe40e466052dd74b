//! Two machines with a cable between them, for tests of media without a server: two network namespaces of Linux.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that says that this machine cannot make network namespaces.
const EXCUSE: &str = "AETHER_NO_NAMESPACES";

/// One end of a [`Cable`], and the machine at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The machine with the address 10.77.0.1.
    Left,
    /// The machine with the address 10.77.0.2.
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
/// # fn main() -> Result<(), aether_core::conformance::CableError> {
/// use aether_core::conformance::{Cable, End};
///
/// let Some(cable) = Cable::lay()? else { return Ok(()) };
/// let listener = cable.command(End::Left, "aether").args(["listen", ">", "--medium", "lan:"]).spawn();
/// cable.unplug(End::Right)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Cable {
    names: [String; 2],
}

impl Cable {
    /// Makes the namespaces. `None` if `AETHER_NO_NAMESPACES=1` says that this machine has no right to.
    ///
    /// # Errors
    /// [`CableError`] if they cannot be made.
    pub fn lay() -> Result<Option<Self>, CableError> {
        static LAID: AtomicU64 = AtomicU64::new(0);
        if std::env::var_os(EXCUSE).is_some_and(|excuse| excuse == "1") {
            return Ok(None);
        }
        let id = format!("aether-{}-{}", std::process::id(), LAID.fetch_add(1, Ordering::Relaxed));
        // From here on, dropping it removes what was made.
        let cable = Self { names: ["left", "right"].map(|side| format!("{id}-{side}")) };
        let [left, right] = &cable.names;
        ip(&format!("netns add {left}"))?;
        ip(&format!("netns add {right}"))?;
        ip(&format!("link add cable netns {left} type veth peer name cable netns {right}"))?;
        for (number, end) in [(1, End::Left), (2, End::Right)] {
            let name = cable.name(end);
            ip(&format!("-n {name} addr add 10.77.0.{number}/24 dev cable"))?;
            ip(&format!("-n {name} link set lo up"))?;
            cable.plug(end)?;
        }
        Ok(Some(cable))
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
        ip(&format!("-n {name} link set cable up"))?;
        // The route goes with the link.
        ip(&format!("-n {name} route replace 224.0.0.0/4 dev cable"))
    }

    /// Pulls this end out.
    ///
    /// # Errors
    /// [`CableError`] if the system refuses.
    pub fn unplug(&self, end: End) -> Result<(), CableError> {
        ip(&format!("-n {} link set cable down", self.name(end)))
    }

    /// Drops one in so many of the packets that arrive at this end, at random. With 0 none is dropped any more.
    ///
    /// # Errors
    /// [`CableError`] if the system refuses.
    pub fn lose_one_in(&self, end: End, packets: u32) -> Result<(), CableError> {
        let nft = |args: &str| run(&mut self.command(end, "nft"), "nft", args).map(drop);
        // Makes the table if there is none, so that it can be deleted.
        nft("add table inet cable")?;
        nft("delete table inet cable")?;
        if packets == 0 {
            return Ok(());
        }
        nft("add table inet cable")?;
        nft("add chain inet cable arriving { type filter hook input priority 0 ; }")?;
        nft(&format!(
            "add rule inet cable arriving iifname cable numgen random mod {packets} == 0 counter drop"
        ))
    }

    /// The number of packets that [`lose_one_in`](Self::lose_one_in) has dropped at this end since it was called.
    ///
    /// # Errors
    /// [`CableError`] if it was not called, or the system refuses.
    pub fn lost(&self, end: End) -> Result<u64, CableError> {
        let args = "list chain inet cable arriving";
        let listed = run(&mut self.command(end, "nft"), "nft", args)?;
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
        for name in &self.names {
            // One that was never made cannot be removed.
            let _ = ip(&format!("netns del {name}"));
        }
    }
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
