//! The log as the one truth: two services write to it, three read from it, and none knows of another.
//!
//! - `order-service` and `user-service` write events of users; a user's events are in one partition, and so in one order;
//! - `analytics`, `billing` and `search` read at their own pace. How far each is behind is what the coordinator says;
//! - the node that leads a partition is killed while everybody works: writes wait for its successor, and nothing is lost or
//!   there twice;
//! - `billing` loses all that it knows and reads the log again from offset 0: it comes to the same result.
//!
//! What is promised is checked while it is shown; a promise that does not hold ends the tour with an error.

mod board;
mod services;

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{sleep, timeout};
use verity_types::NodeId;

use self::board::Board;
use self::services::{Consumer, Kind, Writer};
use crate::cluster::Cluster;
use crate::kafka::{Access, Client, NewTopic};

const TOPIC: &str = "events";
const PARTITIONS: i32 = 3;
const REPLICAS: i16 = 3;
/// The tour takes no longer than this, whatever happens.
const PATIENCE: Duration = Duration::from_secs(120);
/// When a leader is killed, and for how long it stays away.
const KILL_AFTER: Duration = Duration::from_millis(2500);
const DEAD_FOR: Duration = Duration::from_millis(2500);
/// How often the lags are shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// What those who take part know of the tour.
#[derive(Default)]
struct Scene {
    /// How many events each writer has written, by its name.
    written: RefCell<Vec<(&'static str, u64)>>,
    /// Writers have nothing more to write.
    complete: RefCell<bool>,
}

impl Scene {
    fn total(&self) -> u64 {
        self.written.borrow().iter().map(|(_, count)| count).sum()
    }
}

/// Plays the picture on a running cluster.
pub(crate) fn play(cluster: &Cluster, json: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let played = runtime.block_on(async { timeout(PATIENCE, show(cluster, json)).await });
    played.with_context(|| format!("the tour has not ended within {} s", PATIENCE.as_secs()))?
}

async fn show(cluster: &Cluster, json: bool) -> Result<()> {
    let board = Board::open(json);
    let mut bootstrap = Vec::new();
    for id in cluster.ids() {
        let endpoints = cluster.endpoints(id)?;
        bootstrap.extend(endpoints.iter().filter(|(name, _)| *name == "kafka").map(|(_, addr)| addr.to_string()));
    }
    let client = Client::connect(Access::new(bootstrap, None, None)?).await?;
    let topic = NewTopic { name: TOPIC.to_owned(), partitions: PARTITIONS, replicas: REPLICAS, configs: Vec::new() };
    // The nodes of a new cluster may not have registered yet.
    client.patiently(async || client.create_topic(&topic).await).await?;
    board.say(
        "cluster",
        &format!(
            "{} nodes; the log `{TOPIC}` has {PARTITIONS} partitions, each on {REPLICAS} nodes",
            cluster.ids().len()
        ),
    );
    let scene = Scene::default();
    let writers = [Writer::new("order-service", Kind::Order), Writer::new("user-service", Kind::Rename)];
    let [orders, users] = &writers;
    for writer in &writers {
        board.say(writer.name, writer.about());
    }
    let mut consumers = services::consumers();
    for consumer in &consumers {
        board.say(consumer.name, consumer.about());
    }
    let [analytics, billing, search] = &mut consumers;
    let ((), longest, ..) = tokio::try_join!(
        kill_a_leader(cluster, &client, &board),
        write(&client, &scene, &board, orders, users),
        analytics.run(&client, &scene, &board),
        billing.run(&client, &scene, &board),
        search.run(&client, &scene, &board),
        watch(&client, &scene, &board),
    )?;
    let ms = longest.as_millis();
    board.say("cluster", &format!("nothing failed; the longest that a writer waited was {ms} ms"));
    for consumer in &consumers {
        consumer.check(&writers)?;
    }
    board.say("cluster", &format!("everybody has seen all {} events, each once, a user's in order", scene.total()));
    rebuild(&client, &scene, &board, &consumers[1]).await
}

/// Both writers, to their ends; how long the longest write took.
async fn write(client: &Client, scene: &Scene, board: &Board, orders: &Writer, users: &Writer) -> Result<Duration> {
    let (a, b) = tokio::try_join!(orders.run(client, scene), users.run(client, scene))?;
    *scene.complete.borrow_mut() = true;
    board.say("cluster", &format!("all {} events are written and acknowledged", scene.total()));
    Ok(a.max(b))
}

/// Ends the node that leads the first partition as if its process had died, and starts it again.
async fn kill_a_leader(cluster: &Cluster, client: &Client, board: &Board) -> Result<()> {
    sleep(KILL_AFTER).await;
    let leader = client.topic(TOPIC).await?.partitions.first().map_or(-1, |partition| partition.leader);
    let node = NodeId(u64::try_from(leader).context("somebody leads the first partition")?);
    cluster.crash_node(node)?;
    board.say("cluster", &format!("node {node}, which leads partition 0, is killed"));
    let mut successor = leader;
    let begun = super::now();
    while successor == leader || successor < 0 {
        sleep(Duration::from_millis(20)).await;
        client.forget();
        successor = client.topic(TOPIC).await?.partitions.first().map_or(-1, |partition| partition.leader);
    }
    let ms = begun.elapsed().as_millis();
    board.say("cluster", &format!("node {successor} leads it, {ms} ms later; writers and readers go on there"));
    sleep(DEAD_FOR).await;
    cluster.start_node(node)?;
    board.say("cluster", &format!("node {node} is back"));
    Ok(())
}

/// Shows how far everybody is behind until nobody is.
async fn watch(client: &Client, scene: &Scene, board: &Board) -> Result<()> {
    loop {
        let mut lags = Vec::new();
        for name in services::CONSUMERS {
            let committed: i64 = client.committed(name).await?.values().sum();
            let behind = scene.total().saturating_sub(u64::try_from(committed).unwrap_or(0));
            lags.push((name, behind));
        }
        board.lags(scene.total(), &lags);
        if *scene.complete.borrow() && lags.iter().all(|(_, lag)| *lag == 0) {
            board.close();
            return Ok(());
        }
        sleep(SHOW_EVERY).await;
    }
}

/// One that has lost everything reads the log from its beginning.
async fn rebuild(client: &Client, scene: &Scene, board: &Board, before: &Consumer) -> Result<()> {
    let name = before.name;
    board.say(name, &format!("had {}", before.result()));
    board.say(name, "loses all that it knows, and reads the log again from offset 0");
    let begun = super::now();
    let mut again = before.anew();
    again.read_all(client, scene.total()).await?;
    let ms = begun.elapsed().as_millis();
    ensure!(again.result() == before.result(), "{name} came to another result: {}", again.result());
    board.say(name, &format!("has {} after {ms} ms", again.result()));
    board.say(name, "THE SAME RESULT: the log is the truth, and everything else can be made from it");
    Ok(())
}
