"""The control plane: starts the calls of schedules and does chores, as rq jobs; nothing that calls depend on."""
