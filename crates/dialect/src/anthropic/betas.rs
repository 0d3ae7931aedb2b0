//! Which of a client's beta features reach an upstream?

/// The beta features that an upstream knows: Anthropic takes any, clouds that resell its models refuse a request with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Betas<'a> {
    All,
    Only(&'a [&'a str]),
}

/// Values in one request; a well-meant one has a few.
const BETAS_MAX: usize = 64;

/// Returns the value of `anthropic-beta` for an upstream: the client's names that it knows and those the request needs, each
/// once. Nothing is left where there is none.
///
/// A name is letters, digits, dots, dashes and underscores; what is not is left out.
pub fn betas(header: &str, known: Betas<'_>, needed: &[&str]) -> Option<String> {
    let is_known = |name: &&str| match known {
        Betas::All => true,
        Betas::Only(names) => names.contains(name),
    };
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let wished = header.split(',').map(str::trim).filter(is_name).filter(is_known).take(BETAS_MAX);
    let mut names: Vec<&str> = Vec::new();
    for name in needed.iter().copied().chain(wished) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_pass_and_each_once() {
        let header = "a-2025-01-01, b-2025-01-01 ,, a-2025-01-01,evil\r\nx: y";
        assert_eq!(betas(header, Betas::All, &[]), Some("a-2025-01-01,b-2025-01-01".into()));
        let known = Betas::Only(&["b-2025-01-01"]);
        assert_eq!(betas(header, known, &["files"]), Some("files,b-2025-01-01".into()));
        assert_eq!(betas("a", Betas::Only(&[]), &[]), None);
    }
}
