"""From a request to a pool: host labels and paths, class parameters in the query, and how long pools' queues are."""
