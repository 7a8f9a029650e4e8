"""Fault injection: kill and stop the processes of the demo while they run, then check invariants.

`run` starts the processes and injects the `faults`. Each process logs its calls and their answers
in a `ledger`, outside the file. `reading` reads the final file with a plain SQLite connection, and
`checker` compares it with the ledgers. A new kind of fault is a class in
`faults.KINDS`, a new promise a function in `checker.INVARIANTS`.
"""
