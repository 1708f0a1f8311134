"""The tools of an operator: the `hub` command line, benchmarks, the torture checker, and the decision pages."""
