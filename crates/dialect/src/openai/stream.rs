//! How do server-sent events carry an answer?

use serde::Serialize;

/// The event that ends a stream which ended well, and no other.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Returns `value` as JSON. Wire types are plain data, so writing them cannot fail.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire types are plain data with text keys")
}

/// Returns one event, ready for the socket.
pub(super) fn frame<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = b"data: ".to_vec();
    serde_json::to_writer(&mut bytes, value).expect("wire types are plain data with text keys");
    bytes.extend_from_slice(b"\n\n");
    bytes
}

/// Returns the last event of an answer that broke.
pub(super) fn error_frame(trouble: &crate::Trouble) -> Vec<u8> {
    let mut bytes = b"data: ".to_vec();
    bytes.append(&mut super::error_to_json(trouble));
    bytes.extend_from_slice(b"\n\n");
    bytes
}
