//! The directories that are watched, and which of what lies in them is configuration.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// One directory, as its owner wrote it and as events name it.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    written: PathBuf,
    pub(crate) path: PathBuf,
}

/// What a path means to a root. Where roots lie in each other, the later of these prevails.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Meaning {
    /// Of another root, or of none.
    Foreign,
    /// An editor's or a tool's own business: hidden files, and what is in hidden directories.
    Hidden,
    /// May be a directory with configuration in it.
    Other,
    /// Named as configuration is; may be a directory for all that.
    Config,
    /// A part that a cluster's kubelet swaps as a whole: `..data`, `..2024_11_21_07_51_00.123`.
    Swap,
    /// The root, or a directory that it is in: whether there is a root may have changed.
    Root,
}

impl Root {
    pub(crate) fn new(written: PathBuf) -> io::Result<Root> {
        let path = std::path::absolute(&written)?;
        Ok(Root { written, path })
    }

    pub(crate) fn meaning(&self, path: &Path) -> Meaning {
        let Ok(inside) = path.strip_prefix(&self.path) else {
            return if self.path.starts_with(path) { Meaning::Root } else { Meaning::Foreign };
        };
        let Some(name) = inside.file_name() else { return Meaning::Root };
        match inside.iter().find(|part| is_hidden(part)) {
            Some(part) if part.as_encoded_bytes().starts_with(b"..") => Meaning::Swap,
            Some(_) => Meaning::Hidden,
            None if is_config(name) => Meaning::Config,
            None => Meaning::Other,
        }
    }

    /// The path for people: relative to where they said the directory is.
    pub(crate) fn name(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.path).unwrap_or(path);
        let name = if inside.as_os_str().is_empty() { self.written.clone() } else { self.written.join(inside) };
        name.to_string_lossy().into_owned()
    }

    /// The nearest directory above that exists: where the root's coming and going is heard.
    pub(crate) fn ancestor(&self) -> Option<&Path> {
        self.path.ancestors().skip(1).find(|above| above.is_dir())
    }
}

/// The root that a path is in; of roots in each other the innermost.
pub(crate) fn of<'r>(roots: &'r [Root], path: &Path) -> Option<&'r Root> {
    let holding = roots.iter().filter(|root| path.starts_with(&root.path));
    holding.max_by_key(|root| root.path.as_os_str().len())
}

/// A leading dot, as everywhere on Unix: `.git`, `.order.yaml.swp`, `..data`.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// `*.yaml`, `*.yml`, `*.json`, without editors' back-ups and locks (`#a.yaml#`, `a.yaml~` and `a.yaml.tmp` end otherwise anyway).
pub(crate) fn is_config(name: &OsStr) -> bool {
    let ends = Path::new(name).extension().and_then(OsStr::to_str);
    let first = name.as_encoded_bytes().first();
    matches!(ends, Some("yaml" | "yml" | "json")) && !matches!(first, Some(b'.' | b'#' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root::new("/etc/weft/policies".into()).unwrap()
    }

    #[test]
    fn configuration_is_yaml_and_json_by_name() {
        for name in ["a.yaml", "a.yml", "a.json", "a b.yaml", "ä.yaml"] {
            assert!(is_config(OsStr::new(name)), "{name}");
        }
        let others =
            ["a", "yaml", ".yaml", "a.yaml~", "#a.yaml#", ".#a.yaml", "~$a.yaml", ".a.yaml.swp", "a.yaml.tmp", "4913"];
        for name in others.into_iter().chain(["a.md", "a.yaml.orig", "a.YAML.bak", "a.yaml___jb_tmp___"]) {
            assert!(!is_config(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn paths_mean_what_they_are_to_a_root() {
        let cases = [
            ("/etc/weft/policies", Meaning::Root),
            ("/etc/weft", Meaning::Root),
            ("/etc", Meaning::Root),
            ("/etc/weft/policies/a.yaml", Meaning::Config),
            ("/etc/weft/policies/shop/a.yaml", Meaning::Config),
            ("/etc/weft/policies/shop", Meaning::Other),
            ("/etc/weft/policies/..data", Meaning::Swap),
            ("/etc/weft/policies/shop/..2024/a.yaml", Meaning::Swap),
            ("/etc/weft/policies/.git/a.yaml", Meaning::Hidden),
            ("/etc/weft/policies/.a.yaml.swp", Meaning::Hidden),
            ("/etc/weft/policies2/a.yaml", Meaning::Foreign),
            ("/etc/passwd", Meaning::Foreign),
        ];
        for (path, meaning) in cases {
            assert_eq!(root().meaning(Path::new(path)), meaning, "{path}");
        }
    }

    #[test]
    fn people_read_the_path_that_they_wrote() {
        let root = Root::new("policies".into()).unwrap();
        assert_eq!(root.name(&root.path.join("shop/a.yaml")), "policies/shop/a.yaml");
        assert_eq!(root.name(&root.path), "policies");
    }
}
