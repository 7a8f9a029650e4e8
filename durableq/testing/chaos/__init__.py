"""Faults on purpose: the demo's processes, killed and stopped while they run; then the accounts.

`run` starts them and lets the `faults` loose; each process writes down in a `ledger`, outside the
file, what it tried and what it was answered; `reading` takes the final file with a plain SQLite
connection; `checker` holds the two against each other. A new kind of fault is a class in
`faults.KINDS`, a new promise a function in `checker.INVARIANTS`.
"""
