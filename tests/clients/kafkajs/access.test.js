// SASL; $BROKERS want it, and know alice, who may do everything.
"use strict";

const assert = require("node:assert");
const test = require("node:test");
const { client, read, topic, using, values } = require("./rig");

// A new one each time: kafkajs keeps the first password in what it was given.
const plain = (password) => ({ mechanism: "plain", username: "alice", password });

test("PLAIN", async () => {
  const kafka = client({ sasl: plain("her password") });
  const where = await topic(kafka);
  await using(kafka.producer(), (producer) => producer.send({ topic: where, messages: [{ value: "a" }] }));
  assert.deepStrictEqual(values(await read(kafka, where, 1)), ["a"]);
});

for (const mechanism of ["scram-sha-256", "scram-sha-512"]) {
  // Its password was set by an administrator before; kafkajs cannot.
  test(mechanism, async () => {
    const kafka = client({ sasl: { mechanism, username: "bob", password: "his password" } });
    await using(kafka.admin(), async (admin) => assert.strictEqual((await admin.describeCluster()).brokers.length, 4));
  });
}

test("a wrong password, and none", async () => {
  const options = { retry: { retries: 0 }, connectionTimeout: 2_000 };
  for (const sasl of [plain("wrong"), { ...plain("wrong"), mechanism: "scram-sha-256" }]) {
    const refused = client({ ...options, sasl }).admin();
    await assert.rejects(refused.connect(), /Authentication failed/);
    await refused.disconnect();
  }
  const stranger = client(options).admin();
  await using(stranger, () => assert.rejects(stranger.listTopics()));
});
