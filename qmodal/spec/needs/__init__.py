"""What a container needs of a box, and what a box offers: CPUs, memory, GPUs and regions, as values."""
