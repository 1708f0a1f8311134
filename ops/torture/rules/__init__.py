"""The promises a history is judged by, a file for each kind of promise. Each rule reads a `History` and writes a `Verdict`."""
