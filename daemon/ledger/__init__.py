"""The ledger: what Notion was last seen to be, and what the key-value store should hold and does hold."""
