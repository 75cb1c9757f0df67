"""Commands for what programs keep by name: dictionaries, queues and secrets; they never unpickle."""
