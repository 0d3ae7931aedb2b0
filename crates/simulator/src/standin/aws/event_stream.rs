//! How is an event framed in `application/vnd.amazon.eventstream`?
//!
//! Total length, length of the headers, CRC of these two; headers; payload; CRC of everything before. All big-endian.

const STRING: u8 = 7;

/// Returns the frame of an event.
pub fn event(name: &str, payload: &[u8]) -> Vec<u8> {
    frame(
        &[(":event-type", name), (":content-type", "application/json"), (":message-type", "event")],
        payload,
    )
}

/// Returns the frame of an exception, which ends a stream.
pub fn exception(name: &str, payload: &[u8]) -> Vec<u8> {
    frame(
        &[(":exception-type", name), (":content-type", "application/json"), (":message-type", "exception")],
        payload,
    )
}

fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut named = Vec::new();
    for (name, value) in headers {
        named.push(name.len() as u8);
        named.extend(name.as_bytes());
        named.push(STRING);
        named.extend((value.len() as u16).to_be_bytes());
        named.extend(value.as_bytes());
    }
    let total = 12 + named.len() + payload.len() + 4;
    let mut frame = Vec::with_capacity(total);
    frame.extend((total as u32).to_be_bytes());
    frame.extend((named.len() as u32).to_be_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(named);
    frame.extend(payload);
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

/// Returns the CRC-32 of ISO 3309, as gzip uses it, too.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8))
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut place = 0;
    while place < 256 {
        let mut value = place as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[place] = value;
        place += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_frame_says_its_lengths_and_sums() {
        let frame = event("messageStop", b"{}");
        let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(number(0) as usize, frame.len());
        assert_eq!(number(8), crc32(&frame[..8]));
        assert_eq!(number(frame.len() - 4), crc32(&frame[..frame.len() - 4]));
        assert_eq!(&frame[12 + number(4) as usize..frame.len() - 4], b"{}");
    }
}
