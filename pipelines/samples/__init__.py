"""Which sample comes when, what takes the place of a damaged one, and what the graph is fed for it."""
