"""The one door to Redis: keys, scripts, connections and a method per transition."""
