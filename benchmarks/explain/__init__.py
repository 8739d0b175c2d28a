"""Where the time of training steps goes, why, and which setting to change: `xkd bench step --explain`."""
