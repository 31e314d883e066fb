// Reads a stream through a split with the AWS SDK for JavaScript, and meets every error that a consumer must know.
// The argument is the server's endpoint.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

// The packages are looked for where the second argument says, not beside this file.
const [endpoint, packages] = process.argv.slice(2);
const load = createRequire(path.join(packages, "package.json"));
const {
  BatchWriteItemCommand,
  DeleteItemCommand,
  DescribeTableCommand,
  DynamoDBClient,
  PutItemCommand,
} = load("@aws-sdk/client-dynamodb");
const {
  DescribeStreamCommand,
  DynamoDBStreamsClient,
  GetRecordsCommand,
  GetShardIteratorCommand,
  ListStreamsCommand,
} = load("@aws-sdk/client-dynamodb-streams");

const ITEMS = 60;
const settings = {
  endpoint,
  region: "local-1",
  credentials: { accessKeyId: "test", secretAccessKey: "test" },
  maxAttempts: 1,
};
const streams = new DynamoDBStreamsClient(settings);
const tables = new DynamoDBClient(settings);

/** Says something to the control interface. */
async function order(command, body = {}) {
  const answer = await fetch(`${endpoint}/_control/${command}`, { method: "POST", body: JSON.stringify(body) });
  const parsed = await answer.json();
  assert.equal(answer.status, 200, parsed.error);
  return parsed;
}

const item = (n) => ({ id: { S: String(n) }, n: { N: String(n) } });

/** Writes one by one and in batches. */
async function write(from, to) {
  const puts = [];
  for (let n = from; n < to; n += 1) {
    if (n % 2) puts.push({ PutRequest: { Item: item(n) } });
    else await tables.send(new PutItemCommand({ TableName: "js-orders", Item: item(n) }));
  }
  while (puts.length) {
    const batch = puts.splice(0, 25);
    await tables.send(new BatchWriteItemCommand({ RequestItems: { "js-orders": batch } }));
  }
}

/** All shards, page by page. */
async function listShards(arn) {
  const shards = [];
  let after;
  do {
    const page = await streams.send(
      new DescribeStreamCommand({ StreamArn: arn, Limit: 2, ExclusiveStartShardId: after }),
    );
    shards.push(...page.StreamDescription.Shards);
    after = page.StreamDescription.LastEvaluatedShardId;
  } while (after);
  return shards;
}

async function first(arn, shard) {
  const asked = { StreamArn: arn, ShardId: shard, ShardIteratorType: "TRIM_HORIZON" };
  return (await streams.send(new GetShardIteratorCommand(asked))).ShardIterator;
}

/** The records of a shard, and whether it came to its end. */
async function read(arn, shard) {
  const records = [];
  let iterator = await first(arn, shard);
  while (iterator) {
    const page = await streams.send(new GetRecordsCommand({ ShardIterator: iterator, Limit: 7 }));
    records.push(...page.Records);
    iterator = page.NextShardIterator;
    if (iterator && !page.Records.length) return { records, ended: false };
    await order("advance", { seconds: 1 });
  }
  return { records, ended: true };
}

async function refused(name, command) {
  await assert.rejects(streams.send(command), (error) => {
    assert.equal(error.name, name, error);
    return true;
  });
}

await order("create-table", { table: "js-orders", keys: ["id"] });
const table = (await tables.send(new DescribeTableCommand({ TableName: "js-orders" }))).Table;
const arn = table.LatestStreamArn;
const listed = await streams.send(new ListStreamsCommand({ TableName: "js-orders" }));
assert.deepEqual(listed.Streams.map((stream) => stream.StreamArn), [arn]);

await write(0, ITEMS / 3);
const [{ ShardId: parent }] = await listShards(arn);
const { children } = await order("split", { stream: arn, shard: parent });
await write(ITEMS / 3, ITEMS);
await tables.send(new DeleteItemCommand({ TableName: "js-orders", Key: { id: { S: "0" } } }));

const shards = await listShards(arn);
const continued = shards.filter((shard) => shard.ParentShardId === parent).map((shard) => shard.ShardId);
assert.deepEqual(continued.sort(), [...children].sort());

// Parents first.
const seen = [];
for (const shard of [parent, ...children]) {
  const { records, ended } = await read(arn, shard);
  assert.equal(ended, shard === parent);
  const numbers = records.map((record) => BigInt(record.dynamodb.SequenceNumber));
  assert.ok(numbers.every((number, at) => at === 0 || number > numbers[at - 1]));
  seen.push(...records.map((record) => record.dynamodb.Keys.id.S));
}
const wanted = [...Array(ITEMS).keys()].map(String).concat("0");
assert.deepEqual(seen.sort(), wanted.sort());

let iterator = await first(arn, children[0]);
await order("expire-iterators");
await refused("ExpiredIteratorException", new GetRecordsCommand({ ShardIterator: iterator }));
iterator = await first(arn, parent);
await order("trim", { stream: arn, shard: parent });
await refused("TrimmedDataAccessException", new GetRecordsCommand({ ShardIterator: iterator }));
await refused("ResourceNotFoundException", new DescribeStreamCommand({ StreamArn: `${arn.slice(0, -1)}x` }));
await refused("ValidationException", new GetRecordsCommand({ ShardIterator: "garbled" }));
await order("throttle", { operation: "DescribeStream", seconds: 5 });
await refused("ThrottlingException", new DescribeStreamCommand({ StreamArn: arn }));
await order("fault", { operation: "GetRecords", kind: "error", code: "LimitExceededException" });
await refused("LimitExceededException", new GetRecordsCommand({ ShardIterator: await first(arn, children[0]) }));

await order("disable-stream", { table: "js-orders" });
await order("advance", { seconds: 6 });
const disabled = await streams.send(new DescribeStreamCommand({ StreamArn: arn }));
assert.equal(disabled.StreamDescription.StreamStatus, "DISABLED");
for (const child of children) assert.ok((await read(arn, child)).ended, "a closed shard ends");
console.log(`the SDK for JavaScript read ${seen.length} records of ${shards.length} shards`);
