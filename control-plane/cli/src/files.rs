//! The YAML files below a path, as the control plane sees them: `.yaml`, `.yml` and `.json`, no
//! hidden ones (editors leave those, and ConfigMaps keep their versions in `..data`).

use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How deep directories may be nested; a ring of symbolic links ends here.
const DEPTH_LIMIT: usize = 16;

/// What tells that a file is another than before, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// All files at or below `path`, each with its stamp. A file that is named itself counts whatever its ending.
pub(crate) fn find(path: &Path) -> anyhow::Result<BTreeMap<PathBuf, Stamp>> {
    let about = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut found = BTreeMap::new();
    if about.is_dir() {
        walk(path, 0, &mut found)?;
    } else {
        found.insert(path.to_owned(), stamp(&about));
    }
    Ok(found)
}

/// A file's text, no more of it than the reader of configuration takes; what is not UTF-8 becomes
/// replacement characters, which it then complains of at their place.
pub(crate) fn text(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(weft_config::MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn walk(directory: &Path, depth: usize, found: &mut BTreeMap<PathBuf, Stamp>) -> anyhow::Result<()> {
    if depth > DEPTH_LIMIT {
        bail!("{}: more than {DEPTH_LIMIT} directories deep; is there a ring of symbolic links?", directory.display());
    }
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
        let (name, path) = (entry.file_name(), entry.path());
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Gone between the listing and now, or a link to nowhere: not there.
        let Ok(about) = fs::metadata(&path) else { continue };
        if about.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known)) {
            found.insert(path, stamp(&about));
        }
    }
    Ok(())
}

fn stamp(about: &fs::Metadata) -> Stamp {
    Stamp { inode: about.ino(), length: about.len(), modified: (about.mtime(), about.mtime_nsec()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn yaml_below_a_directory_is_found_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("policies")).unwrap();
        fs::create_dir(at("..version1")).unwrap();
        for name in ["b.yaml", "a.yml", "policies/c.json", ".hidden.yaml", "notes.txt", "..version1/d.yaml"] {
            fs::write(at(name), "x").unwrap();
        }
        symlink("..version1/d.yaml", at("d.yaml")).unwrap();
        symlink("nowhere", at("e.yaml")).unwrap();
        let found: Vec<PathBuf> = find(directory.path()).unwrap().into_keys().collect();
        assert_eq!(found, ["a.yml", "b.yaml", "d.yaml", "policies/c.json"].map(at));
    }

    #[test]
    fn a_file_written_by_rename_has_another_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let (path, beside) = (directory.path().join("a.yaml"), directory.path().join("a.tmp"));
        fs::write(&path, "one").unwrap();
        let before = find(&path).unwrap();
        assert_eq!(find(&path).unwrap(), before);
        fs::write(&beside, "two").unwrap();
        fs::rename(&beside, &path).unwrap();
        assert_ne!(find(&path).unwrap(), before);
    }

    #[test]
    fn a_ring_of_links_ends() {
        let directory = tempfile::tempdir().unwrap();
        symlink(".", directory.path().join("again")).unwrap();
        assert!(find(directory.path()).unwrap_err().to_string().contains("ring"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(find(Path::new("/no/such/place")).unwrap_err().to_string().contains("/no/such/place"));
    }
}
