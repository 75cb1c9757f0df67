"""Running a claimed input until it has a result: check it, find its code, run it, interrupt it."""
