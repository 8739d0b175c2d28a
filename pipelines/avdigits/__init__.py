"""AV-Digits: a small audio-visual dataset of real encoded media that is a pure function of (seed, split, index)."""
