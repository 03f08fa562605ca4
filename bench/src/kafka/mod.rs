//! Loads over Kafka's protocol, and a server that keeps nothing.
//!
//! How much a server takes is measured with librdkafka's own tool; here is what that tool does not tell: latency at a steady
//! rate, the cost of one request, and the limit of the tool itself.

pub mod client;
pub mod null;
pub mod paced;
pub mod requests;
pub mod wire;

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How these are called.
pub const USAGE: &str = "       verity-bench kafka null PORT
       verity-bench kafka create SERVER TOPIC PARTITIONS REPLICAS
       verity-bench kafka paced SERVER TOPIC PARTITIONS REPLICAS RATE SECONDS [PIDS]
       verity-bench kafka requests SERVER TOPIC PARTITIONS COUNT [PIDS]";

/// Runs one of them. Says what there is to print.
///
/// # Errors
/// When a word does not belong there, or the load fails.
pub fn run(words: &[&str]) -> Result<String> {
    match words {
        ["null", port] => null::serve(number(port)?).map(|()| String::new()),
        ["create", server, topic, partitions, replicas] => {
            client::ready(number(server)?, topic, number(partitions)?, number(replicas)?).map(|_| String::new())
        }
        ["paced", server, topic, partitions, replicas, rate, seconds, rest @ ..] if rest.len() <= 1 => {
            let pace = paced::Pace {
                server: number(server)?,
                topic: (*topic).to_owned(),
                partitions: number(partitions)?,
                replicas: number(replicas)?,
                rate: number(rate)?,
                time: Duration::try_from_secs_f64(number(seconds)?)?,
                pids: pids(rest)?,
            };
            let paced::Paced { received, p50_us, p99_us, p999_us, cpu_us } = pace.run()?;
            Ok(format!(
                "received={received:.4} p50_us={p50_us:.1} p99_us={p99_us:.1} p999_us={p999_us:.1} cpu_us={cpu_us:.3}"
            ))
        }
        ["requests", server, topic, partitions, count, rest @ ..] if rest.len() <= 1 => {
            let pids = pids(rest)?;
            let cost = requests::run(number(server)?, topic, number(partitions)?, number(count)?, &pids)?;
            Ok(format!("rate={:.1} cpu_us={:.3}", cost.rate, cost.cpu_us))
        }
        _ => bail!("usage:\n{USAGE}"),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().ok().with_context(|| format!("{word} does not belong here\nusage:\n{USAGE}"))
}

fn pids(rest: &[&str]) -> Result<Vec<u32>> {
    rest.first().map_or(Ok(Vec::new()), |pids| pids.split(',').map(number).collect())
}
