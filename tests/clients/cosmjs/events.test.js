// Subscriptions.
"use strict";

const assert = require("node:assert");
const test = require("node:test");
const { byHttp, bySocket, end, pair, until } = require("./rig");

const hex = (bytes) => Buffer.from(bytes).toString("hex");

/** What a stream gives from now on. */
function gather(stream) {
  const all = [];
  const listener = { next: (event) => all.push(event), error: (error) => all.push(error), complete: () => {} };
  stream.addListener(listener);
  return { all, stop: () => stream.removeListener(listener) };
}

test.after(end);

test("blocks, headers and transactions are told as they come, once each and in order", async () => {
  const [http, socket] = [byHttp(0), bySocket(1)];
  const wished = pair();
  const [blocks, headers, all, one] = [
    gather(socket.subscribeNewBlock()),
    gather(socket.subscribeNewBlockHeader()),
    gather(socket.subscribeTx()),
    gather(socket.subscribeTx(`app.key='${wished.key}'`)),
  ];
  // It is subscribed once another call is answered behind it on the same connection.
  await socket.health();
  const others = [pair(), pair()];
  await http.broadcastTxCommit({ tx: others[0].tx });
  const { height } = await http.broadcastTxCommit({ tx: wished.tx });
  await http.broadcastTxCommit({ tx: others[1].tx });
  await until(() => all.all.length >= 3 && headers.all.some((header) => header.height > height), "they are told");

  assert.deepStrictEqual(all.all.map((event) => hex(event.tx)), [others[0], wished, others[1]].map((sent) => hex(sent.tx)));
  assert.deepStrictEqual(one.all.map((event) => [hex(event.tx), event.height]), [[hex(wished.tx), height]]);
  const heights = headers.all.map((header) => header.height);
  assert.deepStrictEqual(heights, heights.map((_, at) => heights[0] + at), "no height is left out");
  const [block, header] = [blocks, headers].map(({ all }) => all.find((one) => (one.header ?? one).height === height));
  assert.deepStrictEqual(block.header.appHash, header.appHash);
  assert.ok(block.txs.some((tx) => hex(tx) === hex(wished.tx)));

  // What is not listened to any more is unsubscribed, so that it can be subscribed to again.
  one.stop();
  const again = gather(socket.subscribeTx(`app.key='${wished.key}'`));
  await socket.health();
  [blocks, headers, all, again].forEach((gathered) => gathered.stop());
});

test("a query that is none is refused", async () => {
  const socket = bySocket();
  const { all } = gather(socket.subscribeTx("app.key = "));
  await until(() => all.length > 0, "it is refused");
  assert.match(String(all[0]), /failed to parse query/);
});
