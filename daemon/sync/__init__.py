"""One cycle: what may have changed, what is stale, read it, work out the keys, write them."""
