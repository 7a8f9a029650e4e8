"""The API of an application: queues, deliveries, producers, handlers."""
