//! A TCP proxy that counts what crosses the wire, both ways.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Outcome;

/// Bytes that were forwarded.
#[derive(Debug, Default)]
pub struct Counted {
    /// Agent to collector.
    pub up: AtomicU64,
    /// Collector to agent.
    pub down: AtomicU64,
}

impl Counted {
    /// Both ways together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.up.load(Ordering::Relaxed) + self.down.load(Ordering::Relaxed)
    }
}

/// Forwards connections to `target` for as long as the process lives. The port that it listens on, and its counts.
///
/// # Errors
/// When no port is free.
pub fn start(target: u16) -> Outcome<(u16, Arc<Counted>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let counted = Arc::new(Counted::default());
    let shared = Arc::clone(&counted);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A target that refuses is seen by the client as a closed connection.
            let _ = forward(client, target, &shared);
        }
    });
    Ok((port, counted))
}

fn forward(client: TcpStream, target: u16, counted: &Arc<Counted>) -> Outcome<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (up_from, up_to) = (client.try_clone()?, server.try_clone()?);
    let shared = Arc::clone(counted);
    std::thread::spawn(move || copy(up_from, up_to, &shared.up));
    let shared = Arc::clone(counted);
    std::thread::spawn(move || copy(server, client, &shared.down));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, counter: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        counter.fetch_add(len as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_forwarded_and_counted() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, counted) = start(server.local_addr().unwrap().port()).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut peer, _) = server.accept().unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        peer.read_to_string(&mut got).unwrap();
        peer.write_all(b"bye").unwrap();
        drop(peer);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(
            (got.as_str(), answer.as_str(), counted.total()),
            ("hello", "bye", 8)
        );
    }
}
