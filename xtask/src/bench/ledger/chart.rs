//! The chart of `bench ledger`: a bar for each way, by nodes and size.

use std::fmt::Write as _;

use anyhow::Result;

use super::Case;

/// A row's height, and where bars begin and how long the longest is; in pixels.
const ROW: f64 = 19.0;
const LEFT: f64 = 190.0;
const LENGTH: f64 = 300.0;
/// A column holds the cases of one number of nodes.
const COLUMN: f64 = 590.0;
/// What stands above the first group, and above each group's bars.
const TOP: f64 = 44.0;
const HEAD: f64 = 28.0;

fn colour(case: &Case) -> &'static str {
    match (case.way.agreement, case.way.commands) {
        ("raft", _) => "#bbbbbb",
        ("paxos", _) => "#8f8f8f",
        (_, 1) => "#c0504d",
        (_, 16) => "#e0a030",
        _ => "#3a78b5",
    }
}

/// Requests a second, in groups by size. Bars of one group are to one scale, for sizes differ by a thousand.
pub(super) fn chart(cases: &[Case]) -> Result<String> {
    let groups: Vec<&[Case]> = cases.chunk_by(|a, b| a.shape == b.shape).collect();
    let mut columns: Vec<u64> = groups.iter().map(|group| group[0].shape.nodes).collect();
    columns.dedup();
    let of = |nodes: u64| groups.iter().filter(move |group| group[0].shape.nodes == nodes);
    let tall = |nodes: u64| of(nodes).map(|group| HEAD + group.len() as f64 * ROW).sum::<f64>();
    let height = TOP + columns.iter().map(|nodes| tall(*nodes)).fold(0.0, f64::max) + 16.0;
    let width = COLUMN * columns.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Requests a second that a ledger orders (each group to \
         its own scale)</text>\n"
    );
    for (number, nodes) in columns.iter().enumerate() {
        let (left, mut y) = (COLUMN * number as f64, TOP);
        for group in of(*nodes) {
            let size = super::report::size(group[0].shape.size);
            let head = format!("{nodes} nodes, {size}");
            writeln!(svg, "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{head}</text>", left + 16.0, y + 20.0)?;
            y += HEAD;
            let ops: Vec<f64> = group.iter().map(|case| case.median("ops")).collect::<Result<_>>()?;
            let most = ops.iter().copied().fold(1.0, f64::max);
            for (case, ops) in group.iter().zip(ops) {
                let (long, from) = (ops / most * LENGTH, left + LEFT + 10.0);
                let (name, at) = (case.way.name(), y + 13.0);
                writeln!(svg, "<text x=\"{}\" y=\"{at}\" text-anchor=\"end\">{name}</text>", left + LEFT)?;
                let bar = format!("x=\"{from}\" y=\"{}\" width=\"{long:.1}\" height=\"14\"", y + 2.0);
                writeln!(svg, "<rect {bar} fill=\"{}\"/>", colour(case))?;
                writeln!(svg, "<text x=\"{:.1}\" y=\"{at}\">{ops:.0}</text>", from + long + 6.0)?;
                y += ROW;
            }
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, Way};
    use super::*;

    #[test]
    fn the_chart_has_a_bar_for_each_case() {
        let case = |nodes, way| {
            let rounds = vec![vec![("ops".to_owned(), 250.0)], vec![("ops".to_owned(), 1_000.0)]];
            Case { shape: Shape { nodes, size: 64 }, way, rounds }
        };
        let cases: Vec<Case> = [4, 7].into_iter().flat_map(|nodes| Way::ALL.map(|way| case(nodes, way))).collect();
        let svg = chart(&cases).unwrap();
        assert_eq!(svg.matches("<rect ").count(), 1 + cases.len());
        assert_eq!(svg.matches(">625</text>").count(), cases.len());
    }
}
