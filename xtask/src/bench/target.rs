//! Targets, each printed as met or missed, and by how much.

use std::fmt::Write as _;

use anyhow::Result;

/// One target: what, which figure, and whether it is met.
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) found: String,
    pub(crate) missed_by: Option<String>,
}

/// So many times as much, or more.
pub(crate) fn at_least(what: String, found: f64, wanted: f64, digits: usize) -> Target {
    let missed_by = (found < wanted).then(|| format!("{:.0} %", (1.0 - found / wanted) * 100.0));
    Target { what, wanted: format!(">= {wanted:.digits$}x"), found: format!("{found:.2}x"), missed_by }
}

/// Less than this.
pub(crate) fn at_most(what: String, found: f64, wanted: f64, unit: &str, digits: usize) -> Target {
    let missed_by = (found >= wanted).then(|| format!("{:.0} %", (found / wanted - 1.0) * 100.0));
    Target { what, wanted: format!("< {wanted:.0} {unit}"), found: format!("{found:.digits$} {unit}"), missed_by }
}

/// The section of the targets.
pub(crate) fn section(text: &mut String, targets: &[Target]) -> Result<()> {
    let met = targets.iter().filter(|target| target.missed_by.is_none()).count();
    writeln!(text, "## Targets\n\n{met} of {} are met.\n", targets.len())?;
    text.push_str("| What | Target | Measured | |\n|---|---:|---:|---|\n");
    for Target { what, wanted, found, missed_by } in targets {
        let verdict = missed_by.as_ref().map_or("met".to_owned(), |by| format!("**missed** by {by}"));
        writeln!(text, "| {what} | {wanted} | {found} | {verdict} |")?;
    }
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_says_by_how_much() {
        assert_eq!(at_least("a".into(), 1.5, 2.0, 0).missed_by.as_deref(), Some("25 %"));
        assert_eq!(at_least("a".into(), 2.0, 2.0, 0).missed_by, None);
        assert_eq!(at_most("a".into(), 60.0, 50.0, "ms", 0).missed_by.as_deref(), Some("20 %"));
        assert_eq!(at_most("a".into(), 49.0, 50.0, "ms", 0).missed_by, None);
    }
}
