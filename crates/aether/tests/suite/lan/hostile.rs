//! Packets made by hand at the ports of a process: it goes on, its memory stays flat, and its peers notice nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use aether_conformance::End;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lan::besieged::{Besieged, PORT, goes_on};
use crate::lan::machine::{Process, say};

/// Most packets come by UDP: one in this number is a message over TCP.
const TCP_ONE_IN: u64 = 8;
/// Messages of a connection.
const MESSAGES: u64 = 4;
/// Connections at once.
const AT_ONCE: usize = 32;
/// Connections that say nothing, or half of a message, for as long as the attack lasts.
const HALF_OPEN: u64 = 400;
const VICTIM: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Where Zenoh looks for others.
const SCOUTING: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 224), 7446);
/// A new peer gets in within this time while the half-open connections are there, on a machine that does little else.
const IN_WITHIN: Duration = Duration::from_secs(8);

#[test]
fn two_machines_go_on_while_a_third_party_sends_what_it_likes_to_their_ports() {
    let Some(mut besieged) = Besieged::start() else { return };
    let only = format!("lan:?multicast=off&peer={VICTIM}:{PORT}");
    let newcomer = || {
        let begun = Instant::now();
        let newcomer = Process::start_with(&besieged.cable, End::Left, "newcomer", &only, 0);
        newcomer.says("answered");
        (begun.elapsed(), newcomer)
    };
    let (usual, _before) = newcomer();
    let started = Instant::now();
    let attacker = besieged.attack("attacker");
    attacker.says("half-open");
    let (took, _during) = newcomer();
    println!("a new peer was answered after {took:?}, and before the attack after {usual:?}");
    assert!(took < IN_WITHIN + 4 * usual, "{took:?}, and before the attack {usual:?}");
    attacker.says("attacked");
    println!("{} packets in {:?}", besieged.packets, started.elapsed());
    besieged.go_on();
}

/// In the role of the attacker: sends `packets` packets.
pub(crate) async fn attack(packets: u64) {
    let victim = SocketAddr::from((VICTIM, PORT));
    let mut held = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = TcpStream::connect(victim).await.unwrap();
        if number % 2 == 1 {
            // The length of a message that never comes, and its first byte.
            let _ = stream.write_all(&[0xff, 0xff, 0x01]).await;
        }
        held.push(stream);
    }
    say("half-open");
    let tcp = packets / TCP_ONE_IN;
    let by_udp = tokio::spawn(udp(packets - tcp));
    let mut connections = JoinSet::new();
    for number in 0..tcp / MESSAGES {
        goes_on(number * MESSAGES);
        if connections.len() >= AT_ONCE {
            connections.join_next().await.unwrap().unwrap();
        }
        connections.spawn(talk(victim));
    }
    connections.join_all().await;
    by_udp.await.unwrap();
    drop(held);
}

/// Half to the machine and half to all.
async fn udp(packets: u64) {
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    for number in 0..packets {
        let to = if number % 2 == 0 { (VICTIM, SCOUTING.1) } else { SCOUTING };
        // A full queue of the device refuses it.
        let _ = socket.send_to(&packet(), to).await;
        goes_on(number);
        if number.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
}

/// Some messages that are none. The other side may close at any of them.
async fn talk(victim: SocketAddr) {
    let Ok(Ok(mut stream)) = timeout(Duration::from_secs(5), TcpStream::connect(victim)).await else {
        return;
    };
    // Without a state of the connection that outlives it, or the ports would run out.
    let _ = stream.set_zero_linger();
    for _ in 0..MESSAGES {
        let message = packet();
        let length = u16::try_from(message.len()).unwrap();
        // One in four has a wrong length.
        let length = if fastrand::u8(..) < 64 { fastrand::u16(..) } else { length };
        if stream.write_all(&length.to_le_bytes()).await.is_err() || stream.write_all(&message).await.is_err()
        {
            return;
        }
    }
}

/// Random bytes, half of them behind the beginning of a valid message: of looking for others, of being found, or of opening
/// a connection.
fn packet() -> Vec<u8> {
    let mut packet = match fastrand::u8(..8) {
        // Version 9, looks for all.
        0 => vec![0x01, 0x09, 0x07],
        // With an identity, which is the rest.
        1 => vec![0x01, 0x09, 0xff],
        // A peer that is found with addresses.
        2 => vec![0x22, 0x09, 0xf1],
        // A connection, with sizes and extensions.
        3 => vec![0xc1, 0x09, 0xf1],
        _ => Vec::new(),
    };
    packet.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(fastrand::usize(..1200)));
    packet
}
