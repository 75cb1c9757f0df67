"""The output of containers on its way: read from their pipes, freed of credentials, written to logs."""
