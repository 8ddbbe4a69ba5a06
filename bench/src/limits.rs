//! What the machine can do, measured in the same run: the figures that everything else is compared with.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgelogger_common::clock::SystemClock;
use edgelogger_common::tls::{CertificateAuthority, FloorTime, client_config, server_config};

use crate::timing::{best_of, mb_per_s, percentile};
use crate::{Bench, Outcome};

/// How much of the corpus the codecs are measured with.
const SAMPLE_BYTES: usize = 128 << 20;
const RUNS: u32 = 3;
const APPENDS: u32 = 400;
const TLS_BYTES: usize = 512 << 20;

/// Block sizes that codecs are measured with.
pub const BLOCK_SIZES: [usize; 2] = [256 << 10, 1 << 20];

/// A codec's speed on one core, and what is left of the text.
#[derive(Debug, Clone, Copy)]
pub struct CodecSpeed {
    /// Of uncompressed text.
    pub mb_per_s: f64,
    /// Compressed ÷ uncompressed.
    pub ratio: f64,
}

/// Latency of 4 KiB write + fdatasync.
#[derive(Debug, Clone, Copy)]
pub struct SyncLatency {
    /// Median.
    pub p50: Duration,
    /// 99 of 100 are faster.
    pub p99: Duration,
}

/// Measured when first asked for.
#[derive(Debug, Default)]
pub struct Limits {
    sample: OnceCell<Vec<u8>>,
    lz4: OnceCell<f64>,
    fdatasync: OnceCell<SyncLatency>,
}

impl Limits {
    /// The text that codecs are measured with.
    ///
    /// # Errors
    /// When the corpus can't be read.
    pub fn sample(&self, bench: &Bench) -> Outcome<&[u8]> {
        if self.sample.get().is_none() {
            let _ = self.sample.set(bench.corpus.head(SAMPLE_BYTES)?);
        }
        Ok(self.sample.get().map_or(&[], Vec::as_slice))
    }

    /// `lz4_flex`'s own speed in MB/s, at the block size that suits it best.
    ///
    /// # Errors
    /// When the corpus can't be read.
    pub fn lz4_mb_per_s(&self, bench: &Bench) -> Outcome<f64> {
        if let Some(speed) = self.lz4.get() {
            return Ok(*speed);
        }
        let sample = self.sample(bench)?;
        let speed = BLOCK_SIZES
            .iter()
            .map(|&size| lz4(sample, size).mb_per_s)
            .fold(0.0, f64::max);
        Ok(*self.lz4.get_or_init(|| speed))
    }

    /// What it takes to make 4 KiB durable.
    ///
    /// # Errors
    /// When the scratch folder can't be written.
    pub fn fdatasync(&self, bench: &Bench) -> Outcome<SyncLatency> {
        if let Some(latency) = self.fdatasync.get() {
            return Ok(*latency);
        }
        let latency = fdatasync(&bench.scratch("fdatasync")?)?;
        Ok(*self.fdatasync.get_or_init(|| latency))
    }
}

/// Counting line feeds.
#[must_use]
pub fn line_scan_mb_per_s(text: &[u8]) -> f64 {
    mb_per_s(
        text.len(),
        best_of(RUNS, || memchr::memchr_iter(b'\n', text).count()),
    )
}

/// SHA-256 of blocks of 1 MiB.
#[must_use]
pub fn sha256_mb_per_s(text: &[u8]) -> f64 {
    let seconds = best_of(RUNS, || {
        text.chunks(1 << 20)
            .map(|block| edgelogger_common::codec::sha256(block)[0])
            .fold(0, |a, b| a ^ b)
    });
    mb_per_s(text.len(), seconds)
}

/// `lz4_flex` in blocks of this size.
#[must_use]
pub fn lz4(text: &[u8], block_size: usize) -> CodecSpeed {
    let mut out = vec![0; lz4_flex::block::get_maximum_output_size(block_size)];
    compress(text, block_size, |block| {
        lz4_flex::block::compress_into(block, &mut out).unwrap_or(0)
    })
}

/// zstd at this level in blocks of this size.
///
/// # Errors
/// When zstd refuses the level.
pub fn zstd(text: &[u8], block_size: usize, level: i32) -> Outcome<CodecSpeed> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    let mut out = vec![0; zstd::zstd_safe::compress_bound(block_size)];
    Ok(compress(text, block_size, |block| {
        compressor.compress_to_buffer(block, &mut out).unwrap_or(0)
    }))
}

fn compress(text: &[u8], block_size: usize, mut one: impl FnMut(&[u8]) -> usize) -> CodecSpeed {
    let mut compressed = 0;
    let seconds = best_of(RUNS, || compressed = text.chunks(block_size).map(&mut one).sum());
    CodecSpeed {
        mb_per_s: mb_per_s(text.len(), seconds),
        ratio: compressed as f64 / text.len() as f64,
    }
}

fn fdatasync(dir: &Path) -> Outcome<SyncLatency> {
    // What other scenarios wrote would otherwise go to the disk meanwhile.
    rustix::fs::sync();
    let mut file = File::create(dir.join("appends"))?;
    let page = [0x5a; 4096];
    let mut samples = Vec::with_capacity(APPENDS as usize);
    for _ in 0..APPENDS {
        let start = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        samples.push(start.elapsed());
    }
    Ok(SyncLatency {
        p50: percentile(&samples, 50),
        p99: percentile(&samples, 99),
    })
}

/// One TLS 1.3 connection over the loopback, one thread at each end.
///
/// # Errors
/// When the connection fails.
pub fn loopback_tls_mb_per_s(dir: &Path) -> Outcome<f64> {
    let time = Arc::new(FloorTime::new(Arc::new(SystemClock::new())));
    let authority = CertificateAuthority::load_or_create(dir, time.now_ns())?;
    let certificate = authority.issue_server(&["localhost".to_owned()], 1, time.now_ns())?;
    let server = server_config(&certificate.chain_pem, &certificate.key_pem)?;
    let client = client_config(authority.certificate_path(), time)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;

    let receiver = std::thread::spawn(move || -> Outcome<usize> {
        let connection = rustls::ServerConnection::new(server)?;
        let mut stream = rustls::StreamOwned::new(connection, listener.accept()?.0);
        let mut buffer = vec![0; 256 << 10];
        let mut received = 0;
        while received < TLS_BYTES {
            received += stream.read(&mut buffer)?;
        }
        stream.write_all(b"!")?;
        stream.flush()?;
        Ok(received)
    });
    let connection = rustls::ClientConnection::new(client, "localhost".try_into()?)?;
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(address)?);
    let chunk = vec![0x5a; 256 << 10];
    let start = Instant::now();
    for _ in 0..TLS_BYTES / chunk.len() {
        stream.write_all(&chunk)?;
    }
    stream.read_exact(&mut [0])?;
    let seconds = start.elapsed().as_secs_f64();
    let received = receiver.join().map_err(|_| "the receiving thread panicked")??;
    Ok(mb_per_s(received, seconds))
}
