"""The one door to Notion, and what comes through it."""
