//! Rows under a head, each column as wide as it must be. Numbers stand on the right.

use std::fmt::Write as _;

/// The text of a table. A column whose head begins with `>` holds numbers.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let plain = |column: usize| head[column].trim_start_matches('>');
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([plain(column).len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let heads: Vec<String> = (0..head.len()).map(|column| plain(column).to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match head[column].starts_with('>') {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [vec!["orders".to_owned(), "12".to_owned(), "x".to_owned()]];
        assert_eq!(
            table(&["topic", ">partitions", "note"], &rows),
            "topic   partitions  note\norders          12  x\n"
        );
        assert_eq!(table(&["topic"], &[]), "topic\n");
    }
}
