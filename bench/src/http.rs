//! Just enough HTTP to ask the collector on the loopback: one request, one answer, no library between the stop watch
//! and the program.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;

/// An answer must come within this: a query over the whole corpus takes some seconds.
const TIMEOUT: Duration = Duration::from_secs(120);

/// `GET`, the answer as JSON (text that is none as a string).
///
/// # Errors
/// No answer, or a status other than 200.
pub fn get(port: u16, path: &str) -> Outcome<Value> {
    ask(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

/// `POST` of JSON, the answer as JSON.
///
/// # Errors
/// As [`get`].
pub fn post(port: u16, path: &str, body: &Value) -> Outcome<Value> {
    let body = body.to_string();
    ask(
        port,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

fn ask(port: u16, request: &str) -> Outcome<Value> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let split = memchr::memmem::find(&answer, b"\r\n\r\n").ok_or("an answer that is not HTTP")?;
    let head = String::from_utf8_lossy(&answer[..split]).to_ascii_lowercase();
    let body = &answer[split + 4..];
    let body = if head.contains("transfer-encoding: chunked") {
        joined(body)?
    } else {
        body.to_vec()
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("{}: {text}", head.lines().next().unwrap_or_default()).into());
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn joined(mut body: &[u8]) -> Outcome<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = memchr::memmem::find(body, b"\r\n").ok_or("a chunk without its length")?;
        let len = usize::from_str_radix(std::str::from_utf8(&body[..line])?.trim(), 16)?;
        if len == 0 {
            return Ok(whole);
        }
        let chunk = body
            .get(line + 2..line + 2 + len)
            .ok_or("a chunk that is cut off")?;
        whole.extend_from_slice(chunk);
        body = body.get(line + 4 + len..).ok_or("a chunk that is cut off")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(joined(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap(), b"abcde");
        assert!(joined(b"9\r\nabc").is_err());
    }
}
