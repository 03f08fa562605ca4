//! A connection that asks one thing at a time, and what a load asks before it begins.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::wire::{Api, CREATE_TOPICS, Cursor, FRAME_SIZE_MAX, Frame, METADATA, PRODUCE};

/// How long a server may think about one request.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a topic may take until it is led.
const READY_MAX: Duration = Duration::from_secs(10);
/// How long no leader has moved when a cluster has come to rest.
const SETTLE: Duration = Duration::from_millis(1500);
/// The error that says that a topic is there already.
const TOPIC_ALREADY_EXISTS: i16 = 36;

/// A connection to one server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    frame: Vec<u8>,
}

impl Connection {
    /// Connects, within a time.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(server: SocketAddr, time_max: Duration) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&server, time_max)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        let reader = BufReader::with_capacity(1 << 18, stream.try_clone()?);
        Ok(Connection { stream, reader, frame: Vec::new() })
    }

    /// A second handle that only sends.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn sender(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(frame)?)
    }

    /// The next response: its correlation id, and what follows.
    ///
    /// # Errors
    /// When the connection fails, or nothing comes for a long time.
    pub fn receive(&mut self) -> Result<(i32, Cursor<'_>)> {
        let mut size = [0; 4];
        self.reader.read_exact(&mut size).context("no response")?;
        let size = usize::try_from(i32::from_be_bytes(size)).context("a frame of negative length")?;
        ensure!(size <= FRAME_SIZE_MAX, "a frame of {size} bytes");
        self.frame.resize(size, 0);
        self.reader.read_exact(&mut self.frame)?;
        let mut cursor = Cursor(&self.frame);
        Ok((cursor.i32()?, cursor))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// As sending and receiving.
    pub fn call(&mut self, request: Frame) -> Result<Cursor<'_>> {
        self.send(&request.finish())?;
        Ok(self.receive()?.1)
    }

    /// Makes a topic, unless it is there.
    ///
    /// # Errors
    /// When the server does not want to.
    pub fn create(&mut self, topic: &str, partitions: i32, replicas: i16) -> Result<()> {
        let request = self::request(CREATE_TOPICS).i32(1).string(topic).i32(partitions).i16(replicas).i32(0).i32(0);
        let mut answer = self.call(request.i32(30_000).i8(0))?;
        answer.i32()?;
        ensure!(answer.i32()? == 1, "one topic was asked for");
        answer.string()?;
        match answer.i16()? {
            0 | TOPIC_ALREADY_EXISTS => Ok(()),
            error => bail!("topic {topic} was not created: error {error}, {}", answer.string().unwrap_or_default()),
        }
    }

    /// Which server leads each partition of a topic.
    ///
    /// # Errors
    /// When a partition has no leader yet.
    pub fn leaders(&mut self, topic: &str) -> Result<Vec<SocketAddr>> {
        let mut answer = self.call(request(METADATA).i32(1).string(topic))?;
        let mut brokers = BTreeMap::new();
        for _ in 0..answer.i32()? {
            let (number, host, port) = (answer.i32()?, answer.string()?, answer.i32()?);
            answer.string()?;
            let mut found = (host, u16::try_from(port)?).to_socket_addrs()?;
            brokers.insert(number, found.next().with_context(|| format!("{host} has no address"))?);
        }
        answer.i32()?;
        ensure!(answer.i32()? == 1, "one topic was asked for");
        ensure!(answer.i16()? == 0, "topic {topic} is not there");
        answer.string()?;
        answer.i8()?;
        let mut leaders = BTreeMap::new();
        for _ in 0..answer.i32()? {
            let (error, index, leader) = (answer.i16()?, answer.i32()?, answer.i32()?);
            let leader = brokers.get(&leader).filter(|_| error == 0);
            leaders.insert(index, *leader.with_context(|| format!("partition {index} of {topic} has no leader"))?);
            for _ in 0..2 {
                let count = answer.i32()?;
                answer.take(usize::try_from(count)? * 4)?;
            }
        }
        ensure!(!leaders.is_empty(), "topic {topic} has no partition");
        Ok(leaders.into_values().collect())
    }
}

fn request(api: Api) -> Frame {
    Frame::request(api, 0)
}

/// A produce request of one batch for one partition, acknowledged by all replicas that are in sync.
#[must_use]
pub fn produce(topic: &str, partition: i32, correlation: i32, batch: &[u8]) -> Frame {
    let head = Frame::request(PRODUCE, correlation).i16(-1).i16(-1).i32(30_000);
    head.i32(1).string(topic).i32(1).i32(partition).bytes(batch)
}

/// Fails unless this answer to [`produce`] says that the batch is kept.
///
/// # Errors
/// With the server's error.
pub fn produced(mut answer: Cursor<'_>) -> Result<()> {
    ensure!(answer.i32()? == 1, "one topic was produced to");
    answer.string()?;
    ensure!(answer.i32()? == 1, "one partition was produced to");
    let (partition, error) = (answer.i32()?, answer.i16()?);
    ensure!(error == 0, "partition {partition} did not take a batch: error {error}");
    Ok(())
}

/// Makes a topic and waits until every partition has a leader, and of several replicas until none has moved for a while.
///
/// # Errors
/// When it takes longer than ten seconds, or the server does not want to.
#[expect(clippy::disallowed_methods, reason = "a load client waits for a server")]
pub fn ready(server: SocketAddr, topic: &str, partitions: i32, replicas: i16) -> Result<Vec<SocketAddr>> {
    let (start, mut seen): (_, Option<(Instant, Vec<SocketAddr>)>) = (Instant::now(), None);
    let settle = if replicas > 1 { SETTLE } else { Duration::ZERO };
    loop {
        let attempt = || {
            let mut connection = Connection::open(server, Duration::from_millis(250))?;
            connection.create(topic, partitions, replicas)?;
            connection.leaders(topic)
        };
        let late = start.elapsed() > READY_MAX;
        match attempt() {
            Ok(leaders) if leaders.len() == usize::try_from(partitions)? => {
                let since = seen.take().filter(|(_, before)| *before == leaders).map(|(since, _)| since);
                let since = since.unwrap_or_else(Instant::now);
                if since.elapsed() >= settle {
                    return Ok(leaders);
                }
                seen = Some((since, leaders));
            }
            Err(error) if late => return Err(error),
            _ => seen = None,
        }
        ensure!(!late, "the leaders of {topic} do not settle");
        std::thread::sleep(Duration::from_millis(if seen.is_some() { 50 } else { 1 }));
    }
}

/// Produces one message into one partition.
///
/// # Errors
/// When it is not kept.
pub fn produce_one(leader: SocketAddr, topic: &str) -> Result<()> {
    let mut connection = Connection::open(leader, Duration::from_millis(250))?;
    produced(connection.call(produce(topic, 0, 0, &super::wire::batch(["first"], super::wire::now_ms())))?)
}
