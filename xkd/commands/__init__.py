"""The commands of `xkd`, a table a file; what a command needs is imported when it runs."""
