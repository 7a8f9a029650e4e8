// Version 2 of the SDK before November 2023 speaks the Query protocol, and checks the digests.
const assert = require("node:assert/strict");
const AWS = require("aws-sdk");

async function main(endpoint, QueueName) {
  const sqs = new AWS.SQS({ endpoint, region: "us-east-1" });
  const Attributes = { VisibilityTimeout: "60" };
  const { QueueUrl } = await sqs.createQueue({ QueueName, Attributes }).promise();
  const typed = {
    kind: { DataType: "String", StringValue: "Grüße" },
    raw: { DataType: "Binary", BinaryValue: Buffer.from([0, 255]) },
  };
  const text = '<order id="1">\r\n\t&quot;Grüße\u0085&amp;🎈</order>';
  await sqs
    .sendMessage({ QueueUrl, MessageBody: text, MessageAttributes: typed })
    .promise();
  const received = await sqs
    .receiveMessage({
      QueueUrl,
      WaitTimeSeconds: 5,
      AttributeNames: ["All"],
      MessageAttributeNames: ["All"],
    })
    .promise();
  const [message] = received.Messages;
  assert.equal(message.Body, text);
  assert.equal(message.Attributes.ApproximateReceiveCount, "1");
  assert.equal(message.MessageAttributes.kind.StringValue, "Grüße");
  assert.deepEqual([...message.MessageAttributes.raw.BinaryValue], [0, 255]);
  const { ReceiptHandle } = message;
  const changed = await sqs
    .changeMessageVisibilityBatch({
      QueueUrl,
      Entries: [
        { Id: "good", ReceiptHandle, VisibilityTimeout: 30 },
        { Id: "bad", ReceiptHandle: "nonsense", VisibilityTimeout: 30 },
      ],
    })
    .promise();
  assert.deepEqual(changed.Successful.map((one) => one.Id), ["good"]);
  assert.equal(changed.Failed[0].Code, "ReceiptHandleIsInvalid");
  await sqs.deleteMessage({ QueueUrl, ReceiptHandle }).promise();
  const { Attributes: after } = await sqs
    .getQueueAttributes({ QueueUrl, AttributeNames: ["All"] })
    .promise();
  assert.equal(after.VisibilityTimeout, "60");
  assert.equal(after.ApproximateNumberOfMessagesNotVisible, "0");
  await assert.rejects(sqs.getQueueUrl({ QueueName: `${QueueName}-missing` }).promise(), {
    code: "AWS.SimpleQueueService.NonExistentQueue",
    statusCode: 400,
  });
  console.log("ok");
}
main(...process.argv.slice(2));
