"""Uploads, from a request to a verified file. The rules are pure; modules that use the log or the object store say so."""
