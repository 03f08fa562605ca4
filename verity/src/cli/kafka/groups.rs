//! `verity kafka groups`.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::reset::Reset;
use super::table::table;
use super::{counted, say_done};
use crate::kafka::{Client, GroupDescription, GroupOffset, MemberRow};

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity kafka groups describe billing\n  \
    verity kafka groups reset-offsets billing --topic orders --to-earliest --dry-run\n  \
    verity kafka groups reset-offsets billing --topic orders --shift-by -100")]
pub(super) struct Groups {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Show which groups there are.
    List,
    /// Show a group's members, what they have, and how far the group is.
    Describe {
        /// Which.
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Delete groups without members, and how far they are.
    Delete {
        /// Which.
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Set where a group without members goes on.
    ResetOffsets(Reset),
}

impl Groups {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<()> {
        match self.kind {
            Kind::List => list(client, json).await,
            Kind::Describe { groups } => describe(client, &groups, json).await,
            Kind::Delete { groups } => {
                for group in &groups {
                    client.delete_group(group).await?;
                }
                let (noun, verb) = if groups.len() > 1 { ("groups", "are") } else { ("group", "is") };
                say_done(json, &format!("{noun} {} {verb} deleted", groups.join(", ")));
                Ok(())
            }
            Kind::ResetOffsets(reset) => reset.run(client, json).await,
        }
    }
}

async fn list(client: &Client, json: bool) -> Result<()> {
    let groups = client.groups().await?;
    if json {
        println!("{}", json!({ "groups": groups }));
    } else if groups.is_empty() {
        println!("no groups");
    } else {
        let row = |group: &crate::kafka::Listed| {
            let told = |text: &String| if text.is_empty() { "-".to_owned() } else { text.clone() };
            vec![group.group.clone(), told(&group.state), told(&group.kind), told(&group.protocol)]
        };
        print!("{}", table(&["group", "state", "kind", "protocol"], &groups.iter().map(row).collect::<Vec<_>>()));
    }
    Ok(())
}

async fn describe(client: &Client, names: &[String], json: bool) -> Result<()> {
    let mut all = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let group = client.describe_group(name).await?;
        let lag = client.lag(name).await?;
        if json {
            let mut object = serde_json::to_value(&group)?;
            object["offsets"] = serde_json::to_value(&lag)?;
            all.push(object);
            continue;
        }
        if at > 0 {
            println!();
        }
        print!("{}", described(&group, &lag));
    }
    if json {
        println!("{}", json!({ "groups": all }));
    }
    Ok(())
}

fn described(group: &GroupDescription, lag: &[GroupOffset]) -> String {
    let GroupDescription { group: name, state, kind, assignor, members } = group;
    let how = if assignor.is_empty() { String::new() } else { format!(", {assignor}") };
    let mut out = format!("group {name}: {state}, {kind}{how}, {}\n", counted(members.len() as u64, "member"));
    if !members.is_empty() {
        let row = |member: &MemberRow| {
            let assigned = member.assigned.iter().map(|(topic, partitions)| {
                let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                format!("{topic}:{}", partitions.join(","))
            });
            let assigned = assigned.collect::<Vec<_>>().join(" ");
            let host = member.host.trim_start_matches('/').to_owned();
            vec![member.client.clone(), host, if assigned.is_empty() { "nothing".to_owned() } else { assigned }]
        };
        out += &table(&["member", "host", "has"], &members.iter().map(row).collect::<Vec<_>>());
    }
    if !lag.is_empty() {
        out += &offsets(lag);
    }
    out
}

/// How far a group is, by partition, and altogether.
pub(super) fn offsets(lag: &[GroupOffset]) -> String {
    let row = |row: &GroupOffset| {
        let numbers = [i64::from(row.partition), row.committed, row.end, row.lag].map(|number| number.to_string());
        std::iter::once(row.topic.clone()).chain(numbers).collect()
    };
    let mut rows: Vec<Vec<String>> = lag.iter().map(row).collect();
    if lag.len() > 1 {
        let sum = lag.iter().fold(0i64, |sum, row| sum.saturating_add(row.lag));
        rows.push(["all", "", "", "", &sum.to_string()].map(str::to_owned).to_vec());
    }
    table(&["topic", ">partition", ">committed", ">end", ">lag"], &rows)
}
