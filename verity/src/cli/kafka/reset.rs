//! `verity kafka groups reset-offsets`.
//!
//! A group with members goes on where it is, whatever is set, so it is refused.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::table::table;
use crate::kafka::{Client, Offsets};

#[derive(Args, Debug)]
pub(super) struct Reset {
    /// Which.
    group: String,
    /// In this topic, or in these of its partitions (orders:0,1); may be given again.
    #[arg(long = "topic", value_name = "TOPIC[:PARTITIONS]", required = true)]
    topics: Vec<String>,
    #[command(flatten)]
    to: To,
    /// Only show what would be set.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct To {
    /// To the first record.
    #[arg(long)]
    to_earliest: bool,
    /// To the end: only what comes from now on.
    #[arg(long)]
    to_latest: bool,
    /// To this offset.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later, in milliseconds since 1970.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    to_time: Option<i64>,
    /// So many records on from where it is, or back, if negative.
    #[arg(long, value_name = "RECORDS", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

fn split(text: &str) -> Result<(String, Option<Vec<i32>>)> {
    let Some((topic, list)) = text.split_once(':') else { return Ok((text.to_owned(), None)) };
    let partitions: Result<Vec<i32>, _> = list.split(',').map(str::parse).collect();
    Ok((topic.to_owned(), Some(partitions.with_context(|| format!("{list:?} is not a list of partitions"))?)))
}

impl Reset {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<()> {
        let mut partitions = Vec::new();
        for text in &self.topics {
            let (topic, wanted) = split(text)?;
            let known = client.topic(&topic).await?;
            let all: Vec<i32> = known.partitions.iter().map(|partition| partition.index).collect();
            if let Some(unknown) = wanted.iter().flatten().find(|index| !all.contains(index)) {
                bail!("topic {topic} has partitions 0 to {}, not {unknown}", all.len() - 1);
            }
            partitions.extend(wanted.unwrap_or(all).into_iter().map(|index| (topic.clone(), index)));
        }
        let before = self.before(client).await?;
        let after = self.after(client, &partitions, &before).await?;
        if !self.dry_run {
            client.commit(&self.group, ("", -1), &after).await?;
        }
        self.show(&before, &after, json);
        Ok(())
    }

    /// Where the group is. One that is not there yet is nowhere; it is there once it has offsets.
    async fn before(&self, client: &Client) -> Result<Offsets> {
        if let Ok(group) = client.describe_group(&self.group).await
            && !group.members.is_empty()
        {
            bail!("group {} has {} members; stop them first", self.group, group.members.len());
        }
        Ok(client.committed(&self.group).await?)
    }

    async fn after(&self, client: &Client, partitions: &[(String, i32)], before: &Offsets) -> Result<Offsets> {
        const START: i64 = -2;
        let starts = client.offsets_at(partitions, START).await?;
        let ends = client.ends(partitions, false).await?;
        let by_time = match self.to.to_time {
            Some(time) => client.offsets_at(partitions, time).await?,
            None => BTreeMap::new(),
        };
        let place = |partition: &(String, i32)| {
            let (start, end) = (starts.get(partition).copied()?, ends.get(partition).copied()?);
            let wanted = match &self.to {
                To { to_earliest: true, .. } => start,
                To { to_latest: true, .. } => end,
                To { to_offset: Some(offset), .. } => *offset,
                To { shift_by: Some(by), .. } => before.get(partition)?.saturating_add(*by),
                _ => by_time.get(partition).copied()?,
            };
            Some((partition.clone(), wanted.clamp(start, end)))
        };
        let after: Offsets = partitions.iter().filter_map(place).collect();
        if after.is_empty() {
            bail!("group {} has committed nothing there that could be moved", self.group);
        }
        Ok(after)
    }

    fn show(&self, before: &Offsets, after: &Offsets, json: bool) {
        if json {
            let row = |((topic, partition), offset): (&(String, i32), &i64)| {
                let before = before.get(&(topic.clone(), *partition));
                json!({ "topic": topic, "partition": partition, "before": before, "after": offset })
            };
            let rows: Vec<_> = after.iter().map(row).collect();
            println!("{}", json!({ "group": self.group, "set": !self.dry_run, "offsets": rows }));
            return;
        }
        let row = |((topic, partition), offset): (&(String, i32), &i64)| {
            let before = before.get(&(topic.clone(), *partition)).map_or("-".to_owned(), ToString::to_string);
            vec![topic.clone(), partition.to_string(), before, offset.to_string()]
        };
        let rows: Vec<Vec<String>> = after.iter().map(row).collect();
        print!("{}", table(&["topic", ">partition", ">before", ">after"], &rows));
        if self.dry_run {
            println!("nothing is set; without --dry-run it would be");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_name_its_partitions() {
        assert_eq!(split("orders").unwrap(), ("orders".to_owned(), None));
        assert_eq!(split("orders:0,2").unwrap(), ("orders".to_owned(), Some(vec![0, 2])));
        assert_eq!(split("orders:x").unwrap_err().to_string(), "\"x\" is not a list of partitions");
    }
}
