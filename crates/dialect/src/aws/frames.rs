//! Where does one frame of an AWS event stream end and the next begin, and is it whole?
//!
//! ```text
//! total length (4) │ headers' length (4) │ CRC of these 8 (4) │ headers │ payload │ CRC of all before (4)
//! ```

use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::Message;

use crate::BadAnswer;

/// Cuts a body into frames, fed in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What has come of the frame that is not complete; at most [`FRAME_BYTES_MAX`] and the piece that came last.
    pending: Vec<u8>,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Event {
        name: String,
        payload: Vec<u8>,
    },
    /// An error that the service's model names.
    Exception {
        name: String,
        payload: Vec<u8>,
    },
    /// One that it does not.
    Error {
        code: String,
        message: String,
    },
}

/// An answer comes in small pieces; AWS itself allows frames of 24 MiB.
pub(super) const FRAME_BYTES_MAX: usize = 4 << 20;

/// A frame without headers and payload.
const FRAME_BYTES_MIN: usize = 16;

impl Frames {
    /// Adds bytes; returns the frames that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, BadAnswer> {
        self.pending.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.pending.get(begin..begin + 4) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(BadAnswer::TooLarge(FRAME_BYTES_MAX));
            }
            if length < FRAME_BYTES_MIN {
                return Err(BadAnswer::Malformed(format!("a frame of {length} bytes")));
            }
            let Some(frame) = self.pending.get(begin..begin + length) else { break };
            let message = read_message_from(frame)
                .map_err(|bad| BadAnswer::Malformed(format!("a bad frame: {bad}")))?;
            frames.push(said(&message)?);
            begin += length;
        }
        self.pending.drain(..begin);
        Ok(frames)
    }

    /// Returns whether a frame has begun and not ended.
    pub fn is_within(&self) -> bool {
        !self.pending.is_empty()
    }
}

fn said(message: &Message) -> Result<Frame, BadAnswer> {
    let header = |name: &str| {
        let found = message.headers().iter().find(|header| header.name().as_str() == name);
        found.and_then(|header| header.value().as_string().ok()).map(|value| value.as_str().to_owned())
    };
    let named =
        |name: &str| header(name).ok_or_else(|| BadAnswer::Malformed(format!("a frame without {name}")));
    let payload = message.payload().to_vec();
    match header(":message-type").as_deref() {
        Some("event") => Ok(Frame::Event { name: named(":event-type")?, payload }),
        Some("exception") => Ok(Frame::Exception { name: named(":exception-type")?, payload }),
        Some("error") => {
            let message = header(":error-message").unwrap_or_default();
            Ok(Frame::Error { code: named(":error-code")?, message })
        }
        _ => Err(BadAnswer::Malformed("a frame that is neither event nor exception nor error".into())),
    }
}
