"""What `xkd doctor` looks at before a run does: this machine, or every node of a launch."""
