//! `verity kafka lag`.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::groups::offsets;
use super::table::table;
use crate::kafka::{Client, GroupOffset};

/// How wide the longest bar is.
const BAR_WIDTH: i128 = 20;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity kafka lag                     every group, in one line each\n  \
    verity kafka lag billing             each of its partitions\n  \
    verity kafka lag --watch             again every second")]
pub(super) struct Lag {
    /// Which groups, by partition; without one, all of them in short.
    groups: Vec<String>,
    /// Show it again and again.
    #[arg(long, short = 'w')]
    watch: bool,
    /// How often, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000, requires = "watch",
        value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    every: u64,
}

/// A group in one line.
#[derive(Clone, Debug, Serialize)]
struct Short {
    group: String,
    state: String,
    partitions: usize,
    lag: i64,
}

impl Lag {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<()> {
        let redraw = self.watch && !json && std::io::stdout().is_terminal();
        loop {
            let text =
                if self.groups.is_empty() { all(client, json).await? } else { self.chosen(client, json).await? };
            if redraw {
                // To the beginning, and everything away.
                print!("\x1b[H\x1b[2J");
            }
            println!("{text}");
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(self.every)).await;
        }
    }

    async fn chosen(&self, client: &Client, json: bool) -> Result<String> {
        let (mut rows, mut out) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let lag = client.lag(group).await?;
            // What has committed nothing may be nothing at all.
            if lag.is_empty() {
                client.describe_group(group).await?;
            }
            let text = if lag.is_empty() { "has committed nothing\n".to_owned() } else { offsets(&lag) };
            out.push(if self.groups.len() > 1 || lag.is_empty() { format!("group {group}\n{text}") } else { text });
            rows.extend(lag);
        }
        if json {
            return Ok(json!({ "lag": rows }).to_string());
        }
        Ok(out.join("\n").trim_end().to_owned())
    }
}

async fn all(client: &Client, json: bool) -> Result<String> {
    let mut rows = Vec::new();
    for group in client.groups().await? {
        let lag: Vec<GroupOffset> = client.lag(&group.group).await?;
        let sum = lag.iter().fold(0i64, |sum, row| sum.saturating_add(row.lag));
        rows.push(Short { group: group.group, state: group.state, partitions: lag.len(), lag: sum });
    }
    if json {
        return Ok(json!({ "groups": rows }).to_string());
    }
    if rows.is_empty() {
        return Ok("no groups".to_owned());
    }
    let most = rows.iter().map(|row| row.lag).max().unwrap_or(0);
    let row = |row: &Short| {
        let state = if row.state.is_empty() { "-".to_owned() } else { row.state.clone() };
        vec![row.group.clone(), state, row.partitions.to_string(), row.lag.to_string(), bar(row.lag, most)]
    };
    let text = table(&["group", "state", ">partitions", ">lag", ""], &rows.iter().map(row).collect::<Vec<_>>());
    Ok(text.trim_end().to_owned())
}

/// As long as the lag is beside the largest.
fn bar(lag: i64, most: i64) -> String {
    let (lag, most) = (i128::from(lag), i128::from(most.max(1)));
    let length = (lag * BAR_WIDTH + most - 1) / most;
    "#".repeat(usize::try_from(length.clamp(0, BAR_WIDTH)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_lag_is_seen() {
        assert_eq!([bar(0, 0), bar(0, 9), bar(1, 1000)], ["", "", "#"]);
        assert_eq!(bar(1000, 1000).len(), 20);
        assert_eq!(bar(i64::MAX, i64::MAX).len(), 20, "no sum is too large");
    }
}
