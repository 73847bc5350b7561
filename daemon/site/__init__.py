"""What the site reads, made from what Notion said: pure functions from pages to keys and values."""
