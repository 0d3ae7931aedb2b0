//! Where does one JSON object end and the next begin, in a body that is one object or an array of them?

/// Cuts a body into its outermost objects, fed in pieces of any size. Whether they are good JSON is seen by who reads them.
#[derive(Debug)]
pub(super) struct Objects {
    /// What has come of the object that is not complete; at most `bytes_max`.
    pending: Vec<u8>,
    bytes_max: usize,
    /// Braces and brackets that are open within the object.
    depth: usize,
    within: Within,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Structure,
    Text,
    /// Behind a backslash in a text.
    Escape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadObjects {
    TooLarge(usize),
    /// Something else than an object, or an array of them.
    NoObject,
}

impl Objects {
    pub fn new(bytes_max: usize) -> Self {
        Self { pending: Vec::new(), bytes_max, depth: 0, within: Within::Structure }
    }

    /// Adds bytes; returns the objects that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, BadObjects> {
        let mut objects = Vec::new();
        for &byte in bytes {
            if self.depth == 0 {
                match byte {
                    b'{' => {}
                    b'[' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' => continue,
                    _ => return Err(BadObjects::NoObject),
                }
            }
            if self.pending.len() == self.bytes_max {
                return Err(BadObjects::TooLarge(self.bytes_max));
            }
            self.pending.push(byte);
            self.step(byte);
            if self.depth == 0 {
                objects.push(std::mem::take(&mut self.pending));
            }
        }
        Ok(objects)
    }

    /// Returns whether an object has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.depth > 0
    }

    fn step(&mut self, byte: u8) {
        self.within = match (self.within, byte) {
            (Within::Escape, _) | (Within::Structure, b'"') => Within::Text,
            (Within::Text, b'\\') => Within::Escape,
            (Within::Text, b'"') => Within::Structure,
            (Within::Structure, b'{' | b'[') => {
                self.depth += 1;
                Within::Structure
            }
            (Within::Structure, b'}' | b']') => {
                self.depth -= 1;
                Within::Structure
            }
            (within, _) => within,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Result<Vec<String>, BadObjects> {
        let mut objects = Objects::new(64);
        let mut found = Vec::new();
        for piece in pieces {
            found.extend(objects.feed(piece)?.into_iter().map(|object| String::from_utf8(object).unwrap()));
        }
        Ok(found)
    }

    #[test]
    fn objects_are_found_alone_and_in_arrays_wherever_the_body_is_cut() {
        let body = br#"[{"a":"}\"]{"},
            {"b":[{"c":"\\"}]}]"#;
        let expected = [r#"{"a":"}\"]{"}"#, r#"{"b":[{"c":"\\"}]}"#];
        for place in 0..=body.len() {
            assert_eq!(cut(&[&body[..place], &body[place..]]).unwrap(), expected, "cut at {place}");
        }
        assert_eq!(cut(&[b" {\"a\":1}\n"]).unwrap(), [r#"{"a":1}"#]);
    }

    #[test]
    fn what_is_no_object_or_too_large_is_refused() {
        assert_eq!(cut(&[b"[1]"]), Err(BadObjects::NoObject));
        assert_eq!(cut(&[&[b'{'; 65]]), Err(BadObjects::TooLarge(64)));
    }
}
