"""What an operator runs: the `hub` command line, benchmarks, the torture checker, decisions."""
