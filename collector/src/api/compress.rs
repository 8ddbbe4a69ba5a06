//! Answers compressed as `Accept-Encoding` likes: zstd, gzip, or as they are. Event streams stay as they are, so that
//! each event goes at once.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::write::GzEncoder;
use hyper::body::Frame;

/// Below this an answer is not worth it, in bytes.
const BYTES_MIN: u64 = 860;
/// Compressed at a time, in bytes: other requests are served in between.
const PIECE_BYTES: usize = 64 << 10;
/// Answers are compressed while somebody waits.
const ZSTD_LEVEL: i32 = 1;
/// Window of 1 MiB: RFC 9659 allows 8 MiB at most on the web, and each answer under way pays for its own.
const ZSTD_WINDOW_LOG: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Zstd,
    Gzip,
}

/// The middleware.
pub async fn compress(request: Request, next: Next) -> Response {
    let coding = choose(request.headers());
    let mut response = next.run(request).await;
    if !is_worth_it(&response) {
        return response;
    }
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some(encoder) = coding.and_then(Encoder::new) else {
        return response;
    };
    let name = match encoder {
        Encoder::Zstd(_) => "zstd",
        Encoder::Gzip(_) => "gzip",
    };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    headers.remove(header::CONTENT_LENGTH);
    let (parts, body) = response.into_parts();
    let body = Body::new(Compressed {
        body,
        encoder: Some(encoder),
        piece: Bytes::new(),
    });
    Response::from_parts(parts, body)
}

fn is_worth_it(response: &Response) -> bool {
    let headers = response.headers();
    let is_event_stream = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let is_small = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|bytes| bytes < BYTES_MIN);
    !is_event_stream && !is_small && !headers.contains_key(header::CONTENT_ENCODING)
}

/// The coding of the greatest weight; of two, zstd.
fn choose(headers: &HeaderMap) -> Option<Coding> {
    let accepted = headers.get_all(header::ACCEPT_ENCODING);
    let offers: Vec<(String, f32)> = accepted
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            (name, weight)
        })
        .collect();
    let weight = |names: [&str; 2]| {
        let of = |wanted: &str| {
            offers
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, weight)| *weight)
        };
        names.into_iter().find_map(of).or_else(|| of("*")).unwrap_or(0.0)
    };
    let (zstd, gzip) = (weight(["zstd", "zstd"]), weight(["gzip", "x-gzip"]));
    if zstd > 0.0 && zstd >= gzip {
        Some(Coding::Zstd)
    } else {
        (gzip > 0.0).then_some(Coding::Gzip)
    }
}

enum Encoder {
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Encoder {
    /// None when memory is short: the answer then goes as it is.
    fn new(coding: Coding) -> Option<Self> {
        match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).ok()?;
                encoder.window_log(ZSTD_WINDOW_LOG).ok()?;
                Some(Self::Zstd(Box::new(encoder)))
            }
            Coding::Gzip => Some(Self::Gzip(Box::new(GzEncoder::new(
                Vec::new(),
                flate2::Compression::fast(),
            )))),
        }
    }

    /// What comes out for what goes in; perhaps nothing yet.
    fn take(&mut self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

/// A body, compressed piece by piece.
struct Compressed {
    body: Body,
    /// None when all is said.
    encoder: Option<Encoder>,
    piece: Bytes,
}

impl HttpBody for Compressed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            if !this.piece.is_empty() {
                let piece = this.piece.split_to(this.piece.len().min(PIECE_BYTES));
                match encoder.take(&piece) {
                    Ok(out) if out.is_empty() => continue,
                    out => return Poll::Ready(Some(out.map(frame).map_err(axum::Error::new))),
                }
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.piece = data;
                    }
                }
                // Cut off, so that the reader knows.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let out = this
                        .encoder
                        .take()
                        .map_or_else(|| Ok(Vec::new()), Encoder::finish);
                    return Poll::Ready(Some(out.map(frame).map_err(axum::Error::new)));
                }
            }
        }
    }
}

fn frame(bytes: Vec<u8>) -> Frame<Bytes> {
    Frame::data(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::body::to_bytes;

    use super::*;

    #[track_caller]
    fn check(accept: &'static str, expected: Option<Coding>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
        assert_eq!(choose(&headers), expected, "{accept}");
    }

    #[test]
    fn the_coding_is_the_one_that_is_liked_best() {
        check("gzip, deflate, br, zstd", Some(Coding::Zstd));
        check("gzip", Some(Coding::Gzip));
        check("zstd;q=0.5, gzip", Some(Coding::Gzip));
        check("zstd;q=0, *", Some(Coding::Gzip));
        check("identity", None);
        check("br", None);
        check("*;q=0", None);
        assert_eq!(choose(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn what_comes_out_is_what_went_in() {
        let text = "a line that repeats itself\n".repeat(20_000);
        for coding in [Coding::Zstd, Coding::Gzip] {
            let body = Compressed {
                body: Body::from(text.clone()),
                encoder: Encoder::new(coding),
                piece: Bytes::new(),
            };
            let bytes = to_bytes(Body::new(body), usize::MAX).await.unwrap();
            assert!(bytes.len() < text.len() / 10);
            let mut back = String::new();
            match coding {
                Coding::Zstd => zstd::stream::read::Decoder::new(&bytes[..])
                    .unwrap()
                    .read_to_string(&mut back),
                Coding::Gzip => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut back),
            }
            .unwrap();
            assert_eq!(back, text);
        }
    }
}
