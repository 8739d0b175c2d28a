"""What is made of a sample: parameters drawn, the DALI graph, and what follows it."""
