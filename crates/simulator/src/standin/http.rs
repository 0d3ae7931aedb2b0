//! How is a request read from a socket? By hand, because the bytes of the answer are the point here, and no library lets them be ugly.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// As it was written, percent signs and all.
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    pub fn keeps_alive(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads requests that follow each other on one connection.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was read and not yet used: at most a head and a body.
    buffer: Vec<u8>,
}

impl Reader {
    /// Returns the next request, or nothing at the connection's end.
    pub async fn next(&mut self, stream: &mut TcpStream) -> io::Result<Option<Request>> {
        let end = loop {
            if let Some(place) = find(&self.buffer, b"\r\n\r\n") {
                break place;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(broken("the head is too long"));
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(broken("the head ends early")) };
            }
        };
        let head =
            String::from_utf8(self.buffer[..end].to_vec()).map_err(|_| broken("the head is not UTF-8"))?;
        self.buffer.drain(..end + 4);
        let mut request = parse(&head)?;
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let is_chunked = request.header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        request.body = match request.header("content-length") {
            _ if is_chunked => self.chunks(stream).await?,
            Some(length) => {
                self.take(stream, length.parse().map_err(|_| broken("content-length is no number"))?).await?
            }
            None => Vec::new(),
        };
        Ok(Some(request))
    }

    async fn chunks(&mut self, stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line(stream).await?;
            let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let length = length.map_err(|_| broken("a chunk's length is no number"))?;
            if body.len() + length > BODY_BYTES_MAX {
                return Err(broken("the body is too long"));
            }
            body.extend(self.take(stream, length).await?);
            self.line(stream).await?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    async fn line(&mut self, stream: &mut TcpStream) -> io::Result<String> {
        let end = loop {
            match find(&self.buffer, b"\r\n") {
                Some(place) => break place,
                None if self.buffer.len() > HEAD_BYTES_MAX => return Err(broken("a line is too long")),
                None if stream.read_buf(&mut self.buffer).await? == 0 => {
                    return Err(broken("the body ends early"));
                }
                None => {}
            }
        };
        let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 2);
        Ok(line)
    }

    async fn take(&mut self, stream: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
        if length > BODY_BYTES_MAX {
            return Err(broken("the body is too long"));
        }
        while self.buffer.len() < length {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(broken("the body ends early"));
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }
}

/// Returns the reason phrase of the status codes that providers use.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Payload Too Large",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// `%2E` is a dot; what is no escape stays.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let escaped = bytes.get(place + 1..place + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match escaped.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| bytes[place] == b'%') {
            Some(byte) => {
                decoded.push(byte);
                place += 3;
            }
            None => {
                decoded.push(bytes[place]);
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse(head: &str) -> io::Result<Request> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(broken("no request line"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines
        .map(|line| header(line).ok_or_else(|| broken("a header without a colon")))
        .collect::<io::Result<_>>()?;
    Ok(Request { method: method.into(), path: path.into(), query: query.into(), headers, body: Vec::new() })
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
