//! Lets go of the code that only starting needed.
//!
//! A sidecar runs beside every service, so what it holds counts a hundred times. Two thirds of that are pages of its own
//! program, mapped while it read its settings, set up TLS and took in its first configuration, and hardly looked
//! at again. They are unmapped once it serves; what is needed later comes back from the page cache, a fault each.

use rustix::mm::{Advice, madvise};
use std::ffi::c_void;
use std::fs;

/// Unmaps this program's code. It is mapped again where it is used.
pub(crate) fn let_go() {
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (start, end) in maps.lines().filter_map(|line| code_of(line, &program.to_string_lossy())) {
        #[expect(
            unsafe_code,
            reason = "the range is a mapping of a file, read-only and executable, so it has no pages but the file's own"
        )]
        // SAFETY: nothing can have written there; dropped pages are read from the file again.
        let dropped = unsafe { madvise(start as *mut c_void, end - start, Advice::LinuxDontNeed) };
        if let Err(error) = dropped {
            tracing::debug!(%error, "the code of start-up stays mapped");
        }
    }
}

/// The range of a line of `/proc/self/maps`, if it is code of this program that nobody can write to.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    if rights != "r-xp" || !line.ends_with(program) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_let_go() {
        let code = "55a079507000-55a07a0ca000 r-xp 003e0000 fe:00 5311245                    /usr/bin/weft";
        assert_eq!(code_of(code, "/usr/bin/weft"), Some((0x55a0_7950_7000, 0x55a0_7a0c_a000)));
        assert_eq!(code_of(code, "/usr/bin/other"), None);
        assert_eq!(code_of(&code.replace("r-xp", "r--p"), "/usr/bin/weft"), None);
        assert_eq!(code_of(&code.replace("r-xp", "rwxp"), "/usr/bin/weft"), None);
        assert_eq!(code_of("7fff7d236000-7fff7d25c000 r-xp 00000000 00:00 0 [vdso]", "/usr/bin/weft"), None);
    }

    #[test]
    fn the_program_goes_on_without_it() {
        let_go();
        let_go();
    }
}
