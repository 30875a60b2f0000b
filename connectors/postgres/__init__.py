"""PostgreSQL: records of the historian kept in a database."""
