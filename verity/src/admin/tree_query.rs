//! A read of the znode tree, in the bytes that nodes sign and in words.

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use verity_zookeeper::machine::{self, Envelope, Reply};
use verity_zookeeper::wire::{Decode as _, ErrorCode, GetDataResponse, OpCode, PathWatch};

/// The query for a znode.
pub(super) fn encode(path: &str) -> Result<Bytes> {
    if !path.starts_with('/') || path.len() > 1 && path.ends_with('/') {
        bail!("{path:?} is no path of a znode, such as /a/b");
    }
    Ok(machine::query(OpCode::GetData.number(), &PathWatch { path, watch: false }))
}

/// What was asked and what it came to.
pub(super) fn words(query: &Bytes, answer: &Bytes) -> Result<(String, String)> {
    let strange = || anyhow!("the certificate is of no read of a znode");
    let envelope = Envelope::decode(query).map_err(|_| strange())?;
    if envelope.op != OpCode::GetData.number() {
        return Err(strange());
    }
    let path = PathWatch::from_bytes(envelope.body).map_err(|_| strange())?.path.to_owned();
    let reply = Reply::decode(answer).map_err(|_| strange())?;
    let said = match ErrorCode::from_number(reply.err) {
        Some(ErrorCode::Ok) => {
            let GetDataResponse { data, stat } = GetDataResponse::from_bytes(reply.body).map_err(|_| strange())?;
            let data = data.map_or_else(|| "null".to_owned(), |data| format!("{:?}", String::from_utf8_lossy(data)));
            format!("{data}, version {}, as of zxid {:#x}", stat.version, reply.zxid)
        }
        Some(error) => format!("{error:?}, as of zxid {:#x}", reply.zxid),
        None => return Err(strange()),
    };
    Ok((format!("get {path}"), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_told_in_words_and_anything_else_is_refused() {
        let query = encode("/a").expect("a path");
        let mut answer = ErrorCode::NoNode.number().to_be_bytes().to_vec();
        answer.extend_from_slice(&7i64.to_be_bytes());
        let (asked, said) = words(&query, &answer.into()).expect("a read");
        assert_eq!((asked.as_str(), said.as_str()), ("get /a", "NoNode, as of zxid 0x7"));
        assert!(words(&Bytes::from_static(b"x"), &Bytes::new()).is_err());
        assert!(encode("a").is_err() && encode("/a/").is_err() && encode("/").is_ok());
    }
}
