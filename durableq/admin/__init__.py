"""Administration of a store: status, explanations, doctor, audit, backups."""
