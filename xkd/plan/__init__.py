"""`xkd plan`: what a run will need of storage, network, memory and time, before it is started."""
