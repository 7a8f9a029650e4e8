// The SDK checks the digests of bodies and attributes, and throws where they differ.
import assert from "node:assert/strict";
import {
  CreateQueueCommand,
  DeleteMessageCommand,
  GetQueueUrlCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const name = process.argv[2];
const sqs = new SQSClient({});
const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: name }));

const typed = {
  kind: { DataType: "String", StringValue: "Grüße" },
  count: { DataType: "Number.int", StringValue: "7" },
  raw: { DataType: "Binary", BinaryValue: Uint8Array.from([0, 255]) },
};
const text = '{"order":  1, "text": "Grüße 🎈"}';
await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: text, MessageAttributes: typed }));
const { Messages } = await sqs.send(
  new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 5, MessageAttributeNames: ["All"] }),
);
assert.equal(Messages.length, 1);
assert.equal(Messages[0].Body, text);
assert.deepEqual(Messages[0].MessageAttributes, typed);
const ReceiptHandle = Messages[0].ReceiptHandle;
await sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle }));

await assert.rejects(
  sqs.send(new GetQueueUrlCommand({ QueueName: `${name}-missing` })),
  (error) => error.name === "QueueDoesNotExist" || error.name.endsWith("NonExistentQueue"),
);

const bodies = Array.from({ length: 10 }, (_, number) => `body ${number}`);
await sqs.send(
  new SendMessageBatchCommand({
    QueueUrl,
    Entries: bodies.map((MessageBody, number) => ({ Id: `${number}`, MessageBody })),
  }),
);
const handled = [];
const failures = [];
await new Promise((resolve, reject) => {
  const consumer = Consumer.create({
    queueUrl: QueueUrl,
    sqs,
    batchSize: 3,
    waitTimeSeconds: 1,
    handleMessage: async (message) => {
      handled.push(message.Body);
      return message;
    },
  });
  consumer.on("error", (error) => failures.push(error));
  consumer.on("processing_error", (error) => failures.push(error));
  consumer.on("empty", () => consumer.stop());
  consumer.on("stopped", resolve);
  setTimeout(reject, 60_000, new Error("the queue is not empty after a minute")).unref();
  consumer.start();
});
assert.deepEqual(failures, []);
assert.deepEqual(handled.sort(), bodies);
console.log("ok");
