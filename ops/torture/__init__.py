"""The torture test: people use the hub while connections and processes are broken, and a checker verifies that nothing is lost."""
