//! Where does a secret come from, and how does it stay one?
//!
//! A file of settings names the place of a secret, never the secret: it may be shown, committed and mailed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// Bytes of a secret's file: the largest, a service account's JSON with its key, has about 2,400.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Docker mounts secrets here, in memory and readable by all inside of a container where there is nobody else.
const MOUNTED_BY_ORCHESTRATORS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// A password, key or token. It is printed nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// `{ env = "NAME" }` or `{ file = "/path" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    Environment(String),
    File(PathBuf),
}

/// A secret that cannot be had. It says where it was looked for, and nothing of what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the environment variable {0} is not set")]
    Unset(String),
    #[error("the environment variable {0} is empty")]
    EmptyVariable(String),
    #[error("the file {} cannot be read: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("the file {} is empty", .0.display())]
    EmptyFile(PathBuf),
    #[error("the file {} has more than {FILE_BYTES_MAX} bytes; is it the right one?", .0.display())]
    LargeFile(PathBuf),
    #[error("the file {path} can be read by everybody on this machine; do: chmod 600 {path}", path = .0.display())]
    Open(PathBuf),
}

impl Secret {
    /// Returns the secret itself: for the header that it goes into, and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl SecretSource {
    /// Returns the secret as it is now; whoever changes it is heard at the next reload.
    pub fn read(&self) -> Result<Secret, SecretError> {
        self.read_from(|name| std::env::var(name).ok())
    }

    /// As [`Self::read`], with another environment.
    fn read_from(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        match self {
            Self::Environment(name) => match variable(name) {
                None => Err(SecretError::Unset(name.clone())),
                Some(value) if value.trim().is_empty() => Err(SecretError::EmptyVariable(name.clone())),
                Some(value) => Ok(Secret(value.trim_end_matches(['\r', '\n']).to_owned())),
            },
            Self::File(path) => read_file(path),
        }
    }

    /// Returns the file to watch for changes, where there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Environment(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "{{ env = {name:?} }}"),
            Self::File(path) => write!(f, "{{ file = {path:?} }}"),
        }
    }
}

fn read_file(path: &Path) -> Result<Secret, SecretError> {
    let unreadable =
        |error: std::io::Error| SecretError::Unreadable { path: path.into(), why: error.to_string() };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if is_open_to_all(&metadata) && !MOUNTED_BY_ORCHESTRATORS.iter().any(|folder| path.starts_with(folder)) {
        return Err(SecretError::Open(path.into()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(SecretError::LargeFile(path.into()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    // Editors and `echo` end a file with a newline, which no header may hold.
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        Err(SecretError::EmptyFile(path.into()))
    } else {
        Ok(Secret(text.to_owned()))
    }
}

#[cfg(unix)]
fn is_open_to_all(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn is_open_to_all(_: &std::fs::Metadata) -> bool {
    false
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = SecretSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the place of a secret: { env = \"NAME\" } or { file = \"/path\" }")
            }

            // What was written is not repeated: it is probably the secret.
            fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretSource, E> {
                Err(E::custom(
                    "a secret is not written into this file: put it into the environment and write { env = \"NAME\" }, or into a \
                     file and write { file = \"/path\" }",
                ))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
                const FIELDS: &[&str] = &["env", "file"];
                let Some(field) = map.next_key::<String>()? else {
                    return Err(de::Error::custom(
                        "say where the secret is: { env = \"NAME\" } or { file = \"/path\" }",
                    ));
                };
                let value: String = map.next_value()?;
                let source = match field.as_str() {
                    "env" if is_variable(&value) => SecretSource::Environment(value),
                    "env" => {
                        return Err(de::Error::custom(
                            "env takes the name of an environment variable: letters, digits and _, such as \"OPENAI_API_KEY\"",
                        ));
                    }
                    "file" => SecretSource::File(value.into()),
                    other => return Err(de::Error::unknown_field(other, FIELDS)),
                };
                match map.next_key::<String>()? {
                    None => Ok(source),
                    Some(_) => Err(de::Error::custom("give env or file, and nothing else")),
                }
            }
        }
        deserializer.deserialize_any(Source)
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        key: SecretSource,
    }

    fn refusal(text: &str) -> String {
        toml::from_str::<Holder>(text).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_secret_is_named_by_its_place_and_never_written() {
        let holder: Holder = toml::from_str("key = { env = 'A_KEY' }").unwrap();
        assert_eq!(holder.key, SecretSource::Environment("A_KEY".into()));
        let told = refusal("key = 'sk-abcdef123456'");
        assert!(told.contains("{ env = \"NAME\" }") && !told.contains("abcdef"), "{told}");
        let told = refusal("key = { env = 'sk-abcdef-123456' }");
        assert!(told.contains("name of an environment variable") && !told.contains("abcdef"), "{told}");
        assert!(refusal("key = { value = 'x' }").contains("unknown field `value`"));
        assert!(refusal("key = { env = 'A', file = 'b' }").contains("nothing else"));
        assert!(refusal("key = {}").contains("say where"));
    }

    #[test]
    fn nothing_that_prints_prints_a_secret() {
        let secret = Secret("sk-abcdef".into());
        assert!(!format!("{secret} {secret:?} {:?}", Some(&secret)).contains("abcdef"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_read_without_its_newline_and_refused_when_everybody_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let source = SecretSource::File(path.clone());
        assert!(matches!(source.read(), Err(SecretError::Unreadable { .. })));
        std::fs::write(&path, "sk-abcdef\r\n").unwrap();
        let allow = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        allow(0o600);
        assert_eq!(source.read().unwrap().reveal(), "sk-abcdef");
        allow(0o640);
        assert!(source.read().is_ok(), "a group of one's own may read it");
        allow(0o644);
        let told = source.read().unwrap_err().to_string();
        assert!(told.contains("chmod 600") && !told.contains("abcdef"), "{told}");
        allow(0o600);
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(source.read(), Err(SecretError::EmptyFile(path)));
    }

    #[test]
    fn an_unset_variable_is_told_by_its_name() {
        let source = SecretSource::Environment("NOBODY".into());
        assert_eq!(
            source.read_from(|_| None).unwrap_err().to_string(),
            "the environment variable NOBODY is not set"
        );
        assert!(source.read_from(|_| Some("  ".into())).is_err());
        assert_eq!(source.read_from(|_| Some("x\n".into())).unwrap().reveal(), "x");
    }
}
