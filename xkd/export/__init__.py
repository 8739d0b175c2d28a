"""`xkd export`: encoders of a checkpoint with all that is needed to use them elsewhere."""
