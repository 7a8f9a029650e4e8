"""The worker process: receives messages, runs handlers, settles and extends, drains."""
