// Records in and out.
"use strict";

const assert = require("node:assert");
const test = require("node:test");
const { CompressionCodecs, CompressionTypes } = require("kafkajs");
const { client, name, read, topic, using, values } = require("./rig");

CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy");
const kafka = client();

for (const codec of ["None", "GZIP", "Snappy"]) {
  test(`records of codec ${codec}`, async () => {
    const where = await topic(kafka);
    const messages = Array.from({ length: 300 }, (_, index) => ({
      key: `k${index % 7}`,
      value: `${index} ${"x".repeat(100)}`,
      headers: { number: String(index) },
    }));
    const compression = CompressionTypes[codec];
    await using(kafka.producer(), async (producer) => {
      const [told] = await producer.send({ topic: where, messages, compression });
      assert.deepStrictEqual([told.errorCode, told.baseOffset], [0, "0"]);
    });
    const found = await read(kafka, where, messages.length);
    assert.deepStrictEqual(values(found), messages.map((message) => message.value));
    assert.deepStrictEqual(found.map((record) => record.offset), messages.map((_, index) => String(index)));
    assert.strictEqual(found[12].key.toString(), "k5");
    assert.strictEqual(found[12].headers.number.toString(), "12");
  });
}

for (const acks of [-1, 0, 1]) {
  test(`acks=${acks}`, async () => {
    const where = await topic(kafka);
    await using(kafka.producer(), (producer) => producer.send({ topic: where, acks, messages: [{ value: "a" }, { value: "b" }] }));
    assert.deepStrictEqual(values(await read(kafka, where, 2)), ["a", "b"]);
  });
}

test("an idempotent producer", async () => {
  const where = await topic(kafka);
  const wanted = Array.from({ length: 200 }, (_, index) => String(index));
  await using(kafka.producer({ idempotent: true, maxInFlightRequests: 1 }), async (producer) => {
    for (const value of wanted) await producer.send({ topic: where, messages: [{ value }] });
  });
  assert.deepStrictEqual(values(await read(kafka, where, wanted.length)), wanted);
});

test("a batch for several topics, and a topic that is made by asking for it", async () => {
  const [first, second] = [await topic(kafka, 3), name("made")];
  await using(kafka.producer({ allowAutoTopicCreation: true }), (producer) =>
    producer.sendBatch({
      topicMessages: [
        { topic: first, messages: [{ value: "0", partition: 0 }, { value: "2", partition: 2 }] },
        { topic: second, messages: [{ value: "new" }] },
      ],
    }),
  );
  const found = await read(kafka, first, 2);
  assert.deepStrictEqual(found.map(({ partition, value }) => [partition, value.toString()]).sort(), [[0, "0"], [2, "2"]]);
  assert.deepStrictEqual(values(await read(kafka, second, 1)), ["new"]);
});

test("keys decide the partition, and null values are kept", async () => {
  const where = await topic(kafka, 4);
  await using(kafka.producer(), async (producer) => {
    for (let turn = 0; turn < 3; turn += 1) {
      await producer.send({ topic: where, messages: ["a", "b", "c", "d"].map((key) => ({ key, value: null })) });
    }
  });
  const places = new Map();
  for (const { key, value, partition } of await read(kafka, where, 12)) {
    assert.strictEqual(value, null);
    assert.strictEqual(places.get(key.toString()) ?? partition, partition);
    places.set(key.toString(), partition);
  }
});
