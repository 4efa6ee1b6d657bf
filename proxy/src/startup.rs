//! Lets go of the code that only starting needed.
//!
//! A sidecar runs beside every service, so what it holds counts a hundred times. Most of that are pages of its program and its
//! libraries, mapped while it read its settings, set up TLS and took in its first configuration, and hardly looked
//! at again. They are unmapped once it serves; what is needed later comes back from the page cache, a fault each.

use rustix::mm::{Advice, madvise};
use std::ffi::c_void;
use std::fs;
use std::time::Duration;

/// From the first configuration until everything has been used that serving uses.
pub(crate) const SETTLING: Duration = Duration::from_secs(1);

/// Unmaps code and constants. They are mapped again where they are used.
pub(crate) fn let_go() {
    let Ok(mappings) = fs::read_to_string("/proc/self/smaps") else { return };
    for (start, end) in unchanged_files(&mappings) {
        #[expect(
            unsafe_code,
            reason = "the range maps a file, nobody may write to it, and it has no pages but the file's own"
        )]
        // SAFETY: dropped pages are read from the file again; relocated pages, which are not the file's, are left out.
        let dropped = unsafe { madvise(start as *mut c_void, end - start, Advice::LinuxDontNeed) };
        if let Err(error) = dropped {
            tracing::debug!(%error, "the code of start-up stays mapped");
        }
    }
}

/// The ranges of `/proc/self/smaps` that map a file read-only and have no page of their own.
fn unchanged_files(mappings: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut range = None;
    for line in mappings.lines() {
        match line.split_once(": ").or_else(|| line.split_once(':')) {
            Some(("Anonymous", pages)) if pages.trim() == "0 kB" => ranges.extend(range.take()),
            Some((key, _)) if !key.contains(' ') => {}
            _ => range = read_only_file(line),
        }
    }
    ranges
}

/// `55a079507000-55a07a0ca000 r-xp 003e0000 fe:00 5311245   /usr/bin/weft`
fn read_only_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights, _offset, _device, _inode, path) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if !path.starts_with('/') || !matches!(rights, "r-xp" | "r--p") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_files_that_nobody_may_write_are_let_go() {
        let mapping = |head: &str, anonymous: u32| {
            format!("{head}\nSize:   4 kB\nRss:    4 kB\nAnonymous:   {anonymous} kB\nVmFlags: rd ex mr mw me\n")
        };
        let mappings = [
            mapping("1000-2000 r-xp 003e0000 fe:00 5311245                    /usr/bin/weft", 0),
            mapping("2000-3000 r--p 003e0000 fe:00 5311245                    /usr/bin/weft", 8),
            mapping("3000-4000 rw-p 003e0000 fe:00 5311245                    /usr/bin/weft", 0),
            mapping("4000-5000 rw-p 00000000 00:00 0", 0),
            mapping("5000-6000 r-xp 00000000 00:00 0                          [vdso]", 0),
            mapping("7f0000006000-7f0000007000 r--p 00000000 fe:00 7           /usr/lib/libc.so.6", 0),
        ];
        let expected = [(0x1000, 0x2000), (0x7f00_0000_6000, 0x7f00_0000_7000)];
        assert_eq!(unchanged_files(&mappings.concat()), expected);
    }

    #[test]
    fn the_program_goes_on_without_it() {
        let_go();
        let_go();
    }
}
