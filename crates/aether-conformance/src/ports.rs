//! Ports for processes of tests that have to be named before they listen.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use parking_lot::Mutex;

/// Ports that a system gives to nobody who does not ask for them: connections get those from 32768 (Linux) or 49152
/// (RFC 6335) on.
const PORTS: Range<u16> = 10_000..32_000;
/// Between the first ports of two processes whose numbers follow each other.
const APART: u32 = 61;

/// A port of 127.0.0.1, of TCP and of UDP, on which something may listen that a test starts later. No connection gets
/// it meanwhile, as it may get one that was free a moment ago, and no other call returns it while this process lives,
/// in whatever process it is made; on a machine without IPv6, in this process.
///
/// # Errors
/// If there is none.
pub fn free_port() -> io::Result<u16> {
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(APART) % count;
    let mut refused = None;
    for _ in PORTS {
        let place = (first + u32::from(TRIED.fetch_add(1, Ordering::Relaxed))) % count;
        let Some(port) = u16::try_from(place).ok().map(|place| PORTS.start + place) else { continue };
        match reserve(port) {
            Ok(reserved) => {
                RESERVED.lock().extend(reserved);
                return Ok(port);
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
}

/// Takes the port of the same number of ::1, which nothing else uses, until the process ends; `None` without IPv6.
/// Fails if that or the port itself is taken.
fn reserve(port: u16) -> io::Result<Option<UdpSocket>> {
    let reserved = match UdpSocket::bind((Ipv6Addr::LOCALHOST, port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
        bound => bound.ok(),
    };
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    Ok(reserved)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_can_be_listened_on() {
        let mut given = HashSet::new();
        for _ in 0..20 {
            let port = free_port().unwrap();
            assert!(given.insert(port), "{port} again");
            let refused = std::net::TcpStream::connect(("127.0.0.1", port));
            assert!(refused.is_err(), "{refused:?}: nothing listens there");
            let at = ("127.0.0.1", port);
            let (listener, socket) = (TcpListener::bind(at), UdpSocket::bind(at));
            assert!(listener.is_ok() && socket.is_ok(), "{listener:?} {socket:?}");
        }
    }
}
