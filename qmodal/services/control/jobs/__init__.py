"""What the control plane runs as rq jobs: signed, from a table of functions, and performed one after another."""
