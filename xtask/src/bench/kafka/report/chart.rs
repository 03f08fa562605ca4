//! Horizontal bars: messages a second with `acks=all`, a group for each load, the null server among them.

use std::fmt::Write as _;

use anyhow::Result;

use super::super::server::System;
use super::Case;

const ROW: f64 = 22.0;
const GROUP: f64 = 30.0;
const LEFT: f64 = 210.0;
const WIDTH: f64 = 500.0;

/// The chart as SVG.
pub(super) fn draw(cases: &[Case]) -> Result<String> {
    let mut cases: Vec<&Case> =
        cases.iter().filter(|case| case.shape.acks == "all" && !case.rounds.is_empty()).collect();
    cases.sort_by_key(|case| (case.shape.size, case.shape.partitions));
    let rate = |case: &Case| case.median(|turn| turn.rate);
    let high = cases.iter().map(|case| rate(case)).fold(1.0, f64::max);
    let groups = cases.chunk_by(|a, b| a.shape == b.shape).count();
    let bottom = 50.0 + cases.len() as f64 * ROW + groups as f64 * GROUP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 830 {0}\" width=\"830\" height=\"{0}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"830\" height=\"{0}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Messages a second that one producer gets \
         acknowledged</text>\n",
        bottom + 16.0
    );
    let mut y = 40.0;
    for group in cases.chunk_by(|a, b| a.shape == b.shape) {
        writeln!(svg, "<text x=\"16\" y=\"{}\" font-weight=\"bold\">{}</text>", y + 21.0, group[0].name())?;
        y += GROUP;
        for case in group {
            let colour = match case.place.system {
                System::Durable => "#3a78b5",
                System::Memory => "#7fb2dd",
                System::Noida => "#e0a030",
                System::Tansu => "#009e73",
                System::Null => "#bbbbbb",
            };
            let (width, label) = (rate(case) / high * WIDTH, LEFT - 10.0);
            writeln!(svg, "<text x=\"{label}\" y=\"{}\" text-anchor=\"end\">{}</text>", y + 15.0, case.place.name())?;
            let bar = format!("x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"16\"", y + 3.0);
            writeln!(svg, "<rect {bar} fill=\"{colour}\"/>")?;
            writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{:.0}k</text>", LEFT + width + 6.0, y + 15.0, rate(case) / 1e3)?;
            y += ROW;
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::super::super::server::Place;
    use super::super::super::{Shape, Turn};
    use super::*;

    #[test]
    fn the_chart_has_a_bar_for_each_system_at_each_load() {
        let of = |system, acks, size| Case {
            place: Place { system, nodes: 1 },
            shape: Shape { partitions: 1, size, acks },
            failed: 0,
            rounds: vec![Turn { rate: 5000.0, ..Turn::default() }],
        };
        let all = [of(System::Durable, "all", 100), of(System::Null, "all", 1024), of(System::Durable, "1", 100)];
        let svg = draw(&all).unwrap();
        assert_eq!(svg.matches("<rect ").count(), 3);
        assert_eq!(svg.matches(">5k<").count(), 2);
    }
}
