//! As much of HTTP/1.1 as a monitoring system needs: GET of one page, a connection for each.
//!
//! One asks after the other. Who sends too much, or takes too long over it, is hung up on: nobody
//! keeps the others waiting for longer than [`PATIENCE`] with the request, as long again over the
//! answer, and in between for as long as the page may take to be made.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How much of a request is read.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How long one request and its answer may each take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait where the system has no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers who asks, for ever.
pub(super) fn serve(listener: &TcpListener, page: fn() -> Result<String>) -> ! {
    loop {
        match listener.accept() {
            // Who hangs up before the answer has asked for nothing.
            Ok((stream, _)) => drop(answer(stream, page)),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn answer(mut stream: TcpStream, page: fn() -> Result<String>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let request = match read(&mut stream, deadline)? {
        Some(request) => request,
        None => return respond(stream, "431 Request Header Fields Too Large", TEXT, ""),
    };
    let mut words = request.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let path = target.split('?').next().unwrap_or_default();
    match (is_http, method, path) {
        (false, ..) => respond(stream, "400 Bad Request", TEXT, "this is no HTTP/1.1\n"),
        (_, Some("GET"), "/metrics" | "/") => match page() {
            Ok(page) => respond(stream, "200 OK", METRICS, &page),
            Err(error) => {
                let text = format!("{}\n", crate::output::one_line(&error));
                respond(stream, "500 Internal Server Error", TEXT, &text)
            }
        },
        (_, Some("GET"), _) => respond(stream, "404 Not Found", TEXT, "there is only /metrics\n"),
        _ => respond(stream, "405 Method Not Allowed\r\nAllow: GET", TEXT, "use GET\n"),
    }
}

/// A request up to the empty line behind its head; none if that is too long.
fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<Option<String>> {
    let mut request = vec![];
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&buffer[..count]);
        if request.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&request).into_owned()))
}

fn respond(mut stream: TcpStream, status: &str, kind: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), body.as_bytes()].concat();
    let deadline = Instant::now() + PATIENCE;
    let mut rest = &answer[..];
    while !rest.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        let count = stream.write(rest)?;
        rest = &rest[count..];
    }
    stream.shutdown(Shutdown::Write)
}
