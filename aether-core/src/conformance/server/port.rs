//! A port of this machine that nobody else is given while a test needs it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A TCP port of 127.0.0.1 for a server that is started, stopped and started again.
///
/// A port that was only found free is soon given to another server, or to a connection that leaves from it. This one is bound
/// as long as the value lives, but nobody listens on it: a server that sets `SO_REUSEADDR`, as most do, can listen there, and
/// until then connections are refused.
#[derive(Debug)]
pub struct ReservedPort {
    /// Never read: it holds the port.
    _socket: TcpSocket,
    number: u16,
}

impl ReservedPort {
    /// Reserves a free port.
    ///
    /// # Errors
    /// Those of the operating system, such as no free descriptor.
    pub fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let number = socket.local_addr()?.port();
        Ok(Self { _socket: socket, number })
    }

    /// The number of the port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn nobody_listens_on_it_until_a_server_does_and_again_afterwards() {
        let port = ReservedPort::new().unwrap();
        let address = (Ipv4Addr::LOCALHOST, port.number());
        for _ in 0..2 {
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            let server = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(address).unwrap();
            drop((server.accept().unwrap(), client));
        }
        let others: Vec<_> = (0..100).map(|_| ReservedPort::new().unwrap()).collect();
        assert!(others.iter().all(|other| other.number() != port.number()));
    }
}
