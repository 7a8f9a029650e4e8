# Beside the configuration of docs/SQS.md, which has the provider.

variable "prefix" {
  type = string
}
variable "seconds" {
  default = 45
}
variable "stage" {
  default = "test"
}
variable "scope" {
  default = "messageGroup"
}
variable "limit" {
  default = "perMessageGroupId"
}

resource "aws_sqs_queue" "full" {
  name                       = "${var.prefix}-full"
  visibility_timeout_seconds = var.seconds
  delay_seconds              = 3
  max_message_size           = 2048
  message_retention_seconds  = 86400
  receive_wait_time_seconds  = 10
  sqs_managed_sse_enabled    = true
  tags                       = { stage = var.stage, "with space" = "é=1" }
}

resource "aws_sqs_queue_policy" "full" {
  queue_url = aws_sqs_queue.full.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = "*" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.full.arn
      Condition = { ArnEquals = { "aws:SourceArn" = "arn:aws:sns:us-east-1:000000000000:topic" } }
    }]
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "full" {
  queue_url            = aws_sqs_queue.full.id
  redrive_allow_policy = jsonencode({ redrivePermission = "denyAll" })
}

resource "aws_sqs_queue" "steps" {
  name                        = "${var.prefix}-steps.fifo"
  fifo_queue                  = true
  content_based_deduplication = true
  deduplication_scope         = var.scope
  fifo_throughput_limit       = var.limit
}

resource "aws_sqs_queue" "named_by_prefix" {
  name_prefix                       = "${var.prefix}-"
  fifo_queue                        = true
  kms_master_key_id                 = "alias/aws/sqs"
  kms_data_key_reuse_period_seconds = 300
}

resource "aws_sqs_queue" "policed" {
  name = "${var.prefix}-policed"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Deny", Principal = "*", Action = "sqs:*", Resource = "*" }]
  })
}

data "aws_sqs_queue" "found" {
  name = aws_sqs_queue.steps.name
}

data "aws_sqs_queues" "found" {
  depends_on        = [aws_sqs_queue.full]
  queue_name_prefix = "${var.prefix}-full"
}

output "found" {
  value = [data.aws_sqs_queue.found.url, length(data.aws_sqs_queues.found.queue_urls)]
}
