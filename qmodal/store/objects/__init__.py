"""What programs keep by name: dictionaries and queues, with their names and the lives of ephemeral ones."""
