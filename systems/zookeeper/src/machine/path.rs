//! Which paths a node may have.

/// Why a path is refused is the same for all: bad arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadPath;

/// Checks a whole path by ZooKeeper's rules: absolute, no empty, `.` or `..` component, no trailing slash, no control
/// characters, no private use, no specials, nothing beyond the basic plane.
pub(super) fn validate(path: &str) -> Result<(), BadPath> {
    let rest = path.strip_prefix('/').ok_or(BadPath)?;
    if rest.is_empty() {
        return Ok(());
    }
    for name in rest.split('/') {
        if name.is_empty() || name == "." || name == ".." || !name.chars().all(is_allowed) {
            return Err(BadPath);
        }
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    !matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Cuts a path at its last slash: the parent, and where the name begins. The whole is not validated.
pub(super) fn split(path: &str) -> Result<(&str, usize), BadPath> {
    if path.contains('\0') {
        return Err(BadPath);
    }
    let slash = path.rfind('/').ok_or(BadPath)?;
    Ok((&path[..slash], slash + 1))
}

/// Nodes that cannot be deleted.
pub(super) fn is_special(path: &str) -> bool {
    matches!(path, "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each answer is that of ZooKeeper 3.8.0.
    #[test]
    fn as_the_real_server_decides() {
        for good in ["/", "/a", "/...", "/a.b", "/~", "/\u{a0}", "/\u{f900}", "/\u{ffef}", "/\u{feff}", "/\u{d7ff}"] {
            assert_eq!(validate(good), Ok(()), "{good:?}");
        }
        let bad = [
            "",
            "a",
            "/a/",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/a/..",
            "/./a",
            "/\0",
            "/\u{1}",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{80}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{ffff}",
            "/\u{1F600}",
        ];
        for bad in bad {
            assert_eq!(validate(bad), Err(BadPath), "{bad:?}");
        }
    }

    #[test]
    fn splitting() {
        assert_eq!(split("/a/b"), Ok(("/a", 3)));
        assert_eq!(split("/a"), Ok(("", 1)));
        assert_eq!(split("a"), Err(BadPath));
        assert_eq!(split("/a\0"), Err(BadPath));
    }
}
