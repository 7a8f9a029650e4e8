"""Fault injection: kill and stop the processes of the demo while they run, then check invariants.

`run` starts the processes and injects the `faults`. Each process logs its calls and their answers
in a `ledger`, outside the database. `durableq.demo.reading` reads the final database by its driver
alone. `durableq.demo.checker` compares it with the traffic, and `checker` with the ledgers.

`limited` has the queues with limits. A trigger (`recording`) records their receives in the
database, and `limits_checker` judges them.

A new kind of fault is a class in `injection.KINDS` or `ONCE`, a new promise a function in
`checker.INVARIANTS` or `limits_checker.INVARIANTS`.
"""
