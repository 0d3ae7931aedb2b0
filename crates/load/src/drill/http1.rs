//! Where does an HTTP/1.1 message end? The little that a drill needs, so that measuring costs less than what is measured.

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `POST /path HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub first_line: String,
    pub framing: Framing,
    /// The connection ends after this message.
    pub closes: bool,
    /// Bytes of the head, with its empty line.
    pub bytes: usize,
}

/// A head beyond this is somebody else's protocol.
const HEAD_BYTES_MAX: usize = 64 << 10;

impl Head {
    /// Returns the head once all of it is there.
    pub fn read(buffer: &[u8]) -> Result<Option<Self>, &'static str> {
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return if buffer.len() > HEAD_BYTES_MAX { Err("a head of more than 64 KiB") } else { Ok(None) };
        };
        let text = std::str::from_utf8(&buffer[..end]).map_err(|_| "a head that is not text")?;
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let is_answer = first_line.starts_with("HTTP/");
        let (mut framing, mut closes) =
            (None, first_line.starts_with("HTTP/1.0") || first_line.ends_with("HTTP/1.0"));
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                framing =
                    Some(Framing::Length(value.parse().map_err(|_| "a content-length that is no number")?));
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
            {
                framing = Some(Framing::Chunked);
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.eq_ignore_ascii_case("close");
            }
        }
        let framing = framing.unwrap_or(if is_answer { Framing::UntilClose } else { Framing::Length(0) });
        closes |= framing == Framing::UntilClose;
        Ok(Some(Self { first_line, framing, closes, bytes: end + 4 }))
    }

    pub fn status(&self) -> Option<u16> {
        self.first_line.split(' ').nth(1)?.parse().ok()
    }
}

/// Takes a body off a connection's bytes, in whatever pieces they come.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    /// Bytes left of the body or of the current chunk.
    left: usize,
    done: bool,
}

impl Body {
    pub fn new(framing: Framing) -> Self {
        let left = if let Framing::Length(bytes) = framing { bytes } else { 0 };
        Self { framing, left, done: framing == Framing::Length(0) }
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Moves what is body from `raw` to `payload`; what belongs to no complete piece stays.
    pub fn take(&mut self, raw: &mut Vec<u8>, payload: &mut Vec<u8>) -> Result<(), &'static str> {
        let mut at = 0;
        while !self.done && at < raw.len() {
            match self.framing {
                Framing::UntilClose => {
                    payload.extend_from_slice(&raw[at..]);
                    at = raw.len();
                }
                Framing::Length(_) => {
                    at += self.copy(&raw[at..], payload);
                    self.done = self.left == 0;
                }
                Framing::Chunked if self.left > 0 => at += self.copy(&raw[at..], payload),
                Framing::Chunked => {
                    let Some(size) = self.chunk_size(&raw[at..])? else { break };
                    at += size;
                }
            }
        }
        raw.drain(..at);
        Ok(())
    }

    fn copy(&mut self, raw: &[u8], payload: &mut Vec<u8>) -> usize {
        let bytes = self.left.min(raw.len());
        payload.extend_from_slice(&raw[..bytes]);
        self.left -= bytes;
        bytes
    }

    /// Reads a chunk's line (after the previous chunk's line end) and returns its bytes, once all of it is there.
    fn chunk_size(&mut self, raw: &[u8]) -> Result<Option<usize>, &'static str> {
        let skipped = if raw.starts_with(b"\r\n") { 2 } else { 0 };
        let Some(end) = raw[skipped..].windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let line = std::str::from_utf8(&raw[skipped..skipped + end])
            .map_err(|_| "a chunk's size that is not text")?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| "a chunk's size that is no number")?;
        let mut bytes = skipped + end + 2;
        if size == 0 {
            // Trailers are not used by anybody here: the empty line follows at once.
            if raw.len() < bytes + 2 {
                return Ok(None);
            }
            bytes += 2;
            self.done = true;
        }
        self.left = size;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_by(step: usize, message: &[u8]) -> (Head, Vec<u8>, Vec<u8>) {
        let (mut raw, mut payload) = (Vec::new(), Vec::new());
        let mut head: Option<(Head, Body)> = None;
        for piece in message.chunks(step) {
            raw.extend_from_slice(piece);
            if head.is_none()
                && let Some(found) = Head::read(&raw).unwrap()
            {
                raw.drain(..found.bytes);
                let body = Body::new(found.framing);
                head = Some((found, body));
            }
            if let Some((_, body)) = &mut head {
                body.take(&mut raw, &mut payload).unwrap();
            }
        }
        let (head, body) = head.expect("the head came");
        assert!(body.is_done());
        (head, payload, raw)
    }

    #[test]
    fn a_message_reads_the_same_however_it_is_cut() {
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n6;x=y\r\n text!\r\n0\r\n\r\n";
        let counted = b"HTTP/1.1 201 Made\r\ncontent-length: 10\r\nConnection: close\r\n\r\nsome text!NEXT";
        for step in 1..chunked.len() {
            let (head, payload, _) = read_by(step, chunked);
            assert_eq!(
                (head.status(), head.closes, payload.as_slice()),
                (Some(200), false, b"some text!".as_slice())
            );
            let (head, payload, rest) = read_by(step, counted);
            assert_eq!(
                (head.status(), head.closes, payload.as_slice()),
                (Some(201), true, b"some text!".as_slice())
            );
            assert_eq!(rest, b"NEXT", "what follows belongs to the next message");
        }
    }

    #[test]
    fn what_is_not_http_is_named() {
        assert!(Head::read(&[b'x'; HEAD_BYTES_MAX + 1]).is_err());
        let mut body = Body::new(Framing::Chunked);
        assert!(body.take(&mut b"zz\r\n".to_vec(), &mut Vec::new()).is_err());
    }
}
