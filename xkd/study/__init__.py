"""Studies: a grid of pre-trainings and evaluations, row by row and seed by seed, and the table of what came out."""
