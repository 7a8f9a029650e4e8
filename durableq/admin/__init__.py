"""Looking after a store: status, explanations, doctor, audit, backups."""
