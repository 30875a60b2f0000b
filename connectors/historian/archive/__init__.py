"""The long-term store: closed segments of columns, rollups of them, and one ledger of what is where."""
