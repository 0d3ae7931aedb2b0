//! How is a call named where its maker did not name it, or in letters that another maker refuses?

/// Returns a short word for the bytes: the same for the same, and hardly ever the same for others. It is no defence (it is
/// FNV-1a), and needs none: whoever writes a conversation could name its calls alike without it.
pub(crate) fn fingerprint(bytes: impl IntoIterator<Item = u8>) -> String {
    let hash = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}
