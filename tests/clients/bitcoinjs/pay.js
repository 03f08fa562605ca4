// bitcoinjs-lib makes addresses, builds and signs a PSBT of a key-path taproot and of a witness key hash, and the node takes what comes
// of it. The node's calls are made by hand, as this library has no client: NODE is its URL with the cookie in it.
"use strict";

const assert = require("node:assert");
const bitcoin = require("bitcoinjs-lib");
const ecc = require("@bitcoinerlab/secp256k1");
const { ECPairFactory } = require("ecpair");

bitcoin.initEccLib(ecc);
const ECPair = ECPairFactory(ecc);
const network = bitcoin.networks.regtest;
const node = new URL(process.env.NODE);
const authorization = "Basic " + Buffer.from(`${node.username}:${node.password}`).toString("base64");

async function call(method, ...params) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const answer = await fetch(`http://${node.host}/`, { method: "POST", headers: { authorization }, body });
  const { result, error } = await answer.json();
  if (error) throw Object.assign(new Error(error.message), { code: error.code });
  return result;
}

const key = ECPair.fromPrivateKey(Buffer.alloc(32, 7), { network });
const xOnly = key.publicKey.subarray(1, 33);
const tweaked = key.tweak(bitcoin.crypto.taggedHash("TapTweak", xOnly));

const KINDS = {
  p2wpkh: { payment: bitcoin.payments.p2wpkh({ pubkey: key.publicKey, network }), signer: key, extra: {} },
  p2tr: {
    payment: bitcoin.payments.p2tr({ internalPubkey: xOnly, network }),
    signer: tweaked,
    extra: { tapInternalKey: xOnly },
  },
};

async function pays(kind) {
  const { payment, signer, extra } = KINDS[kind];
  const [block] = await call("generatetoaddress", 1, payment.address);
  await call("generatetodescriptor", 100, "raw(51)");
  const [coinbase] = (await call("getblock", block, 2)).tx;
  const psbt = new bitcoin.Psbt({ network });
  const value = BigInt(Math.round(coinbase.vout[0].value * 1e8));
  psbt.addInput({ hash: coinbase.txid, index: 0, witnessUtxo: { script: payment.output, value }, ...extra });
  psbt.addOutput({ address: payment.address, value: value - 10000n });
  psbt.signInput(0, signer);
  psbt.finalizeAllInputs();
  const tx = psbt.extractTransaction();
  const [verdict] = await call("testmempoolaccept", [tx.toHex()]);
  assert.deepStrictEqual([verdict.allowed, verdict.txid], [true, tx.getId()]);
  assert.strictEqual(await call("sendrawtransaction", tx.toHex()), tx.getId());
  const [mined] = await call("generatetodescriptor", 1, "raw(51)");
  assert.ok((await call("getblock", mined)).tx.includes(tx.getId()));
  assert.strictEqual((await call("gettxout", tx.getId(), 0)).confirmations, 1);
  const raw = await call("getblock", mined, 0);
  assert.strictEqual(bitcoin.Block.fromHex(raw).getId(), mined);
  assert.ok(bitcoin.Block.fromHex(raw).checkTxRoots());
  // A reorganisation takes the confirmation away, and the payment waits again.
  await call("invalidateblock", mined);
  assert.ok((await call("getrawmempool")).includes(tx.getId()));
  // To somebody else: the very same block would be the one that does not count.
  await call("generatetodescriptor", 2, "raw(52)");
  assert.strictEqual((await call("gettxout", tx.getId(), 0)).confirmations, 2);
  // The same coin again.
  await assert.rejects(call("sendrawtransaction", tx.toHex()), { code: -27 });
}

(async () => {
  for (const kind of Object.keys(KINDS)) await pays(kind);
  console.log("paid");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
