//! Which of these outputs are unspent (BIP 64).

use bitcoin::consensus::Encodable;
use bitcoin::consensus::encode::{Decodable, VarInt};
use bitcoin::hex::FromHex;
use bitcoin::{OutPoint, Txid};

use super::{Answered, FORMATS, Format, Refused, Rest, bad, formed, no_format, number};
use crate::chain::Coin;
use crate::session::rpc::{Json, script_json};

/// No request asks for more.
const OUTPOINTS_MAX: usize = 15;
/// The height that outputs have which are in no block.
const HEIGHT_WAITING: u32 = 0x7fff_ffff;

#[derive(Debug, Default)]
struct Wanted {
    with_mempool: bool,
    outpoints: Vec<OutPoint>,
}

/// `checkmempool/<txid>-<n>/...`.
fn of_path(path: &str) -> Result<Wanted, Refused> {
    let mut wanted = Wanted::default();
    let mut parts = path.split('/').peekable();
    wanted.with_mempool = parts.next_if_eq(&"checkmempool").is_some();
    for part in parts {
        let parsed = part.split_once('-').and_then(|(txid, vout)| {
            let txid = (txid.len() == 64).then(|| txid.parse::<Txid>().ok()).flatten()?;
            Some(OutPoint { txid, vout: number(vout)? })
        });
        wanted.outpoints.push(parsed.ok_or_else(|| bad("Parse error"))?);
    }
    if wanted.outpoints.is_empty() {
        return Err(bad("Error: empty request"));
    }
    Ok(wanted)
}

fn of_bytes(bytes: &[u8]) -> Result<Wanted, Refused> {
    let mut rest = bytes;
    let mut read = || {
        let with_mempool = u8::consensus_decode(&mut rest).ok()? != 0;
        let count = VarInt::consensus_decode(&mut rest).ok()?.0;
        // What is too many is read no further.
        let mut outpoints = Vec::new();
        for _ in 0..count.min(OUTPOINTS_MAX as u64 + 1) {
            outpoints.push(OutPoint::consensus_decode(&mut rest).ok()?);
        }
        Some((Wanted { with_mempool, outpoints }, count))
    };
    let (wanted, count) = read().ok_or_else(|| bad("Parse error"))?;
    bounded(count)?;
    Ok(wanted)
}

fn bounded(count: u64) -> Result<(), Refused> {
    if count > OUTPOINTS_MAX as u64 {
        return Err(bad(format!("Error: max outpoints exceeded (max: {OUTPOINTS_MAX}, tried: {count})")));
    }
    Ok(())
}

fn wanted(path: &str, body: &[u8], format: Format) -> Result<Wanted, Refused> {
    let path = path.strip_prefix('/').unwrap_or("");
    if path.is_empty() && body.is_empty() {
        return Err(bad("Error: empty request"));
    }
    let by_path = if path.is_empty() { None } else { Some(of_path(path)?) };
    match (format, by_path) {
        (Format::Unknown, _) => Err(no_format(FORMATS)),
        (Format::Json, None) => Err(bad("Error: empty request")),
        (Format::Json, Some(wanted)) => Ok(wanted),
        (_, Some(_)) if !body.is_empty() => {
            Err(bad("Combination of URI scheme inputs and raw post data is not allowed"))
        }
        (_, Some(wanted)) => Ok(wanted),
        (Format::Hex, None) => {
            let text = str::from_utf8(body).unwrap_or("").trim();
            of_bytes(&Vec::<u8>::from_hex(text).unwrap_or_default())
        }
        (Format::Binary, None) => of_bytes(body),
    }
}

pub(super) fn answer(rest: &mut Rest<'_, '_, '_>, path: &str, format: Format) -> Answered {
    let wanted = wanted(path, &rest.request.body, format)?;
    bounded(wanted.outpoints.len() as u64)?;
    let node = &*rest.call.ctx.node;
    let chain = node.chain();
    let mut coins: Vec<Option<Coin>> = Vec::new();
    for outpoint in &wanted.outpoints {
        let spent = wanted.with_mempool && node.mempool().spender(outpoint).is_some();
        let waiting = node.mempool().get(&outpoint.txid).filter(|_| wanted.with_mempool && !spent);
        coins.push(match waiting {
            _ if spent => None,
            Some(entry) => {
                let out = entry.tx.output.get(outpoint.vout as usize);
                out.map(|out| Coin { out: out.clone(), height: HEIGHT_WAITING, coinbase: false })
            }
            None => chain.coin(outpoint)?,
        });
    }
    let mut bitmap = vec![0_u8; coins.len().div_ceil(8)];
    for (index, coin) in coins.iter().enumerate() {
        bitmap[index / 8] |= u8::from(coin.is_some()) << (index % 8);
    }
    let tip = chain.entry(chain.tip());
    let written = "a vector takes all that is written to it";
    let mut bytes = Vec::new();
    tip.height.consensus_encode(&mut bytes).expect(written);
    tip.hash.consensus_encode(&mut bytes).expect(written);
    bitmap.consensus_encode(&mut bytes).expect(written);
    VarInt::from(coins.iter().flatten().count()).consensus_encode(&mut bytes).expect(written);
    for coin in coins.iter().flatten() {
        // A transaction's version stood here once.
        0_u32.consensus_encode(&mut bytes).expect(written);
        coin.height.consensus_encode(&mut bytes).expect(written);
        coin.out.consensus_encode(&mut bytes).expect(written);
    }
    let network = chain.params().network;
    formed(format, bytes, || {
        let marks: String = coins.iter().map(|coin| if coin.is_some() { '1' } else { '0' }).collect();
        let rows = coins.iter().flatten().map(|coin| {
            Json::obj()
                .with("height", coin.height)
                .with("value", coin.out.value)
                .with("scriptPubKey", script_json(&coin.out.script_pubkey, network))
        });
        Json::obj()
            .with("chainHeight", tip.height)
            .with("chaintipHash", tip.hash)
            .with("bitmap", marks)
            .with("utxos", Json::Arr(rows.collect()))
    })
}
