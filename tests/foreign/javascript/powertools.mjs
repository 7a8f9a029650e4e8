// Powertools' idempotency, unchanged: a repeated event, an exception, expiry, a run that was given
// up, calls at once, an optional key, a changed payload, a hook of answers.
import assert from "node:assert/strict";
import {
  CreateTableCommand,
  DescribeTableCommand,
  DynamoDBClient,
  UpdateTimeToLiveCommand,
} from "@aws-sdk/client-dynamodb";
import { IdempotencyConfig, makeIdempotent } from "@aws-lambda-powertools/idempotency";
import { layer } from "./layer.mjs";

const IN_PROGRESS = "IdempotencyAlreadyInProgressError";
const tableName = process.argv[2];
const dynamodb = new DynamoDBClient({});
await dynamodb.send(
  new CreateTableCommand({
    TableName: tableName,
    BillingMode: "PAY_PER_REQUEST",
    AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
    KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
  }),
);
await dynamodb.send(
  new UpdateTimeToLiveCommand({
    TableName: tableName,
    TimeToLiveSpecification: { Enabled: true, AttributeName: "expiration" },
  }),
);

const inMilliseconds = (left) => ({ getRemainingTimeInMillis: () => left });
let scenarios = 0;
/** Return a function that pays once for each order, with the count of its runs. */
function payments(settings = {}, work = async () => {}) {
  const prefix = `scenario-${++scenarios}`;
  const pay = async (event) => {
    const payment = ++pay.runs;
    await work(event);
    return { payment, of: event.order ?? null };
  };
  pay.runs = 0;
  const config = new IdempotencyConfig({ eventKeyJmesPath: "order", ...settings });
  config.registerLambdaContext(inMilliseconds(60_000));
  const persistenceStore = layer(tableName);
  const call = makeIdempotent(pay, { persistenceStore, config, keyPrefix: prefix });
  return { pay, call, config };
}
const named = (name) => (error) => error.name === name;
/** Call until there is an answer that is true. */
async function until(fact, what) {
  const deadline = Date.now() + 60_000;
  let answer;
  while (!(answer = await fact())) {
    assert.ok(Date.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return answer;
}

{
  const { pay, call } = payments();
  assert.deepEqual(await call({ order: "a" }), { payment: 1, of: "a" });
  assert.deepEqual(await call({ order: "a" }), { payment: 1, of: "a" });
  assert.deepEqual(await call({ order: "b" }), { payment: 2, of: "b" });
  assert.equal(pay.runs, 2);
}
{
  const broken = [true];
  const { pay, call } = payments({}, async () => {
    if (broken.pop()) throw new Error("no such card");
  });
  await assert.rejects(call({ order: "a" }), /no such card/);
  assert.deepEqual(await call({ order: "a" }), { payment: 2, of: "a" });
  assert.equal(pay.runs, 2);
}
{
  const { call } = payments({ expiresAfterSeconds: 1 });
  assert.equal((await call({ order: "a" })).payment, 1);
  const isNew = async () => (await call({ order: "a" })).payment === 2;
  await until(isNew, "the record does not expire");
}
{
  // A run that has no time left when it begins is given up at once, and the next one may begin.
  let free;
  const waits = [new Promise((resolve) => (free = resolve))];
  const { pay, call, config } = payments({}, async () => waits.pop());
  config.registerLambdaContext(inMilliseconds(1));
  const first = call({ order: "a" });
  await until(() => pay.runs === 1, "the first run does not begin");
  const begun = () => call({ order: "a" }).catch((error) => assert.ok(named(IN_PROGRESS)(error)));
  assert.equal((await until(begun, "the run is not begun again")).payment, 2);
  free();
  await first;
}
{
  let free;
  const held = new Promise((resolve) => (free = resolve));
  const { pay, call } = payments({}, () => held);
  const refused = [];
  const calls = Array.from({ length: 4 }, () =>
    call({ order: "a" }).catch((error) => {
      refused.push(error.name);
      if (refused.length === 3) free();
    }),
  );
  const answers = await Promise.all(calls);
  assert.deepEqual(refused, Array(3).fill(IN_PROGRESS));
  assert.deepEqual(answers.filter(Boolean), [{ payment: 1, of: "a" }]);
  assert.equal(pay.runs, 1);
}
{
  const { pay, call } = payments({ throwOnNoIdempotencyKey: false });
  await call({});
  await call({});
  assert.equal(pay.runs, 2);
  const strict = payments({ throwOnNoIdempotencyKey: true });
  await assert.rejects(strict.call({}), (error) => named("IdempotencyKeyError")(error.cause));
}
{
  const { pay, call } = payments({ payloadValidationJmesPath: "amount" });
  await call({ order: "a", amount: 10 });
  assert.equal((await call({ order: "a", amount: 10 })).payment, 1);
  await assert.rejects(call({ order: "a", amount: 99 }), named("IdempotencyValidationError"));
  assert.equal(pay.runs, 1);
}
{
  const { call } = payments({ responseHook: (answer) => ({ ...answer, repeated: true }) });
  assert.deepEqual(await call({ order: "a" }), { payment: 1, of: "a" });
  assert.deepEqual(await call({ order: "a" }), { payment: 1, of: "a", repeated: true });
}
const { Table } = await dynamodb.send(new DescribeTableCommand({ TableName: tableName }));
assert.equal(Table.ItemCount, 8);
console.log("ok");
