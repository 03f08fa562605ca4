// Transactions, and the offsets in them.
"use strict";

const assert = require("node:assert");
const test = require("node:test");
const { client, name, read, topic, using, values } = require("./rig");

const kafka = client();

function transactional(transactionalId = name("transaction")) {
  return kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 });
}

test("what is aborted is read by those alone who ask for it", async () => {
  const where = await topic(kafka);
  await using(transactional(), async (producer) => {
    for (const [value, end] of [["a", "commit"], ["b", "abort"], ["c", "commit"]]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic: where, messages: [{ value: `${value}1` }, { value: `${value}2` }] });
      await transaction[end]();
    }
  });
  assert.deepStrictEqual(values(await read(kafka, where, 4)), ["a1", "a2", "c1", "c2"]);
  const all = await read(kafka, where, 6, { readUncommitted: true });
  assert.deepStrictEqual(values(all), ["a1", "a2", "b1", "b2", "c1", "c2"]);
});

test("offsets are committed with their transaction alone", async () => {
  const [where, group] = [await topic(kafka), name("group")];
  const committed = async () => {
    const [fetched] = await using(kafka.admin(), (admin) => admin.fetchOffsets({ groupId: group, topics: [where] }));
    return fetched.partitions[0].offset;
  };
  await using(transactional(), async (producer) => {
    for (const [offset, end, then] of [["5", "abort", "-1"], ["7", "commit", "7"]]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic: where, messages: [{ value: offset }] });
      const topics = [{ topic: where, partitions: [{ partition: 0, offset }] }];
      await transaction.sendOffsets({ consumerGroupId: group, topics });
      await transaction[end]();
      assert.strictEqual(await committed(), then);
    }
  });
});

test("a newer producer of the same name fences the older", async () => {
  const [where, id] = [await topic(kafka), name("transaction")];
  await using(transactional(id), async (older) => {
    const lost = await older.transaction();
    await lost.send({ topic: where, messages: [{ value: "lost" }] });
    await using(transactional(id), async (newer) => {
      const kept = await newer.transaction();
      await kept.send({ topic: where, messages: [{ value: "kept" }] });
      await kept.commit();
    });
    await assert.rejects(lost.commit());
  });
  assert.deepStrictEqual(values(await read(kafka, where, 1)), ["kept"]);
});
