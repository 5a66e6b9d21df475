"""The engine: the bundle, the graph that runs it, and the one thread that feeds it. Blocking by nature."""
