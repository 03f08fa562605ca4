//! What the audience sees: events as lines, and lags as bars that move below them on a terminal. Elsewhere lags are lines,
//! one a second.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::json;

use crate::tour::Stage;

/// As wide as the longest name.
const NAMES: usize = 13;
/// How wide the longest bar is.
const BAR_WIDTH: u64 = 40;
/// A bar is full at this lag at least, so that small ones look small.
const FULL_MIN: u64 = 100;
const LINES_EVERY: Duration = Duration::from_secs(1);

/// The audience's view.
pub(super) struct Board {
    stage: Stage,
    moving: bool,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// The bars as they stand, a line each.
    drawn: Vec<String>,
    most: u64,
    told: Option<Duration>,
}

impl Board {
    pub(super) fn open(json: bool) -> Self {
        let moving = !json && std::io::stdout().is_terminal();
        Self { stage: Stage::open(json, NAMES), moving, state: RefCell::default() }
    }

    /// An event, above the bars.
    pub(super) fn say(&self, who: &str, what: &str) {
        let state = self.state.borrow();
        erase(state.drawn.len());
        self.stage.say(who, what);
        draw(&state.drawn);
    }

    /// How far everybody is behind.
    pub(super) fn lags(&self, written: u64, lags: &[(&str, u64)]) {
        let mut state = self.state.borrow_mut();
        let now = self.stage.elapsed();
        if self.moving {
            let most = lags.iter().map(|(_, lag)| *lag).chain([state.most, FULL_MIN]).max().unwrap_or(FULL_MIN);
            state.most = most;
            let bar = |(name, lag): &(&str, u64)| {
                let bar = "#".repeat(usize::try_from(lag * BAR_WIDTH / most).unwrap_or(0));
                format!("{:9}  {name:<NAMES$}  {lag:>5} behind  {bar}", "")
            };
            erase(state.drawn.len());
            state.drawn = lags.iter().map(bar).collect();
            draw(&state.drawn);
            return;
        }
        if state.told.is_some_and(|told| now.saturating_sub(told) < LINES_EVERY) {
            return;
        }
        state.told = Some(now);
        if self.stage.json {
            let lags: serde_json::Map<String, serde_json::Value> =
                lags.iter().map(|(name, lag)| ((*name).to_owned(), json!(lag))).collect();
            println!("{}", json!({ "ms": now.as_millis(), "written": written, "lag": lags }));
        } else {
            let lags: Vec<String> = lags.iter().map(|(name, lag)| format!("{name} {lag}")).collect();
            self.stage.say("behind", &lags.join(", "));
        }
    }

    /// Takes the bars away.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        erase(state.drawn.len());
        state.drawn.clear();
    }
}

/// Goes up so many lines and takes all below away.
fn erase(lines: usize) {
    if lines > 0 {
        print!("\x1b[{lines}A\x1b[J");
    }
}

fn draw(lines: &[String]) {
    lines.iter().for_each(|line| println!("{line}"));
    // Who watches may have gone; the tour goes on.
    let _ = std::io::stdout().flush();
}
