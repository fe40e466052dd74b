//! Ports for processes of tests that have to be named before they listen.

use std::any::Any;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use parking_lot::Mutex;

/// Ports that a system gives to nobody who does not ask for them: connections get those from 32768 (Linux) or 49152 (RFC 6335) on.
const PORTS: Range<u16> = 10_000..32_000;
/// Between the first ports of two processes whose numbers follow each other.
const APART: u32 = 61;

/// Keeps a port from other tests until the process ends.
type Reserved = Box<dyn Any + Send>;

/// A TCP port of 127.0.0.1 on which something may listen that a test starts later. No connection gets it meanwhile, as it may get
/// one that was free a moment ago, and no other call returns it while this process lives, in whatever process it is made.
///
/// # Errors
/// If there is none.
pub fn free_port() -> io::Result<u16> {
    // The UDP port of the same number keeps it.
    reserve(|at| {
        let reserved = UdpSocket::bind(at)?;
        TcpListener::bind(at)?;
        Ok(Box::new(reserved))
    })
}

/// The same of UDP.
///
/// # Errors
/// If there is none.
pub fn free_udp_port() -> io::Result<u16> {
    reserve(|at| {
        let reserved = TcpListener::bind(at)?;
        UdpSocket::bind(at)?;
        Ok(Box::new(reserved))
    })
}

fn reserve(bind: impl Fn((Ipv4Addr, u16)) -> io::Result<Reserved>) -> io::Result<u16> {
    static RESERVED: Mutex<Vec<Reserved>> = Mutex::new(Vec::new());
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(APART) % count;
    let mut refused = None;
    for _ in PORTS {
        let place = (first + u32::from(TRIED.fetch_add(1, Ordering::Relaxed))) % count;
        let Some(port) = u16::try_from(place).ok().map(|place| PORTS.start + place) else { continue };
        match bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(reserved) => {
                RESERVED.lock().push(reserved);
                return Ok(port);
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_can_be_listened_on() {
        let mut given = HashSet::new();
        for _ in 0..20 {
            let (tcp, udp) = (free_port().unwrap(), free_udp_port().unwrap());
            assert!(given.insert(tcp) && given.insert(udp), "{tcp} or {udp} again");
            let (listener, socket) =
                (TcpListener::bind(("127.0.0.1", tcp)), UdpSocket::bind(("127.0.0.1", udp)));
            assert!(listener.is_ok() && socket.is_ok(), "{listener:?} {socket:?}");
        }
    }
}
