//! Transactions, migrations, the Merkle audit log and the outbox, over SQLite and PostgreSQL.
