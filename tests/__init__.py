"""The tests: the real parts, over real HTTP and a real Redis."""
