"""The GPUs of a box: which there are, which container has which, and which of them are lost."""
