//! Races as a picture: formulas are lines, what was raced are points with their intervals.

use std::fmt::Write as _;

use verity_nakamoto::finality::{nakamoto, reversal, selfish_share};

use super::races::{Row, SelfishRow};

const WIDTH: f64 = 1_040.0;
const HEIGHT: f64 = 470.0;
/// A panel's axes, in pixels.
const TOP: f64 = 70.0;
const BOTTOM: f64 = 400.0;
const LEFT: [f64; 2] = [80.0, 600.0];
const LENGTH: f64 = 400.0;
/// The lowest odds that are drawn.
const FLOOR: f64 = 1e-4;
const CONFIRMATIONS_MAX: f64 = 9.0;
const SHARE_MAX: f64 = 0.45;
const COLOURS: [&str; 6] = ["#2f6fb0", "#3d9a50", "#d08a1d", "#c0504d", "#7a5aa6", "#555555"];

/// From a confirmation count and odds to a place: odds by their logarithm.
fn at_odds(z: f64, odds: f64) -> (f64, f64) {
    let down = (odds.max(FLOOR).log10() / FLOOR.log10()).clamp(0.0, 1.0);
    (LEFT[0] + z / CONFIRMATIONS_MAX * LENGTH, TOP + down * (BOTTOM - TOP))
}

/// From a share of the power and one of the blocks to a place.
fn at_share(power: f64, blocks: f64) -> (f64, f64) {
    (LEFT[1] + power / SHARE_MAX * LENGTH, BOTTOM - blocks.clamp(0.0, 1.0) * (BOTTOM - TOP))
}

fn line(svg: &mut String, points: impl Iterator<Item = (f64, f64)>, style: &str) {
    let path: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" {style}/>", path.join(" "));
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

/// A point with its interval.
fn point(svg: &mut String, (x, y): (f64, f64), [low, high]: [f64; 2], colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
    );
    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
}

fn grid(svg: &mut String) {
    for left in LEFT {
        let _ =
            writeln!(svg, "<path d=\"M{left} {TOP} V{BOTTOM} H{}\" fill=\"none\" stroke=\"#333333\"/>", left + LENGTH);
    }
    for (odds, words) in [(1.0, "100 %"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %"), (FLOOR, "0.01 %")] {
        let (x, y) = at_odds(0.0, odds);
        text(svg, (x - 8.0, y + 4.0), "end", words);
        let _ =
            writeln!(svg, "<line x1=\"{x}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>", x + LENGTH);
    }
    for z in 0..=8u32 {
        let (x, _) = at_odds(f64::from(z), 1.0);
        text(svg, (x, BOTTOM + 18.0), "middle", &z.to_string());
    }
    for blocks in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (x, y) = at_share(0.0, blocks);
        text(svg, (x - 8.0, y + 4.0), "end", &format!("{:.0} %", blocks * 100.0));
        let _ =
            writeln!(svg, "<line x1=\"{x}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>", x + LENGTH);
    }
    for power in [0.0, 0.1, 0.2, 0.3, 0.4] {
        let (x, _) = at_share(power, 0.0);
        text(svg, (x, BOTTOM + 18.0), "middle", &format!("{:.0} %", power * 100.0));
    }
    text(svg, (LEFT[0] + LENGTH / 2.0, BOTTOM + 38.0), "middle", "confirmations");
    text(svg, (LEFT[1] + LENGTH / 2.0, BOTTOM + 38.0), "middle", "the attacker's share of all hash power");
}

/// Both kinds of races.
pub(super) fn races(races: &[Row], miners: &[SelfishRow]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    for (left, title, words) in [
        (LEFT[0], "A payment is reversed", "lines: exact; dashed: Nakamoto's approximation; points: raced"),
        (
            LEFT[1],
            "A selfish miner's part of the blocks",
            "lines: Eyal &amp; Sirer; points: mined; dashed: honest mining",
        ),
    ] {
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"28\" font-size=\"15\" font-weight=\"bold\">{title}</text>");
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"48\" fill=\"#666666\">{words}</text>");
    }
    grid(&mut svg);
    for (number, group) in races.chunk_by(|a, b| a.race.share == b.race.share).enumerate() {
        let (colour, share) = (COLOURS[number % COLOURS.len()], group[0].race.share);
        let solid = format!("stroke=\"{colour}\" stroke-width=\"2\"");
        let drawn = |odds: fn(u32, f64) -> f64| {
            let all = (0..=8u32).map(move |z| (z, odds(z, share)));
            all.take_while(|(_, odds)| *odds >= FLOOR).map(|(z, odds)| at_odds(f64::from(z), odds))
        };
        line(&mut svg, drawn(reversal), &solid);
        line(&mut svg, drawn(nakamoto), &format!("{solid} stroke-dasharray=\"3 4\""));
        if let Some((x, y)) = drawn(reversal).last() {
            text(&mut svg, (x + 6.0, y - 4.0), "start", &format!("{:.0} %", share * 100.0));
        }
        for row in group.iter().filter(|row| row.raced.frequency().0 >= FLOOR) {
            let (z, (frequency, [low, high])) = (f64::from(row.race.confirmations), row.raced.frequency());
            point(&mut svg, at_odds(z, frequency), [at_odds(z, low).1, at_odds(z, high).1], colour);
        }
    }
    line(
        &mut svg,
        [at_share(0.0, 0.0), at_share(SHARE_MAX, SHARE_MAX)].into_iter(),
        "stroke=\"#888888\" stroke-dasharray=\"3 4\"",
    );
    for (number, group) in miners.chunk_by(|a, b| a.plan.gamma == b.plan.gamma).enumerate() {
        let (colour, gamma) = (COLOURS[number % COLOURS.len()], group[0].plan.gamma);
        let steps = (0..=90u32).map(|step| f64::from(step) / 200.0);
        let formula = steps.map(|power| at_share(power, selfish_share(power, gamma)));
        line(&mut svg, formula, &format!("stroke=\"{colour}\" stroke-width=\"2\""));
        // The lines end side by side: their names stand where there is room.
        let (x, y) = (LEFT[1] + 20.0, TOP + 24.0 + 20.0 * number as f64);
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{}\" width=\"18\" height=\"4\" fill=\"{colour}\"/>", y - 6.0);
        text(&mut svg, (x + 26.0, y), "start", &format!("&#947; = {gamma}"));
        for SelfishRow { plan, outcome } in group {
            let place = |blocks| at_share(plan.share, blocks);
            let ends = [outcome.share - outcome.half_width, outcome.share + outcome.half_width];
            point(&mut svg, place(outcome.share), ends.map(|end| place(end).1), colour);
        }
    }
    svg + "</svg>\n"
}
