//! A TCP proxy that does to a connection what links do: it delays, limits, slices, stalls one way or both, refuses, and
//! resets at an exact byte. Faults can be changed at any time and hold for living connections too.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a waiting copier looks whether its faults changed.
const LOOK: Duration = Duration::from_millis(10);
/// Most bytes read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks under way in one direction: what a long line holds.
const CHUNKS_MAX: usize = 64;

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Agent to collector.
    Up,
    /// Collector to agent.
    Down,
}

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct WayFaults {
    /// Each byte comes so much later.
    pub delay: Duration,
    /// At most so many bytes a second.
    pub bytes_per_second: Option<u64>,
    /// Never more than this in one write.
    pub slice_bytes: Option<usize>,
    /// Nothing passes; what comes is held, as by a line that lost its packets.
    pub stalled: bool,
    /// Both sides are reset when exactly so many further bytes have passed, of all connections together.
    pub reset_after: Option<u64>,
}

/// What happens to connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Agent to collector.
    pub up: WayFaults,
    /// Collector to agent.
    pub down: WayFaults,
    /// New connections are reset at once.
    pub refuses: bool,
}

impl Faults {
    const fn way(&mut self, way: Way) -> &mut WayFaults {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// Bytes and connections that went through.
#[derive(Debug, Default)]
pub struct Counted {
    /// Agent to collector.
    pub up: AtomicU64,
    /// Collector to agent.
    pub down: AtomicU64,
    /// Connections that were accepted.
    pub connections: AtomicU64,
    /// Connections that a fault reset.
    pub resets: AtomicU64,
}

impl Counted {
    /// Bytes of both ways together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.up.load(Ordering::Relaxed) + self.down.load(Ordering::Relaxed)
    }

    const fn way(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

/// A proxy; it stops when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens, on the loopback interface.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    faults: Mutex<Faults>,
    counted: Counted,
    living: Mutex<Vec<Arc<Link>>>,
    stopped: AtomicBool,
}

/// One connection: both of its sockets.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    over: AtomicBool,
    ways_ended: AtomicU64,
}

impl Link {
    /// Both sides get a reset, as from a machine that knows nothing of the connection.
    fn reset(&self) {
        self.over.store(true, Ordering::Release);
        for socket in [&self.client, &self.server] {
            // With no time to linger, closing throws away what is not sent and says RST. The copiers hold clones of
            // the sockets and end at `over`; shutting down wakes the peers' other half.
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}

impl Proxy {
    /// Forwards connections to `target` on the loopback interface, at first without faults.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            target,
            faults: Mutex::default(),
            counted: Counted::default(),
            living: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || for_thread.accept(&listener));
        Ok(Self { port, shared })
    }

    /// Changes the faults.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.shared.faults));
    }

    /// No faults any more.
    pub fn heal(&self) {
        self.set(|faults| *faults = Faults::default());
    }

    /// Resets every living connection.
    pub fn reset_all(&self) {
        for link in lock(&self.shared.living).drain(..) {
            link.reset();
            self.shared.counted.resets.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What went through.
    #[must_use]
    pub fn counted(&self) -> &Counted {
        &self.shared.counted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.reset_all();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stopped.load(Ordering::Acquire) {
            match listener.accept() {
                // A target that refuses is seen by the client as a closed connection.
                Ok((client, _)) => {
                    let _ = self.forward(client);
                }
                Err(_) => std::thread::sleep(LOOK / 10),
            }
        }
    }

    fn forward(self: &Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        self.counted.connections.fetch_add(1, Ordering::Relaxed);
        client.set_nonblocking(false)?;
        if lock(&self.faults).refuses {
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
            return Ok(());
        }
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target))?;
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(LOOK))?;
        }
        let link = Arc::new(Link {
            client,
            server,
            over: AtomicBool::new(false),
            ways_ended: AtomicU64::new(0),
        });
        lock(&self.living).push(Arc::clone(&link));
        for way in [Way::Up, Way::Down] {
            let (chunks, due) = sync_channel(CHUNKS_MAX);
            let (shared, reading) = (Arc::clone(self), Arc::clone(&link));
            std::thread::spawn(move || shared.read(&reading, way, &chunks));
            let (shared, writing) = (Arc::clone(self), Arc::clone(&link));
            std::thread::spawn(move || shared.write(&writing, way, &due));
        }
        Ok(())
    }

    fn way(&self, way: Way) -> WayFaults {
        *lock(&self.faults).way(way)
    }

    /// Takes what comes in and says when it is due at the other side.
    fn read(&self, link: &Link, way: Way, chunks: &SyncSender<(Instant, Vec<u8>)>) {
        let mut from = match way {
            Way::Up => &link.client,
            Way::Down => &link.server,
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        while !link.over.load(Ordering::Acquire) {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(len) => {
                    let due = Instant::now() + self.way(way).delay;
                    if chunks.send((due, buffer[..len].to_vec())).is_err() {
                        return;
                    }
                }
                Err(error) if is_patience(&error) => {}
                Err(_) => return self.reset(link),
            }
        }
    }

    /// Ends a connection, and closes its sockets as soon as its copiers let go of them.
    fn reset(&self, link: &Link) {
        link.reset();
        lock(&self.living).retain(|link| !link.over.load(Ordering::Acquire));
    }

    fn write(&self, link: &Link, way: Way, due: &Receiver<(Instant, Vec<u8>)>) {
        let mut to = match way {
            Way::Up => &link.server,
            Way::Down => &link.client,
        };
        while !link.over.load(Ordering::Acquire) {
            let (when, bytes) = match due.try_recv() {
                Ok(chunk) => chunk,
                Err(TryRecvError::Empty) => match due.recv_timeout(LOOK) {
                    Ok(chunk) => chunk,
                    Err(_) => continue,
                },
                // The other side ended in order.
                Err(TryRecvError::Disconnected) => {
                    let _ = to.shutdown(Shutdown::Write);
                    if link.ways_ended.fetch_add(1, Ordering::AcqRel) == 1 {
                        link.over.store(true, Ordering::Release);
                        lock(&self.living).retain(|link| !link.over.load(Ordering::Acquire));
                    }
                    return;
                }
            };
            std::thread::sleep(when.saturating_duration_since(Instant::now()));
            if !self.deliver(link, way, &mut to, &bytes) {
                return self.reset(link);
            }
        }
    }

    /// Writes one chunk with the faults that hold now. `false`: the connection is over.
    fn deliver(&self, link: &Link, way: Way, to: &mut &TcpStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if link.over.load(Ordering::Acquire) {
                return false;
            }
            let (faults, len) = {
                let mut all = lock(&self.faults);
                let faults = all.way(way);
                if faults.stalled {
                    (*faults, 0)
                } else {
                    let most = faults.slice_bytes.unwrap_or(bytes.len()).min(bytes.len());
                    let most = faults
                        .reset_after
                        .map_or(most, |left| most.min(usize::try_from(left).unwrap_or(usize::MAX)));
                    if let Some(left) = &mut faults.reset_after {
                        *left -= most as u64;
                    }
                    (*faults, most)
                }
            };
            if faults.stalled {
                std::thread::sleep(LOOK);
                continue;
            }
            if !write_all(to, &bytes[..len], &link.over) {
                return false;
            }
            self.counted.way(way).fetch_add(len as u64, Ordering::Relaxed);
            bytes = &bytes[len..];
            if faults.reset_after == Some(0) {
                lock(&self.faults).way(way).reset_after = None;
                self.counted.resets.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            if let Some(rate) = faults.bytes_per_second {
                std::thread::sleep(Duration::from_secs_f64(len as f64 / rate.max(1) as f64));
            } else if faults.slice_bytes.is_some() {
                std::thread::yield_now();
            }
        }
        true
    }
}

fn write_all(to: &mut &TcpStream, mut bytes: &[u8], over: &AtomicBool) -> bool {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return false,
            Ok(len) => bytes = &bytes[len..],
            Err(error) if is_patience(&error) && !over.load(Ordering::Acquire) => {}
            Err(_) => return false,
        }
    }
    true
}

fn is_patience(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Proxy, TcpStream, TcpStream) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(server.local_addr().unwrap().port()).unwrap();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).unwrap();
        let (peer, _) = server.accept().unwrap();
        (proxy, client, peer)
    }

    #[test]
    fn every_byte_is_forwarded_and_counted_and_an_end_is_an_end() {
        let (proxy, mut client, mut peer) = pair();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        peer.read_to_string(&mut got).unwrap();
        peer.write_all(b"bye").unwrap();
        drop(peer);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((got.as_str(), answer.as_str()), ("hello", "bye"));
        assert_eq!(proxy.counted().total(), 8);
    }

    #[test]
    fn a_connection_is_reset_at_the_byte() {
        let (proxy, mut client, mut peer) = pair();
        proxy.set(|faults| faults.up.reset_after = Some(3));
        client.write_all(b"hello").unwrap();
        let mut got = Vec::new();
        let error = peer.read_to_end(&mut got).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(got.len() <= 3, "{got:?}");
        assert_eq!(proxy.counted().up.load(Ordering::Relaxed), 3);
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_is_stalled_one_way_comes_when_it_is_healed() {
        let (proxy, mut client, mut peer) = pair();
        proxy.set(|faults| faults.up.stalled = true);
        client.write_all(b"late").unwrap();
        peer.write_all(b"down").unwrap();
        let mut got = [0; 4];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"down");
        assert_eq!(proxy.counted().up.load(Ordering::Relaxed), 0);
        proxy.heal();
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"late");
    }
}
