"""`xkd launch`: the deepspeed command for where it stands, run to its end."""
