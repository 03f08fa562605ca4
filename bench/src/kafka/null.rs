//! A server that keeps nothing: it answers at once what a producer asks, so that a figure against it is the client's own limit.
//!
//! A topic is there as soon as it is asked for, with as many partitions as its name says at its end: `any-p12` has 12.
//!
//! Deliberately absent: consumers, and a look at what is produced.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use super::wire::{
    API_VERSIONS, CREATE_TOPICS, Cursor, FETCH, FRAME_SIZE_MAX, Frame, INIT_PRODUCER_ID, METADATA, PRODUCE,
};

/// The versions it speaks. A producer wants to see fetches of batches before it sends any.
const VERSIONS: [(i16, i16, i16); 6] = [
    (PRODUCE.0, 3, 7),
    (FETCH.0, 4, 4),
    (METADATA.0, 1, 4),
    (API_VERSIONS.0, 0, 0),
    (CREATE_TOPICS.0, 2, 2),
    (INIT_PRODUCER_ID.0, 0, 1),
];
/// The error that says that a version is not spoken.
const UNSUPPORTED_VERSION: i16 = 35;

/// Serves until the process ends.
///
/// # Errors
/// When the port is taken.
#[expect(clippy::disallowed_methods, reason = "a thread for each connection")]
pub fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = talk(stream, port) {
                eprintln!("verity-bench: {error:#}");
            }
        });
    }
    Ok(())
}

fn talk(mut stream: TcpStream, port: u16) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 18, stream.try_clone()?);
    let mut frame = Vec::new();
    loop {
        let mut size = [0; 4];
        if reader.read_exact(&mut size).is_err() {
            return Ok(());
        }
        let size = usize::try_from(i32::from_be_bytes(size)).context("a frame of negative length")?;
        ensure!(size <= FRAME_SIZE_MAX, "a frame of {size} bytes");
        frame.resize(size, 0);
        reader.read_exact(&mut frame)?;
        stream.write_all(&answer(&frame, port)?)?;
    }
}

fn answer(frame: &[u8], port: u16) -> Result<Vec<u8>> {
    let mut request = Cursor(frame);
    let (api, version, correlation) = (request.i16()?, request.i16()?, request.i32()?);
    request.string()?;
    let response = Frame::response(correlation);
    let response = match api {
        0 => produce(request, version, response)?,
        3 => metadata(request, version, port, response)?,
        18 => {
            let error = if version == 0 { 0 } else { UNSUPPORTED_VERSION };
            let response = response.i16(error).i32(VERSIONS.len() as i32);
            VERSIONS.iter().fold(response, |response, &(api, low, high)| response.i16(api).i16(low).i16(high))
        }
        19 => {
            ensure!(request.i32()? == 1, "one topic at a time");
            response.i32(0).i32(1).string(request.string()?).i16(0).i16(-1)
        }
        22 => response.i32(0).i16(0).i64(1).i16(0),
        other => bail!("there is no answer to request {other}"),
    };
    Ok(response.finish())
}

fn produce(mut request: Cursor<'_>, version: i16, mut response: Frame) -> Result<Frame> {
    request.string()?;
    request.i16()?;
    request.i32()?;
    let topics = request.i32()?;
    response = response.i32(topics);
    for _ in 0..topics {
        response = response.string(request.string()?);
        let partitions = request.i32()?;
        response = response.i32(partitions);
        for _ in 0..partitions {
            response = response.i32(request.i32()?).i16(0).i64(0).i64(-1);
            request.bytes()?;
            if version >= 5 {
                response = response.i64(0);
            }
        }
    }
    Ok(response.i32(0))
}

fn metadata(mut request: Cursor<'_>, version: i16, port: u16, mut response: Frame) -> Result<Frame> {
    if version >= 3 {
        response = response.i32(0);
    }
    response = response.i32(1).i32(0).string("127.0.0.1").i32(i32::from(port)).i16(-1);
    if version >= 2 {
        response = response.string("null");
    }
    let topics = request.i32()?.max(0);
    response = response.i32(0).i32(topics);
    for _ in 0..topics {
        let topic = request.string()?;
        let count = topic.rsplit_once("-p").and_then(|(_, count)| count.parse().ok()).unwrap_or(1);
        ensure!((1..=10_000).contains(&count), "{topic} says no number of partitions");
        response = response.i16(0).string(topic).i8(0).i32(count);
        for partition in 0..count {
            response = response.i16(0).i32(partition).i32(0).i32(1).i32(0).i32(1).i32(0);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::*;

    #[test]
    fn a_topic_has_as_many_partitions_as_its_name_says() {
        let request = Frame::request(METADATA, 5).i32(1).string("x-p3").finish();
        let said = answer(&request[4..], 1).unwrap();
        let mut cursor = Cursor(&said[4..]);
        assert_eq!(cursor.i32().unwrap(), 5);
        let one = 2 + 4 + 4 + 8 + 8;
        assert_eq!(said.len(), 4 + 4 + (4 + 4 + 2 + 9 + 4 + 2) + 4 + 4 + (2 + 2 + 4 + 1 + 4) + 3 * one);
    }

    #[test]
    fn what_is_produced_is_acknowledged() {
        let request = client::produce("x-p3", 2, 6, b"batch").finish();
        let said = answer(&request[4..], 1).unwrap();
        client::produced(Cursor(&said[8..])).unwrap();
    }

    #[test]
    fn a_frame_that_ends_early_is_an_error() {
        let request = client::produce("x-p3", 2, 6, b"batch").finish();
        assert!(answer(&request[4..request.len() - 1], 1).is_err());
    }
}
