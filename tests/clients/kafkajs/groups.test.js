// Groups: who gets what, and where they go on.
"use strict";

const assert = require("node:assert");
const test = require("node:test");
const { client, name, topic, until, using } = require("./rig");

const kafka = client();

/** A member that notes what it is given and what it reads. */
async function member(groupId, where, options = {}) {
  // A member that waits for records hears of a rebalance afterwards.
  const timing = { sessionTimeout: 10_000, heartbeatInterval: 300, rebalanceTimeout: 10_000, maxWaitTimeInMs: 300 };
  const consumer = kafka.consumer({ groupId, ...timing });
  const seen = { consumer, values: [], partitions: [] };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => (seen.partitions = payload.memberAssignment[where] ?? []));
  await consumer.connect();
  await consumer.subscribe({ topic: where, fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => void seen.values.push(message.value.toString()),
    ...options,
  });
  return seen;
}

function send(where, values, partition = 0) {
  const messages = values.map((value) => ({ value, partition }));
  return using(kafka.producer(), (producer) => producer.send({ topic: where, messages }));
}

test("a group goes on where it was", async () => {
  const [where, group] = [await topic(kafka), name("group")];
  await send(where, ["a", "b"]);
  const first = await member(group, where);
  await until(() => first.values.length === 2, "two records");
  await first.consumer.disconnect();
  await send(where, ["c"]);
  const second = await member(group, where);
  await until(() => second.values.length > 0, "one record");
  await second.consumer.disconnect();
  assert.deepStrictEqual([first.values, second.values], [["a", "b"], ["c"]]);
});

test("members share the partitions, and take over when one leaves", async () => {
  const [where, group] = [await topic(kafka, 4), name("group")];
  const shares = (members) => members.map((each) => each.partitions.length).sort();
  const first = await member(group, where);
  await until(() => first.partitions.length === 4, "all for the first");
  const second = await member(group, where);
  await until(() => shares([first, second]).join() === "2,2", "two for each of two");
  const third = await member(group, where);
  await until(() => shares([first, second, third]).join() === "1,1,2", "all for three");
  const all = [first, second, third].flatMap((each) => each.partitions);
  assert.deepStrictEqual(all.sort(), [0, 1, 2, 3]);
  await first.consumer.disconnect();
  await until(() => shares([second, third]).join() === "2,2", "two for each that stayed");
  for (const partition of [0, 1, 2, 3]) await send(where, [`p${partition}`], partition);
  await until(() => second.values.length + third.values.length === 4, "each partition is read");
  assert.deepStrictEqual([...second.values, ...third.values].sort(), ["p0", "p1", "p2", "p3"]);
  await second.consumer.disconnect();
  await third.consumer.disconnect();
});

test("seek, pause and resume", async () => {
  const where = await topic(kafka);
  await send(where, ["a", "b", "c"]);
  const one = await member(name("group"), where);
  await until(() => one.values.length === 3, "three records");
  one.consumer.seek({ topic: where, partition: 0, offset: "1" });
  await until(() => one.values.length === 5, "two of them again");
  one.consumer.pause([{ topic: where }]);
  await send(where, ["d"]);
  assert.deepStrictEqual(one.consumer.paused(), [{ topic: where, partitions: [0] }]);
  one.consumer.resume([{ topic: where }]);
  await until(() => one.values.length === 6, "what came meanwhile");
  await one.consumer.disconnect();
  assert.deepStrictEqual(one.values, ["a", "b", "c", "b", "c", "d"]);
});

test("offsets are committed by hand, with metadata", async () => {
  const [where, group] = [await topic(kafka), name("group")];
  await send(where, ["a", "b", "c"]);
  const one = await member(group, where, { autoCommit: false });
  await until(() => one.values.length === 3, "three records");
  await one.consumer.commitOffsets([{ topic: where, partition: 0, offset: "2", metadata: "half" }]);
  await one.consumer.disconnect();
  const [fetched] = await using(kafka.admin(), (admin) => admin.fetchOffsets({ groupId: group, topics: [where] }));
  assert.deepStrictEqual(fetched.partitions, [{ partition: 0, offset: "2", metadata: "half" }]);
});
