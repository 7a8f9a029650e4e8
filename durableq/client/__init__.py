"""The API that an application uses: queues, messages in its hands, producers, handlers."""
