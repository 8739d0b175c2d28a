"""Where shard sets lie: folders, URLs, commands, and a node's own cache of what is slow to read."""
