"""Many inputs of one call: submitted in chunks and packs while their results are read."""
