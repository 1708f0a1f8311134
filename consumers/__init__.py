"""Processing of stored events: handlers, agent runs, and the worker that executes them."""
