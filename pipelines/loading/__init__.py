"""How batches are made side by side: executors, lanes of pipelines, memory that is used again."""
