//! A counterexample as a picture: one lane a process, one bar an operation, real time to the right.
//!
//! The colours are told apart by people who see few (Okabe & Ito 2008), and the conflict is also thick and marked. The
//! picture brings its own background, so that it reads the same on dark and light pages.

use std::fmt::Write as _;

/// More bars than this are not drawn; the last ones are.
pub const BARS_MAX: usize = 80;

/// What a bar has to do with the conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It takes part.
    Plain,
    /// It cannot be explained.
    Conflict,
    /// It contradicts the one that cannot be explained.
    Against,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Who.
    pub lane: String,
    /// What.
    pub label: String,
    /// When it was called.
    pub from: u64,
    /// When it returned; `None` if nobody knows.
    pub until: Option<u64>,
    /// How it is drawn.
    pub tone: Tone,
}

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 16.0;
const LETTER: f64 = 6.7;
const ROW: f64 = 34.0;
const HEAD: f64 = 64.0;

struct Scale {
    first: u64,
    span: u64,
    left: f64,
}

impl Scale {
    fn x(&self, moment: u64) -> f64 {
        let part = moment.saturating_sub(self.first).min(self.span) as f64 / self.span as f64;
        self.left + part * (WIDTH - MARGIN - 12.0 - self.left)
    }
}

/// Draws the bars. `timed` says that moments are nanoseconds; otherwise they are places in the history.
#[must_use]
pub fn draw(title: &str, bars: &[Bar], timed: bool) -> String {
    let skipped = bars.len().saturating_sub(BARS_MAX);
    let bars = &bars[skipped..];
    let first = bars.iter().map(|bar| bar.from).min().unwrap_or(0);
    let last = bars.iter().map(|bar| bar.until.unwrap_or(bar.from)).max().unwrap_or(0);
    let longest = bars.iter().map(|bar| bar.lane.chars().count()).max().unwrap_or(0).min(24);
    // A little room behind the end, where open bars fade out.
    let span = (last - first).max(1);
    let scale =
        Scale { first, span: span.saturating_add(span.div_ceil(20)), left: MARGIN + 12.0 + longest as f64 * 7.2 };
    let mut lanes: Vec<(&str, Vec<&Bar>)> = Vec::new();
    for bar in bars {
        match lanes.iter_mut().find(|(name, _)| *name == bar.lane) {
            Some((_, all)) => all.push(bar),
            None => lanes.push((&bar.lane, vec![bar])),
        }
    }
    lanes.sort_by(|a, b| (a.0.len(), a.0).cmp(&(b.0.len(), b.0)));
    let (mut bands, mut shapes) = (String::new(), String::new());
    let mut top = HEAD;
    for (number, (name, bars)) in lanes.iter().enumerate() {
        let rows = rows(bars, &scale);
        let count = rows.iter().max().map_or(1, |row| row + 1);
        let height = count as f64 * ROW + 10.0;
        if number % 2 == 0 {
            let _ =
                write!(bands, r##"<rect x="0" y="{top:.1}" width="{WIDTH}" height="{height:.1}" fill="#f3f4f6"/>"##);
        }
        let name = clip(name, 24);
        let middle = top + height / 2.0 + 4.0;
        let _ = writeln!(shapes, r#"<text class="n" x="{MARGIN}" y="{middle:.1}">{}</text>"#, escape(&name));
        for (bar, row) in bars.iter().zip(rows) {
            shapes.push_str(&shape(bar, top + 6.0 + row as f64 * ROW, &scale));
        }
        top += height;
    }
    let body = format!("{bands}{}{shapes}", axis(&scale, first, last, top, timed));
    frame(title, skipped, top + 44.0, &body)
}

/// For each bar of a lane, the row in which neither it nor its label runs into another.
fn rows(bars: &[&Bar], scale: &Scale) -> Vec<usize> {
    let mut ends: Vec<f64> = Vec::new();
    let mut order: Vec<usize> = (0..bars.len()).collect();
    order.sort_by_key(|place| bars[*place].from);
    let mut rows = vec![0; bars.len()];
    for place in order {
        let bar = bars[place];
        let (start, length) = label_span(bar, scale);
        let from = scale.x(bar.from).min(start);
        let until = bar_end(bar, scale).max(start + length) + 8.0;
        let row = ends.iter().position(|end| *end <= from).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(until);
        } else {
            ends[row] = until;
        }
        rows[place] = row;
    }
    rows
}

fn bar_end(bar: &Bar, scale: &Scale) -> f64 {
    bar.until.map_or(WIDTH - MARGIN, |until| scale.x(until).max(scale.x(bar.from) + 5.0))
}

/// Where the label begins and how long it is; it begins with its bar if there is room to the right.
fn label_span(bar: &Bar, scale: &Scale) -> (f64, f64) {
    let length = label(bar).chars().count() as f64 * LETTER;
    (scale.x(bar.from).min(WIDTH - MARGIN - length).max(scale.left), length)
}

fn label(bar: &Bar) -> String {
    let text = clip(&bar.label, 60);
    if bar.tone == Tone::Conflict { format!("✕ {text}") } else { text }
}

fn shape(bar: &Bar, top: f64, scale: &Scale) -> String {
    let (x, until) = (scale.x(bar.from), bar_end(bar, scale));
    let (fill, stroke, class) = match bar.tone {
        Tone::Plain => ("#56b4e9", "#0072b2", "l"),
        Tone::Against => ("#f0e442", "#8a7f00", "l"),
        Tone::Conflict => ("#d55e00", "#7a2e00", "l c"),
    };
    let thick = if bar.tone == Tone::Plain { 1.0 } else { 2.0 };
    let open = if bar.until.is_none() { r#" stroke-dasharray="5 3" fill-opacity="0.35""# } else { "" };
    let (start, _) = label_span(bar, scale);
    let mut out = String::new();
    let _ = writeln!(
        out,
        r#"<g><title>{}</title><rect x="{x:.1}" y="{:.1}" width="{:.1}" height="12" rx="2" fill="{fill}" stroke="{stroke}" stroke-width="{thick}"{open}/><text class="{class}" x="{start:.1}" y="{:.1}">{}</text></g>"#,
        escape(&bar.label),
        top + 15.0,
        until - x,
        top + 11.0,
        escape(&label(bar)),
    );
    out
}

fn axis(scale: &Scale, first: u64, last: u64, top: f64, timed: bool) -> String {
    let mut out = String::new();
    let (left, right) = (scale.left, WIDTH - MARGIN);
    let _ = writeln!(out, r##"<path d="M{left:.1} {:.1}H{right:.1}" stroke="#6b7280" fill="none"/>"##, top + 4.0);
    let steps = (last - first).clamp(1, 6);
    for step in 0..=steps {
        let moment = first + (u128::from(last - first) * u128::from(step) / u128::from(steps)) as u64;
        let x = scale.x(moment);
        let text = if timed {
            format!("{} ms", millis(moment - first))
        } else {
            format!("event {}", moment.saturating_add(1))
        };
        let _ = writeln!(
            out,
            r##"<path d="M{x:.1} {HEAD}V{:.1}" stroke="#9ca3af" stroke-opacity="0.35" fill="none"/><text class="a" x="{x:.1}" y="{:.1}">{text}</text>"##,
            top + 8.0,
            top + 22.0,
        );
    }
    out
}

/// Nanoseconds as milliseconds, to three digits behind the point.
pub(crate) fn millis(nanos: u64) -> String {
    let text = format!("{:.3}", nanos as f64 / 1e6);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn frame(title: &str, skipped: usize, height: f64, body: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" role="img">
<style>text{{font:11px ui-monospace,"DejaVu Sans Mono",monospace;fill:#1f2937}}.t{{font-size:14px;font-weight:bold}}.n{{font-size:12px}}.c{{font-weight:bold;fill:#a33b00}}.a{{text-anchor:middle;fill:#4b5563;font-size:10px}}</style>
<rect width="100%" height="100%" fill="#ffffff" stroke="#d1d5db"/>
<text class="t" x="{MARGIN}" y="24">{}</text>"##,
        escape(&clip(title, 110)),
    );
    let mut x = MARGIN;
    let legend = [
        ("#56b4e9", "#0072b2", "", "operation"),
        ("#d55e00", "#7a2e00", "", "✕ cannot be explained"),
        ("#f0e442", "#8a7f00", "", "contradicts it"),
        ("#56b4e9", "#0072b2", r#" stroke-dasharray="5 3" fill-opacity="0.35""#, "outcome unknown"),
    ];
    for (fill, stroke, dash, text) in legend {
        let _ = write!(
            out,
            r#"<rect x="{x:.1}" y="36" width="18" height="10" rx="2" fill="{fill}" stroke="{stroke}"{dash}/><text x="{:.1}" y="45">{text}</text>"#,
            x + 24.0
        );
        x += 24.0 + text.chars().count() as f64 * LETTER + 22.0;
    }
    if skipped > 0 {
        let _ = write!(out, r#"<text x="{x:.1}" y="45">({skipped} earlier not drawn)</text>"#);
    }
    let _ = write!(out, "\n{body}</svg>\n");
    out
}

fn clip(text: &str, letters_max: usize) -> String {
    if text.chars().count() <= letters_max {
        return text.to_owned();
    }
    text.chars().take(letters_max - 1).chain(['…']).collect()
}

/// The text as XML, without what XML cannot carry.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(lane: &str, from: u64, until: Option<u64>, tone: Tone) -> Bar {
        Bar { lane: lane.to_owned(), label: "write <\"a\"&\u{1}>".to_owned(), from, until, tone }
    }

    #[test]
    fn every_bar_is_drawn_and_nothing_breaks_the_xml() {
        let bars = [
            bar("1", 0, Some(10), Tone::Plain),
            bar("2", 5, None, Tone::Against),
            bar("<3>", u64::MAX - 1, Some(u64::MAX), Tone::Conflict),
        ];
        let svg = draw("a < b", &bars, false);
        assert_eq!(svg.matches("<g>").count(), 3);
        assert_eq!(svg.matches("✕ write").count(), 1);
        assert!(svg.contains("write &lt;&quot;a&quot;&amp;\u{fffd}&gt;") && svg.contains("&lt;3&gt;"));
    }

    #[test]
    fn labels_of_a_lane_do_not_run_into_each_other() {
        let bars: Vec<Bar> = (0..6).map(|n| bar("1", n * 2, Some(n * 2 + 1), Tone::Plain)).collect();
        let all: Vec<&Bar> = bars.iter().collect();
        let scale = Scale { first: 0, span: 1_000, left: 40.0 };
        let rows = rows(&all, &scale);
        assert_eq!(rows, [0, 1, 2, 3, 4, 5], "bars that are narrower than their labels take rows of their own");
    }

    #[test]
    fn a_long_history_is_bounded() {
        let bars: Vec<Bar> = (0..500).map(|n| bar("1", n, Some(n + 1), Tone::Plain)).collect();
        let svg = draw("long", &bars, true);
        assert_eq!(svg.matches("<g>").count(), BARS_MAX);
        assert!(svg.contains("420 earlier not drawn"));
    }
}
