"""Integrations with frameworks and services, one module for each; nothing else imports them."""
