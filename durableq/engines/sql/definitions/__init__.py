"""Tables and statements as SQLAlchemy Core: the source of each engine's generated texts.

Core's own execute triples the cost of handling a single message, and its import costs more than
most commands. So only generation, migrations and tests import this package; the operations run the
texts that `generation` compiles of it, for each database.
"""
