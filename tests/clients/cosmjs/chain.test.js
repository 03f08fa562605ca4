// What can be read of the chain, and what is sent to it, by HTTP and by WebSocket.
"use strict";

const assert = require("node:assert");
const crypto = require("node:crypto");
const test = require("node:test");
const { connectComet } = require("@cosmjs/tendermint-rpc");
const { HOSTS, byHttp, bySocket, end, pair, root, sha256, until, utf8 } = require("./rig");

const hex = (bytes) => Buffer.from(bytes).toString("hex");

test.after(end);

test("it is taken for a CometBFT 0.38", async () => {
  const client = await connectComet(`http://${HOSTS[0]}`);
  assert.strictEqual(client.constructor.name, "Comet38Client");
  client.disconnect();
});

for (const [way, connect] of [["http", byHttp], ["websocket", bySocket]]) {
  test(`by ${way}: the node`, async () => {
    const client = connect();
    assert.strictEqual(await client.health(), null);
    const status = await client.status();
    assert.strictEqual(status.syncInfo.catchingUp, false);
    assert.strictEqual(status.validatorInfo.votingPower, 1n);
    const genesis = await client.genesis();
    assert.strictEqual(genesis.chainId, status.nodeInfo.network);
    assert.strictEqual(genesis.validators.length, HOSTS.length);
    const info = await client.abciInfo();
    assert.ok(info.lastBlockHeight >= 1 && info.lastBlockAppHash.length === 32);
  });

  test(`by ${way}: a transaction is committed and found`, async () => {
    const client = connect();
    const { key, value, tx } = pair();
    const sent = await client.broadcastTxCommit({ tx });
    assert.strictEqual(sent.checkTx.code, 0);
    assert.strictEqual(sent.txResult.code, 0);
    assert.strictEqual(hex(sent.hash), hex(sha256(tx)));

    const found = await client.tx({ hash: sent.hash, prove: true });
    assert.strictEqual(found.height, sent.height);
    const { block } = await client.block(sent.height);
    const { total, index, leafHash, aunts } = found.proof.proof;
    assert.strictEqual(hex(leafHash), hex(sha256(Buffer.from([0]), sha256(tx))));
    assert.strictEqual(hex(root(index, total, leafHash, aunts)), hex(block.header.dataHash));
    assert.strictEqual(hex(block.txs[found.index]), hex(tx));

    const results = await client.blockResults(sent.height);
    assert.deepStrictEqual(results.results[found.index].events[0].attributes[1], { key: "key", value: key });
    const searched = await client.txSearch({ query: `app.key='${key}'`, prove: true });
    assert.strictEqual(searched.totalCount, 1);
    assert.strictEqual(hex(searched.txs[0].tx), hex(tx));
    const queried = await client.abciQuery({ path: "/key", data: utf8(key) });
    assert.strictEqual(Buffer.from(queried.value).toString(), value);
  });

  test(`by ${way}: what is refused has CometBFT's words`, async () => {
    const client = connect();
    const bad = await client.broadcastTxSync({ tx: utf8("no pair") });
    assert.strictEqual(bad.code, 2);
    const { tx } = pair();
    assert.strictEqual((await client.broadcastTxSync({ tx })).code, 0);
    await assert.rejects(client.broadcastTxSync({ tx }), /tx already exists in cache/);
    await assert.rejects(client.block(1_000_000_000), /must be less than or equal to the current blockchain height/);
    await assert.rejects(client.block(0), /height must be greater than 0, but got 0/);
    await assert.rejects(client.txSearch({ query: "app.key=" }), /-32603/);
    await assert.rejects(client.tx({ hash: new Uint8Array(32) }), /not found/);
    await assert.rejects(client.validators({ height: 1, page: 7 }), /page should be within \[1, 1\] range, given 7/);
  });
}

test("a value is proved against the header of the next height", async () => {
  const client = byHttp();
  const { key, value, tx } = pair();
  await client.broadcastTxCommit({ tx });
  const { height, proof } = await client.abciQuery({ path: "/key", data: utf8(key), prove: true });
  assert.strictEqual(proof.ops.length, 1);
  assert.strictEqual(proof.ops[0].type, "simple:v");
  const proved = valueOp(Buffer.from(proof.ops[0].data));
  const sized = (bytes) => Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const leaf = sha256(Buffer.from([0]), sized(Buffer.from(key)), sized(sha256(Buffer.from(value))));
  assert.strictEqual(hex(proved.leafHash), hex(leaf));
  const next = await until(() => client.commit(height + 1).catch(() => null), "the next header");
  assert.strictEqual(hex(root(proved.index, proved.total, leaf, proved.aunts)), hex(next.header.appHash));
});

/** `tendermint.crypto.ValueOp`: field 2 is a `Proof` of total, index, leaf hash and aunts. */
function valueOp(bytes) {
  const read = (bytes) => {
    const fields = [];
    let at = 0;
    const varint = () => {
      let [value, shift] = [0, 0];
      for (;;) {
        const byte = bytes[at++];
        value += (byte & 0x7f) * 2 ** shift;
        if (byte < 0x80) return value;
        shift += 7;
      }
    };
    while (at < bytes.length) {
      const tag = varint();
      const value = varint();
      if (tag % 8 === 0) fields.push([tag >> 3, value]);
      else fields.push([tag >> 3, bytes.subarray(at, (at += value))]);
    }
    return fields;
  };
  const all = read(read(bytes).find(([number]) => number === 2)[1]);
  const one = (number, usual) => (all.find(([other]) => other === number) ?? [0, usual])[1];
  const aunts = all.filter(([number]) => number === 4).map(([, value]) => value);
  return { total: one(1, 0), index: one(2, 0), leafHash: one(3), aunts };
}

test("headers, commits and validators are the same at every node", async () => {
  const { height } = await byHttp().broadcastTxCommit({ tx: pair().tx });
  const seen = await Promise.all(
    HOSTS.map(async (_, node) => {
      const client = byHttp(node);
      await until(async () => (await client.status()).syncInfo.latestBlockHeight > height, "the next block");
      const [{ blockId, block }, { header, canonical }] = [await client.block(height), await client.commit(height)];
      assert.strictEqual(canonical, true);
      assert.strictEqual(header.height, height);
      const { block: next } = await client.block(height + 1);
      assert.strictEqual(hex(next.header.lastBlockId.hash), hex(blockId.hash));
      return [hex(blockId.hash), hex(block.header.appHash), hex(next.header.appHash)].join();
    }),
  );
  assert.strictEqual(new Set(seen).size, 1, seen.join("\n"));
});

test("a commit has the signatures of more than two thirds, and they verify", async () => {
  const client = byHttp();
  const { validators } = await client.validatorsAll(1);
  const { header, commit } = await client.commit(1);
  const voted = commit.signatures.filter((signature) => signature.signature?.length);
  assert.ok(voted.length * 3 > validators.length * 2);
  for (const vote of voted) {
    const { pubkey } = validators.find((one) => hex(one.address) === hex(vote.validatorAddress));
    const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), pubkey.data]);
    const key = crypto.createPublicKey({ key: der, format: "der", type: "spki" });
    assert.ok(crypto.verify(null, signBytes(header.chainId, commit, vote), key, vote.signature));
  }
});

/** The canonical precommit, with its length in front. */
function signBytes(chainId, commit, vote) {
  const varint = (value) => {
    const bytes = [];
    for (let left = BigInt(value); ; left >>= 7n) {
      if (left < 0x80n) return Buffer.from([...bytes, Number(left)]);
      bytes.push(Number(left & 0x7fn) | 0x80);
    }
  };
  const blob = (field, bytes) => Buffer.concat([Buffer.from([(field << 3) | 2]), varint(bytes.length), bytes]);
  const number = (field, value) => (value ? Buffer.concat([Buffer.from([field << 3]), varint(value)]) : Buffer.alloc(0));
  const height = Buffer.alloc(8);
  height.writeBigInt64LE(BigInt(commit.height));
  const { hash, parts } = commit.blockId;
  const id = Buffer.concat([
    blob(1, Buffer.from(hash)),
    blob(2, Buffer.concat([number(1, parts.total), blob(2, Buffer.from(parts.hash))])),
  ]);
  // The nanoseconds below a millisecond stand beside the date.
  const millis = vote.timestamp.getTime();
  const nanos = (millis % 1000) * 1_000_000 + (vote.timestamp.nanoseconds ?? 0);
  const time = Buffer.concat([number(1, Math.floor(millis / 1000)), number(2, nanos)]);
  const all = Buffer.concat([
    number(1, 2), Buffer.from([0x11]), height, blob(4, id), blob(5, time), blob(6, Buffer.from(chainId)),
  ]);
  return Buffer.concat([varint(all.length), all]);
}

test("blocks by range, and by search", async () => {
  const client = byHttp();
  const { height } = await client.broadcastTxCommit({ tx: pair().tx });
  const { lastHeight, blockMetas } = await client.blockchain(1, 3);
  assert.ok(lastHeight >= height);
  const heights = blockMetas.map((meta) => meta.header.height);
  assert.deepStrictEqual(heights, [3, 2, 1].filter((one) => one <= lastHeight));
  const found = await client.blockSearchAll({ query: `block.height <= ${height}` });
  assert.strictEqual(found.totalCount, height);
  assert.strictEqual(found.blocks.length, height);
});

test("pages of a search, in both orders", async () => {
  const client = byHttp();
  const sent = [];
  for (let left = 7; left > 0; left -= 1) sent.push((await client.broadcastTxCommit({ tx: pair().tx })).height);
  const query = `tx.height >= ${sent[0]} AND app.creator = 'Cosmoshi Netowoko'`;
  const page = await client.txSearch({ query, page: 2, per_page: 3, order_by: "desc" });
  assert.strictEqual(page.totalCount, 7);
  assert.deepStrictEqual(page.txs.map((tx) => tx.height), sent.slice(1, 4).reverse());
  assert.strictEqual((await client.txSearchAll({ query, per_page: 2 })).txs.length, 7);
});

test("what waits is counted", async () => {
  const client = byHttp();
  const { tx } = pair();
  await client.broadcastTxAsync({ tx });
  await until(async () => (await client.numUnconfirmedTxs()).total === 0, "nothing waits");
  assert.strictEqual(hex((await until(() => client.tx({ hash: sha256(tx) }).catch(() => null), "it is found")).tx), hex(tx));
});
