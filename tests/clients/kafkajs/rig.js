// What the tests share: a client, names that nobody else uses, and waiting for records.
"use strict";

const { Kafka, logLevel } = require("kafkajs");

const PATIENCE_MS = 45_000;

let count = 0;

function client(options = {}) {
  return new Kafka({ brokers: process.env.BROKERS.split(","), clientId: "tests", logLevel: logLevel.NOTHING, ...options });
}

/** A name that no other test uses. */
function name(kind) {
  count += 1;
  return `kafkajs-${kind}-${process.pid}-${count}`;
}

/** A topic of this many partitions. */
async function topic(kafka, numPartitions = 1, more = {}) {
  const admin = kafka.admin();
  await admin.connect();
  const topic = name("topic");
  await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 3, ...more }], waitForLeaders: true });
  await admin.disconnect();
  return topic;
}

/** Runs `use` with something that connects, and disconnects it whatever happens. */
async function using(thing, use) {
  await thing.connect();
  try {
    return await use(thing);
  } finally {
    await thing.disconnect();
  }
}

/** Waits until the condition holds. */
async function until(condition, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`still not: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** The records of a topic from its beginning, as soon as there are so many. */
async function read(kafka, topic, wanted, options = {}) {
  const found = [];
  const consumer = kafka.consumer({ groupId: name("reader"), maxWaitTimeInMs: 500, ...options });
  await using(consumer, async () => {
    await consumer.subscribe({ topic, fromBeginning: true });
    await consumer.run({ eachMessage: async ({ partition, message }) => void found.push({ partition, ...message }) });
    await until(() => found.length >= wanted, `${wanted} records of ${topic}, there are ${found.length}`);
  });
  return found;
}

function values(records) {
  return records.map((record) => record.value.toString());
}

module.exports = { client, name, read, topic, until, using, values };
