// What administrators ask for.
"use strict";

const assert = require("node:assert");
const test = require("node:test");
const {
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  ConfigResourceTypes,
  ResourcePatternTypes,
} = require("kafkajs");
const { client, name, topic, until, using } = require("./rig");

const kafka = client();
const admin = kafka.admin();
/** For what is refused: it asks once. */
const hasty = client({ retry: { retries: 0 } }).admin();

test.before(() => admin.connect());
test.after(() => admin.disconnect());

test("the cluster", async () => {
  const { brokers, controller, clusterId } = await admin.describeCluster();
  assert.strictEqual(brokers.length, 4);
  assert.ok(brokers.some((broker) => broker.nodeId === controller) && clusterId);
});

test("topics come, grow and go", async () => {
  const where = name("topic");
  assert.strictEqual(await admin.createTopics({ topics: [{ topic: where, numPartitions: 2 }] }), true);
  assert.strictEqual(await admin.createTopics({ topics: [{ topic: where }] }), false, "it is there");
  await assert.rejects(admin.createTopics({ topics: [{ topic: "no/name" }] }));
  await admin.createPartitions({ topicPartitions: [{ topic: where, count: 3 }] });
  const { topics } = await admin.fetchTopicMetadata({ topics: [where] });
  assert.deepStrictEqual(topics[0].partitions.map((partition) => partition.partitionId).sort(), [0, 1, 2]);
  assert.ok((await admin.listTopics()).includes(where));
  await admin.deleteTopics({ topics: [where] });
  await until(async () => !(await admin.listTopics()).includes(where), "it is gone");
  await using(hasty, () => assert.rejects(hasty.deleteTopics({ topics: [where] })));
});

test("configurations are told and changed", async () => {
  const where = await topic(kafka, 1, { configEntries: [{ name: "retention.ms", value: "60000" }] });
  const resource = { type: ConfigResourceTypes.TOPIC, name: where };
  const told = async () => {
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] });
    return new Map(resources[0].configEntries.map((entry) => [entry.configName, entry.configValue]));
  };
  assert.strictEqual((await told()).get("retention.ms"), "60000");
  const configEntries = [{ name: "cleanup.policy", value: "compact" }];
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] });
  const changed = await told();
  assert.strictEqual(changed.get("cleanup.policy"), "compact");
  assert.strictEqual(changed.get("retention.ms"), "604800000", "what is not named is the default again");
});

test("records are deleted, and offsets told", async () => {
  const where = await topic(kafka);
  const now = Date.now();
  const messages = ["a", "b", "c"].map((value, at) => ({ value, timestamp: String(now - 3_000 + 1_000 * at) }));
  await using(kafka.producer(), (producer) => producer.send({ topic: where, messages }));
  await admin.fetchTopicOffsets(where); // Which also tells the client who leads; it does not ask by itself.
  await admin.deleteTopicRecords({ topic: where, partitions: [{ partition: 0, offset: "2" }] });
  assert.deepStrictEqual(await admin.fetchTopicOffsets(where), [{ partition: 0, offset: "3", high: "3", low: "2" }]);
  const [{ offset }] = await admin.fetchTopicOffsetsByTimestamp(where, now - 1_500);
  assert.strictEqual(offset, "2");
});

test("groups are listed, told, moved and deleted", async () => {
  const [where, groupId] = [await topic(kafka), name("group")];
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 500 });
  await using(consumer, async () => {
    await consumer.subscribe({ topic: where });
    await consumer.run({ eachMessage: async () => {} });
    const state = async () => (await admin.describeGroups([groupId])).groups[0];
    await until(async () => (await state()).state === "Stable", "the group is stable");
    assert.strictEqual((await state()).members.length, 1);
    await using(hasty, () => assert.rejects(hasty.deleteGroups([groupId]), "it has members"));
  });
  assert.ok((await admin.listGroups()).groups.some((group) => group.groupId === groupId));
  await admin.setOffsets({ groupId, topic: where, partitions: [{ partition: 0, offset: "4" }] });
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [where] });
  assert.strictEqual(partitions[0].offset, "4");
  await admin.deleteGroups([groupId]);
  assert.ok(!(await admin.listGroups()).groups.some((group) => group.groupId === groupId));
});

test("rules are made, told and deleted", async () => {
  const rule = {
    resourceType: AclResourceTypes.TOPIC,
    resourceName: name("rule"),
    resourcePatternType: ResourcePatternTypes.LITERAL,
    principal: "User:bob",
    host: "*",
    operation: AclOperationTypes.READ,
    permissionType: AclPermissionTypes.ALLOW,
  };
  assert.strictEqual(await admin.createAcls({ acl: [rule] }), true);
  const { resources } = await admin.describeAcls(rule);
  assert.deepStrictEqual(resources.map((found) => found.resourceName), [rule.resourceName]);
  assert.strictEqual(resources[0].acls[0].principal, "User:bob");
  const { filterResponses } = await admin.deleteAcls({ filters: [rule] });
  assert.strictEqual(filterResponses[0].matchingAcls.length, 1);
  assert.deepStrictEqual((await admin.describeAcls(rule)).resources, []);
});

test("reassignments of partitions", async () => {
  const where = await topic(kafka);
  const [partition] = (await admin.fetchTopicMetadata({ topics: [where] })).topics[0].partitions;
  const spare = [1, 2, 3, 4].find((node) => !partition.replicas.includes(node));
  const replicas = [partition.replicas[0], partition.replicas[1], spare];
  await admin.alterPartitionReassignments({ topics: [{ topic: where, partitionAssignment: [{ partition: 0, replicas }] }] });
  // A node that is asked may not have heard yet that it began.
  await until(async () => {
    const under = await admin.listPartitionReassignments({ topics: [{ topic: where, partitions: [0] }] });
    const [moved] = (await admin.fetchTopicMetadata({ topics: [where] })).topics[0].partitions;
    return under.topics.length === 0 && `${[...moved.replicas].sort()}` === `${[...replicas].sort()}`;
  }, "it has moved");
});
